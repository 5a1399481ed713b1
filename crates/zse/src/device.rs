//! Where a model runs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zse_cpu::{CpuBackend, Isa, Peaks};
use zse_engine::Rebuild;
use zse_model::Model;
use zse_model::executor::{Backend, Budget, MemoryReport};
#[cfg(feature = "cuda")]
use zse_model::executor::{Executor, LoadError};
use zse_model::reference::Reference;

use crate::{Error, LoadOptions, WeightKind, system_memory};

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best there is: the first GPU, in a build for GPUs and where one can be used, or the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CPU under one of its instruction sets, to compare them.
    CpuIsa(Isa),
    /// The NVIDIA GPU of this number, as CUDA counts them.
    Cuda(usize),
    /// The slow executor that defines what is right; for debugging and for small models.
    Reference,
}

impl Device {
    /// The backend of this device.
    ///
    /// # Errors
    /// If there is no such device, or this build cannot use it.
    pub fn backend(self) -> Result<Box<dyn Backend>, Error> {
        self.backend_with(WeightKind::Stored)
    }

    /// The same, that makes matrices into `weights`.
    ///
    /// # Errors
    /// As [`backend`](Self::backend), and if it cannot do that.
    pub fn backend_with(self, weights: WeightKind) -> Result<Box<dyn Backend>, Error> {
        self.backend_for(weights, false)
    }

    /// The same, whose logits do not depend on the batch with `deterministic`: on CPUs they never do.
    pub(crate) fn backend_for(
        self,
        weights: WeightKind,
        deterministic: bool,
    ) -> Result<Box<dyn Backend>, Error> {
        let device = self.resolved();
        match device {
            Self::Cuda(number) => cuda(number, weights, deterministic),
            _ if weights == WeightKind::Fp8 => Err(Error::Device {
                name: device.to_string(),
                why: "FP8 weights (--weights fp8) are made on GPUs only (--device cuda)".to_owned(),
            }),
            Self::Auto | Self::Cpu => Ok(Box::new(CpuBackend::default())),
            Self::CpuIsa(isa) => Ok(Box::new(CpuBackend { isa: Some(isa) })),
            Self::Reference => Ok(Box::new(Reference)),
        }
    }
}

impl Device {
    /// What `auto` stands for on this machine: the first GPU that this build can use, or the CPU.
    /// Other devices stand for themselves.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            #[cfg(feature = "cuda")]
            Self::Auto if zse_cuda::CudaBackend::find(0).is_ok() => Self::Cuda(0),
            Self::Auto => Self::Cpu,
            device => device,
        }
    }

    /// Tokens of a forward pass that this device computes well: a GPU wants many at once.
    pub fn batch_tokens(self) -> usize {
        match self.resolved() {
            Self::Cuda(_) => 2048,
            Self::Auto | Self::Cpu | Self::CpuIsa(_) | Self::Reference => {
                LoadOptions::default().batch_tokens
            }
        }
    }

    /// Bytes that models can take beside what is in use, where that is known: of this GPU, or of the machine.
    pub fn available(self) -> Option<u64> {
        let of_gpu = || self.backend().ok()?.available().ok()?;
        let of_machine = || system_memory().map(|memory| memory.available);
        self.resolved().available_of(of_gpu, of_machine)
    }

    /// The same of a device that is resolved, by what a GPU and the machine have.
    fn available_of(
        self,
        gpu: impl FnOnce() -> Option<u64>,
        machine: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        match self {
            Self::Cuda(_) => gpu(),
            Self::Auto | Self::Cpu | Self::CpuIsa(_) | Self::Reference => machine(),
        }
    }

    /// Bytes of a plan that this device holds itself. Those of a GPU that are in a file stay in the
    /// machine's memory (tables of embeddings).
    pub fn holds(self, report: &MemoryReport) -> u64 {
        match self.resolved() {
            Self::Cuda(_) => report.total().saturating_sub(report.mapped),
            Self::Auto | Self::Cpu | Self::CpuIsa(_) | Self::Reference => report.total(),
        }
    }

    /// What a GPU's driver takes on it for a process: its context, and the code of kernels in use. As an H200
    /// shows it; `None` of other devices.
    pub fn own_memory(self) -> Option<u64> {
        match self.resolved() {
            Self::Cuda(_) => Some(545 << 20),
            Self::Auto | Self::Cpu | Self::CpuIsa(_) | Self::Reference => None,
        }
    }

    /// What the processor does at most, measured in less than a second on `threads` (`None`: as many
    /// as the process may use); `None` of GPUs, or where there is too little memory to read from.
    pub fn peaks(self, threads: Option<usize>) -> Option<Peaks> {
        let isa = match self.resolved() {
            Self::CpuIsa(isa) => Some(isa),
            Self::Auto | Self::Cpu | Self::Reference => None,
            // What the CPU can do bounds no GPU.
            Self::Cuda(_) => return None,
        };
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        Peaks::measure(threads.unwrap_or_else(all), isa)
    }
}

impl LoadOptions {
    /// What makes the executor of `model` anew where its GPU has failed; `None` of devices that do not fail so.
    #[cfg(feature = "cuda")]
    pub(crate) fn rebuild(&self, model: &Arc<Model>, budget: &Budget) -> Option<Box<dyn Rebuild>> {
        let Device::Cuda(number) = self.device.resolved() else {
            return None;
        };
        let watch = zse_cuda::CudaBackend::open(number).ok()?.watch();
        Some(Box::new(Reload {
            number,
            watch,
            options: self.clone(),
            model: Arc::clone(model),
            budget: budget.clone(),
        }))
    }

    /// What makes the executor of a model anew: none, without GPUs.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn rebuild(&self, _: &Arc<Model>, _: &Budget) -> Option<Box<dyn Rebuild>> {
        None
    }
}

/// How a process stands with its GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuState {
    /// None has failed, or it was set up again since.
    #[default]
    Sound,
    /// One has failed, and models are not loaded onto it again yet.
    Failed,
    /// One has failed, and its driver gives this process no new context: only another process can use it.
    Broken,
}

/// How this process stands with its GPUs; always sound in a build for CPUs.
#[must_use]
pub fn gpu_state() -> GpuState {
    #[cfg(feature = "cuda")]
    match (zse_cuda::is_broken(), zse_cuda::is_failed()) {
        (true, _) => return GpuState::Broken,
        (false, true) => return GpuState::Failed,
        (false, false) => {}
    }
    GpuState::Sound
}

/// Loads a model onto a GPU again.
#[cfg(feature = "cuda")]
struct Reload {
    number: usize,
    watch: zse_cuda::Watch,
    options: LoadOptions,
    model: Arc<Model>,
    budget: Budget,
}

#[cfg(feature = "cuda")]
impl Rebuild for Reload {
    fn is_lost(&self) -> bool {
        self.watch.is_lost()
    }

    fn rebuild(&mut self) -> Result<Box<dyn Executor>, LoadError> {
        let failed = |error: Error| LoadError::Device(error.to_string());
        let backend = self.options.backend().map_err(failed)?;
        let gpu = zse_cuda::CudaBackend::open(self.number)?;
        self.watch = gpu.watch();
        backend.compile(Arc::clone(&self.model), &self.budget)
    }
}

/// Why a GPU cannot be used in a build without the feature `cuda`.
const CPU_ONLY: &str =
    "this build runs on the CPU; build with `--features cuda`, or give `auto` or `cpu`";

/// The backend of a GPU.
#[cfg(feature = "cuda")]
fn cuda(
    number: usize,
    weights: WeightKind,
    deterministic: bool,
) -> Result<Box<dyn Backend>, Error> {
    let mut backend = zse_cuda::CudaBackend::open(number)?;
    if deterministic {
        backend = backend.deterministic();
    }
    Ok(Box::new(match weights {
        WeightKind::Stored => backend,
        WeightKind::Fp8 => backend.with_fp8_weights(),
    }))
}

/// The backend of a GPU.
#[cfg(not(feature = "cuda"))]
fn cuda(number: usize, _: WeightKind, _: bool) -> Result<Box<dyn Backend>, Error> {
    Err(Error::Device {
        name: Device::Cuda(number).to_string(),
        why: CPU_ONLY.to_owned(),
    })
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some(isa) = name.strip_prefix("cpu:") {
            return isa.parse().map(Self::CpuIsa).map_err(|why| Error::Device {
                name: name.to_owned(),
                why,
            });
        }
        let number = name.strip_prefix("cuda:").map(str::parse);
        let why = match (name, number) {
            ("auto", _) => return Ok(Self::Auto),
            ("cpu", _) => return Ok(Self::Cpu),
            ("reference", _) => return Ok(Self::Reference),
            ("cuda", _) | (_, Some(Ok(_))) if !cfg!(feature = "cuda") => CPU_ONLY,
            ("cuda", _) => return Ok(Self::Cuda(0)),
            (_, Some(Ok(number))) => return Ok(Self::Cuda(number)),
            _ => {
                "known are `auto`, `cpu`, `cpu:avx2` and the like, `cuda`, `cuda:1` and so on, and `reference`"
            }
        };
        Err(Error::Device {
            name: name.to_owned(),
            why: why.to_owned(),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::CpuIsa(isa) => write!(f, "cpu:{isa}"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Reference => f.write_str("reference"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Auto, Device::Cpu, Device::Reference] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        for device in [Device::Cuda(0), Device::Cuda(12)] {
            let read = device.to_string().parse::<Device>();
            assert_eq!(read.ok(), cfg!(feature = "cuda").then_some(device));
        }
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda1"] {
            assert!(name.parse::<Device>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_gpus_memory_is_its_own() {
        let available = |device: Device| device.available_of(|| Some(8), || Some(64));
        assert_eq!(available(Device::Cuda(0)), Some(8));
        assert_eq!(available(Device::Cpu), Some(64));
        // One that cannot be asked is not taken for the machine.
        assert_eq!(Device::Cuda(1).available_of(|| None, || Some(64)), None);
        let plan = MemoryReport {
            weights: 1000,
            mapped: 200,
            kv: 30,
            activations: 4,
        };
        assert_eq!(Device::Cuda(0).holds(&plan), plan.total() - 200);
        assert_eq!(Device::Cpu.holds(&plan), plan.total());
    }
}
