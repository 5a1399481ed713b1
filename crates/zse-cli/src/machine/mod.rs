//! What this machine is. Everything is read from where Linux shows it; on other systems most of it
//! is unknown, and said to be.

mod linux;

use serde::Serialize;

pub(crate) use linux::{peak_resident_bytes, resident_bytes};

/// A cache of the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cache {
    /// 1, 2 or 3.
    pub(crate) level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub(crate) kind: String,
    /// Bytes of one.
    pub(crate) bytes: u64,
    /// How many there are.
    pub(crate) count: usize,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Gpu {
    /// As its driver calls it.
    pub(crate) name: String,
    /// Bytes of memory; like what follows, `None` where unknown (in builds without GPUs, always).
    pub(crate) memory: Option<u64>,
    /// Bytes of memory in use.
    pub(crate) used: Option<u64>,
    /// Percent of the time that it worked.
    pub(crate) utilization: Option<u32>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<u32>,
    /// Watts.
    pub(crate) power: Option<u32>,
    /// MHz.
    pub(crate) clock: Option<u32>,
    /// MHz of the memory.
    pub(crate) memory_clock: Option<u32>,
    /// What holds the clocks down.
    pub(crate) throttled: Option<Vec<&'static str>>,
}

/// The GPUs, as their management library shows them; where that does not, as the driver lists them.
#[cfg(feature = "cuda")]
fn gpus() -> Vec<Gpu> {
    let gpus: Vec<_> = zse::gpus()
        .into_iter()
        .map(|gpu| Gpu {
            name: gpu.name,
            memory: gpu.memory.map(|m| m.0),
            used: gpu.memory.map(|m| m.1),
            utilization: gpu.utilization,
            temperature: gpu.temperature,
            power: gpu.power.map(|milliwatts| milliwatts / 1000),
            clock: gpu.clock,
            memory_clock: gpu.memory_clock,
            throttled: gpu.throttled,
        })
        .collect();
    if gpus.is_empty() { linux::gpus() } else { gpus }
}

/// The GPUs, as the driver lists them.
#[cfg(not(feature = "cuda"))]
fn gpus() -> Vec<Gpu> {
    linux::gpus()
}

/// The cuBLASLt that this machine has.
#[cfg(feature = "cuda")]
fn cublas() -> Option<String> {
    zse::cublas()
}

/// Of no use to this build.
#[cfg(not(feature = "cuda"))]
fn cublas() -> Option<String> {
    None
}

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the CPU.
    pub(crate) cpu: String,
    /// Cores; `None` where unknown.
    pub(crate) cores: Option<usize>,
    /// Threads that this process may use.
    pub(crate) threads: usize,
    /// Caches, the first level first.
    pub(crate) caches: Vec<Cache>,
    /// Instruction sets that matter for speed.
    pub(crate) features: Vec<&'static str>,
    /// Instruction set that models run on here.
    pub(crate) isa: &'static str,
    /// Bytes of memory; 0 where unknown.
    pub(crate) memory: u64,
    /// Bytes that can be used now, within the limit that a container may set.
    pub(crate) available: u64,
    /// GPUs.
    pub(crate) gpus: Vec<Gpu>,
    /// The cuBLASLt that multiplies 16-bit matrices on them, where there is one.
    pub(crate) cublas: Option<String>,
    /// Operating system and architecture.
    pub(crate) system: String,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Self {
        let memory = zse::system_memory().unwrap_or_default();
        Self {
            cpu: linux::cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            cores: linux::cores(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            caches: linux::caches(),
            features: features()
                .into_iter()
                .filter_map(|(name, has)| has.then_some(name))
                .collect(),
            isa: zse::Isa::available()[0].name(),
            memory: memory.total,
            available: memory.available,
            gpus: gpus(),
            cublas: cublas(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// The instruction sets that matter, and whether this CPU has them.
#[cfg(target_arch = "x86_64")]
fn features() -> [(&'static str, bool); 12] {
    [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx-vnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512-vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512-bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512-fp16", is_x86_feature_detected!("avx512fp16")),
        ("amx", zse::Isa::available().contains(&zse::Isa::Amx)),
    ]
}

/// The instruction sets that matter, and whether this CPU has them.
#[cfg(target_arch = "aarch64")]
fn features() -> [(&'static str, bool); 7] {
    use std::arch::is_aarch64_feature_detected as has;
    [
        ("neon", has!("neon")),
        ("fp16", has!("fp16")),
        ("dotprod", has!("dotprod")),
        ("i8mm", has!("i8mm")),
        ("bf16", has!("bf16")),
        ("sve", has!("sve")),
        ("sve2", has!("sve2")),
    ]
}

/// The instruction sets that matter, and whether this CPU has them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> [(&'static str, bool); 0] {
    []
}
