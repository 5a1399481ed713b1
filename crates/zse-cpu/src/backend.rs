//! Prepares models for the CPU.

use std::sync::Arc;

use zse_model::Model;
use zse_model::executor::{Backend, Budget, Caps, Executor, KvType, LoadError};

use crate::executor::CpuExecutor;
use crate::isa::{Arch, Isa};

/// The CPU.
///
/// ```
/// use zse_cpu::{CpuBackend, Isa};
/// use zse_model::executor::Backend;
///
/// let best = CpuBackend::default();
/// let scalar = CpuBackend { isa: Some(Isa::Scalar) };
/// assert_eq!(scalar.caps().name, "cpu (scalar)");
/// assert_eq!(best.isa(), Isa::available()[0]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend {
    /// The instruction set to use; `None`: the best there is. All of them give the same bits.
    pub isa: Option<Isa>,
}

impl CpuBackend {
    /// The instruction set that models are compiled for.
    pub fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(|| Isa::available()[0])
    }
}

impl Backend for CpuBackend {
    fn caps(&self) -> Caps {
        Caps {
            name: format!("cpu ({})", self.isa()),
            kv_types: KvType::ALL.to_vec(),
        }
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        let Some(arch) = Arch::of(self.isa()) else {
            return Err(LoadError::Unsupported {
                device: self.caps().name,
                what: format!("this CPU has no {}", self.isa()),
            });
        };
        Ok(Box::new(CpuExecutor::new(model, budget, arch)?))
    }
}
