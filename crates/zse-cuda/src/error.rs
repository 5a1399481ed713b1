//! What can go wrong with a GPU, and what helps.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;
use zse_model::executor::{ExecError, LoadError};

/// Why a GPU cannot be used, or what it failed at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver.
    #[error(
        "no NVIDIA driver was found (libcuda.so): install the driver, start the container with its GPUs, \
         or run on the CPU (--device cpu)"
    )]
    NoDriver,
    /// There is no such GPU.
    #[error("there is no GPU {ordinal}: {}", match count {
        0 => "the driver shows none; see CUDA_VISIBLE_DEVICES".to_owned(),
        1 => "the driver shows one, number 0".to_owned(),
        n => format!("the driver shows {n}, numbered from 0"),
    })]
    NoDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is too old.
    #[error(
        "{name} has compute capability {major}.{minor}, but 8.0 or above is needed; run on the CPU (--device cpu)"
    )]
    TooOld {
        /// The GPU's name.
        name: String,
        /// Its compute capability.
        major: i32,
        /// The same.
        minor: i32,
    },
    /// The driver is older than the kernels.
    #[error("the NVIDIA driver is for CUDA {}.{}, but 13.0 or later is needed: update the driver", version / 1000, version % 1000 / 10)]
    OldDriver {
        /// CUDA's version of the driver, such as 12040.
        version: i32,
    },
    /// A call of the driver failed.
    #[error("{call} failed: {name} ({what})")]
    Driver {
        /// The call.
        call: &'static str,
        /// The error's name.
        name: String,
        /// What it means.
        what: String,
    },
    /// The context failed for good, before this call.
    #[error(
        "the GPU failed before, and all that was in its memory is lost: models have to be loaded again"
    )]
    Lost,
    /// The context failed for good, and the driver gives this process no other.
    #[error(
        "the GPU failed, and after such a fault its driver gives this program no new context ({0}): start the \
         program again"
    )]
    Broken(String),
    /// A call of cuBLASLt failed.
    #[error("{call} failed: status {status}")]
    Library {
        /// The call.
        call: &'static str,
        /// A `cublasStatus_t`.
        status: i32,
    },
    /// The memory of the GPU does not suffice.
    #[error("the GPU has {available} bytes free, but {what} need {needed}")]
    OutOfMemory {
        /// For what.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The host has no memory for what stays there, or weights cannot be read from their file.
    #[error("{what}: {source}")]
    Host {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The library lacks a kernel.
    #[error("there is no kernel '{0}'")]
    NoKernel(String),
}

/// Turns the result of a driver's call into one that names it.
pub(crate) trait Named<T> {
    fn named(self, call: &'static str) -> Result<T, CudaError>;
}

impl<T> Named<T> for Result<T, DriverError> {
    fn named(self, call: &'static str) -> Result<T, CudaError> {
        self.map_err(|error| {
            let text = |s: Result<&std::ffi::CStr, DriverError>| {
                s.map_or("unknown".to_owned(), |s| s.to_string_lossy().into_owned())
            };
            CudaError::Driver {
                call,
                name: text(error.error_name()),
                what: text(error.error_string()),
            }
        })
    }
}

impl Named<()> for CUresult {
    fn named(self, call: &'static str) -> Result<(), CudaError> {
        self.result().named(call)
    }
}

impl From<CudaError> for LoadError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::OutOfMemory {
                what,
                needed,
                available,
            } => Self::OutOfMemory {
                what,
                needed,
                available: Some(available),
            },
            other => Self::Device(other.to_string()),
        }
    }
}

impl From<CudaError> for ExecError {
    fn from(error: CudaError) -> Self {
        Self::Device(error.to_string())
    }
}
