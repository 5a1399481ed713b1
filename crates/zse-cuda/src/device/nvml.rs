//! The GPUs of this machine as their management library (NVML) shows them; no context is made.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

/// A GPU and how it is doing. What the library does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Bytes of memory, and of them in use.
    pub memory: Option<(u64, u64)>,
    /// Percent of the time that kernels ran in.
    pub utilization: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// MHz of the multiprocessors.
    pub clock: Option<u32>,
    /// Compute capability.
    pub capability: Option<(i32, i32)>,
}

/// All GPUs; none without a driver.
pub fn gpus() -> Vec<Gpu> {
    let Ok(nvml) = Nvml::init() else {
        return Vec::new();
    };
    let count = nvml.device_count().unwrap_or(0);
    (0..count)
        .filter_map(|i| nvml.device_by_index(i).ok())
        .map(|device| Gpu {
            name: device.name().unwrap_or_else(|_| "unknown GPU".to_owned()),
            memory: device.memory_info().ok().map(|m| (m.total, m.used)),
            utilization: device.utilization_rates().ok().map(|u| u.gpu),
            temperature: device.temperature(TemperatureSensor::Gpu).ok(),
            power: device.power_usage().ok(),
            clock: device.clock_info(Clock::SM).ok(),
            capability: device
                .cuda_compute_capability()
                .ok()
                .map(|c| (c.major, c.minor)),
        })
        .collect()
}
