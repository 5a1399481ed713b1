//! Prepares models for a GPU.

use std::sync::Arc;

use zse_model::Model;
use zse_model::executor::{Backend, Budget, Caps, Executor, KvType, LoadError, MemoryReport};

use crate::device::{Context, Device, Found};
use crate::error::CudaError;
use crate::executor::{CudaExecutor, RESERVE, report};

/// A GPU.
///
/// ```no_run
/// use zse_cuda::CudaBackend;
/// use zse_model::executor::Backend;
///
/// let backend = CudaBackend::open(0)?;
/// println!("{}", backend.caps().name);
/// # Ok::<(), zse_cuda::CudaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CudaBackend {
    context: Arc<Context>,
    portable: bool,
    name: String,
}

impl CudaBackend {
    /// The environment variable that, set to anything but `0`, makes [`open`](Self::open) take the
    /// kernels that every card can run, to test them on a card that has better ones.
    pub const PORTABLE: &str = "ZSE_CUDA_PORTABLE";

    /// Whether GPU `ordinal` can be opened. Quick: nothing is set up on it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find(ordinal: usize) -> Result<(), CudaError> {
        Found::new(ordinal).map(drop)
    }

    /// GPU `ordinal`, as CUDA counts them.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or one that is too old.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        let portable = std::env::var_os(Self::PORTABLE).is_some_and(|v| v != "0");
        Self::with(ordinal, portable)
    }

    /// GPU `ordinal` with the kernels that every card can run, or with the best there are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with(ordinal: usize, portable: bool) -> Result<Self, CudaError> {
        let context = Context::open(ordinal)?;
        let kernels = if portable { ", portable kernels" } else { "" };
        Ok(Self {
            portable,
            name: format!("cuda:{ordinal} ({}{kernels})", context.name),
            context,
        })
    }
}

impl Backend for CudaBackend {
    fn caps(&self) -> Caps {
        Caps {
            name: self.name.clone(),
            kv_types: KvType::ALL.to_vec(),
        }
    }

    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError> {
        self.caps().check(budget)?;
        let is_hopper = self.context.is_hopper && !self.portable;
        report(model, budget, &self.name, is_hopper)
    }

    fn available(&self) -> Result<Option<u64>, LoadError> {
        Ok(Some(self.context.free()?.saturating_sub(RESERVE)))
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        self.caps().check(budget)?;
        let device = Device::new(&self.context, self.portable)?;
        Ok(Box::new(CudaExecutor::new(
            model, budget, device, &self.name,
        )?))
    }
}
