//! The GPUs of this machine as their management library (NVML) shows them; no context is made.

use std::sync::OnceLock;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::Found;

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
    /// MHz of the memory.
    pub memory_clock: Option<u32>,
    /// What holds the clocks down, such as `power cap`; idling does not count.
    pub throttled: Option<Vec<&'static str>>,
    /// Millijoules since the driver was loaded.
    pub energy: Option<u64>,
    /// Compute capability.
    pub capability: Option<(i32, i32)>,
}

/// What holds clocks down, by its name here.
const REASONS: [(ThrottleReasons, &str); 8] = [
    (ThrottleReasons::SW_POWER_CAP, "power cap"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "temperature"),
    (
        ThrottleReasons::HW_THERMAL_SLOWDOWN,
        "temperature (hardware)",
    ),
    (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
    (
        ThrottleReasons::APPLICATIONS_CLOCKS_SETTING,
        "clock setting",
    ),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display clock"),
    (ThrottleReasons::SYNC_BOOST, "sync boost"),
];

/// The library, opened once; `None` without a driver.
fn library() -> Option<&'static Nvml> {
    static LIBRARY: OnceLock<Option<Nvml>> = OnceLock::new();
    LIBRARY.get_or_init(|| Nvml::init().ok()).as_ref()
}

/// All GPUs; none without a driver.
pub fn gpus() -> Vec<Gpu> {
    let Some(nvml) = library() else {
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
            memory_clock: device.clock_info(Clock::Memory).ok(),
            throttled: device.current_throttle_reasons().ok().map(named),
            energy: device.total_energy_consumption().ok(),
            capability: device
                .cuda_compute_capability()
                .ok()
                .map(|c| (c.major, c.minor)),
        })
        .collect()
}

/// Millijoules that GPU `ordinal`, as CUDA counts them, took since the driver was loaded.
pub fn energy(ordinal: usize) -> Option<u64> {
    // The library counts all GPUs, CUDA those of `CUDA_VISIBLE_DEVICES`, and in its own order.
    let address = Found::new(ordinal).ok()?.address().ok()?;
    let device = library()?.device_by_pci_bus_id(address).ok()?;
    device.total_energy_consumption().ok()
}

/// The names of reasons.
fn named(reasons: ThrottleReasons) -> Vec<&'static str> {
    let has = |(reason, name): &(ThrottleReasons, &'static str)| {
        reasons.contains(*reason).then_some(*name)
    };
    REASONS.iter().filter_map(has).collect()
}
