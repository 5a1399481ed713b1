//! `/api/stats/gpu`: how the GPUs are doing.

use axum::response::Response;
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::NoParameters;
use crate::routes::json;

#[derive(Serialize, ToSchema)]
struct GpusStats {
    gpus: Vec<GpuStats>,
}

/// A GPU; what its driver does not say is null.
#[derive(Serialize, ToSchema)]
struct GpuStats {
    name: String,
    /// Bytes.
    memory: Option<u64>,
    memory_used: Option<u64>,
    /// Of the time, that kernels ran in.
    utilization_percent: Option<u32>,
    temperature_celsius: Option<u32>,
    power_watts: Option<f64>,
    /// Since its driver was loaded.
    energy_joules: Option<f64>,
    clock_mhz: Option<u32>,
    memory_clock_mhz: Option<u32>,
    /// What holds the clocks down, such as `power cap` or `temperature`.
    throttled_by: Option<Vec<&'static str>>,
}

/// The GPUs, as their management library shows them.
#[cfg(feature = "cuda")]
fn gpus() -> Vec<GpuStats> {
    let thousandths = |n: u64| n as f64 / 1e3;
    let stats = |gpu: zse::Gpu| GpuStats {
        name: gpu.name,
        memory: gpu.memory.map(|(all, _)| all),
        memory_used: gpu.memory.map(|(_, used)| used),
        utilization_percent: gpu.utilization,
        temperature_celsius: gpu.temperature,
        power_watts: gpu.power.map(|power| thousandths(power.into())),
        energy_joules: gpu.energy.map(thousandths),
        clock_mhz: gpu.clock,
        memory_clock_mhz: gpu.memory_clock,
        throttled_by: gpu.throttled,
    };
    zse::gpus().into_iter().map(stats).collect()
}

/// None: this build runs nothing on GPUs.
#[cfg(not(feature = "cuda"))]
fn gpus() -> Vec<GpuStats> {
    Vec::new()
}

/// How the GPUs are doing
///
/// Memory, load, temperature, power, clocks and what holds them down. Empty on machines without an NVIDIA GPU, and in
/// builds that use none.
#[utoipa::path(
    get,
    path = "/api/stats/gpu",
    tag = "Server",
    responses((status = 200, body = GpusStats)),
)]
pub(super) async fn get(_: NoParameters) -> Response {
    // The driver is asked, which can take some milliseconds.
    let gpus = spawn_blocking(gpus).await.unwrap_or_default();
    json(&GpusStats { gpus })
}
