//! Prepares models for the CPU.

use std::sync::Arc;

use zse_model::Model;
use zse_model::executor::{Backend, Budget, Caps, Executor, KvType, LoadError, MemoryReport};

use crate::executor::{CpuExecutor, plan};
use crate::isa::{Arch, Isa};
use crate::memory::system_memory;

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

    fn arch(&self) -> Result<Arch, LoadError> {
        Arch::of(self.isa()).ok_or_else(|| LoadError::Unsupported {
            device: self.caps().name,
            what: format!("this CPU has no {}", self.isa()),
        })
    }
}

impl Backend for CpuBackend {
    fn caps(&self) -> Caps {
        Caps {
            name: format!("cpu ({})", self.isa()),
            kv_types: KvType::ALL.to_vec(),
        }
    }

    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError> {
        self.arch()?;
        self.caps().check(budget)?;
        plan(model, budget, available(budget))
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        self.caps().check(budget)?;
        let executor = CpuExecutor::new(model, budget, self.arch()?, available(budget))?;
        Ok(Box::new(executor))
    }
}

/// Bytes that may still be used; `None` where neither `budget` nor the system says.
fn available(budget: &Budget) -> Option<u64> {
    let system = || system_memory().map(|memory| memory.available);
    budget.memory.or_else(system)
}
