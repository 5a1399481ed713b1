//! Prepares models for a GPU.

use std::sync::Arc;

use zse_model::Model;
use zse_model::executor::{Backend, Budget, Caps, Executor, KvType, LoadError, MemoryReport};

use crate::device::{Context, Device, Found, Watch};
use crate::error::CudaError;
use crate::executor::{CudaExecutor, RESERVE, Target, report};
use crate::weights::quantized_type;

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
    kernels: Kernels,
    fp8: bool,
    deterministic: bool,
    name: String,
}

/// Which kernels an executor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// Those that every card can run, on a card that has better ones too.
    pub portable: bool,
    /// cuBLASLt, for the products that it is faster at, where this machine has it.
    pub cublas: bool,
}

impl Default for Kernels {
    fn default() -> Self {
        Self {
            portable: false,
            cublas: true,
        }
    }
}

impl Kernels {
    /// All there are, to compare them.
    pub const ALL: [Self; 4] = [
        Self {
            portable: false,
            cublas: true,
        },
        Self {
            portable: false,
            cublas: false,
        },
        Self {
            portable: true,
            cublas: true,
        },
        Self {
            portable: true,
            cublas: false,
        },
    ];
}

impl CudaBackend {
    /// The environment variable that, set to anything but `0`, makes [`open`](Self::open) take the
    /// kernels that every card can run, to test them on a card that has better ones.
    pub const PORTABLE: &str = "ZSE_CUDA_PORTABLE";

    /// The environment variable that, set to `0`, makes [`open`](Self::open) do without cuBLASLt.
    pub const CUBLAS: &str = "ZSE_CUDA_CUBLAS";

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
        let cublas = std::env::var_os(Self::CUBLAS).is_none_or(|v| v != "0");
        Self::with(ordinal, Kernels { portable, cublas })
    }

    /// GPU `ordinal` with some of the kernels there are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with(ordinal: usize, kernels: Kernels) -> Result<Self, CudaError> {
        let context = Context::open(ordinal)?;
        let portable = if kernels.portable {
            ", portable kernels"
        } else {
            ""
        };
        Ok(Self {
            kernels,
            fp8: false,
            deterministic: false,
            name: format!("cuda:{ordinal} ({}{portable})", context.name),
            context,
        })
    }

    /// The same, that makes FP8 (E4M3, with one scale a row) of a model's F32, F16 and BF16 matrices when it loads them:
    /// of all that multiply activations, but for tables of embeddings, experts of mixtures and what chooses them, and
    /// matrices whose rows are no multiple of 32 long. A model with quantized matrices is refused.
    #[must_use]
    pub fn with_fp8_weights(self) -> Self {
        Self { fp8: true, ..self }
    }

    /// The same, with executors whose logits do not depend on what else is in a batch, how prompts are cut into chunks,
    /// or what was found in a cache: bit by bit. Each token's sums are made as if it were alone, which costs little for
    /// one sequence and much for prompts and many (docs/gpu.md).
    #[must_use]
    pub fn deterministic(self) -> Self {
        Self {
            deterministic: true,
            ..self
        }
    }

    /// Tells when what it compiles is lost, because the GPU failed. A backend that is opened then can compile again.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.context.health))
    }

    /// Refuses what cannot become FP8.
    fn check(&self, model: &Model) -> Result<(), LoadError> {
        match quantized_type(model).filter(|_| self.fp8) {
            None => Ok(()),
            Some(ty) => Err(LoadError::Unsupported {
                device: self.name.clone(),
                what: format!(
                    "FP8 weights (--weights fp8) are made of F32, F16 or BF16, but it has matrices in {}; load \
                     it as it is",
                    ty.name()
                ),
            }),
        }
    }

    /// What a model is planned for.
    fn target(&self) -> Target {
        Target {
            is_hopper: self.context.is_hopper && !self.kernels.portable,
            cublas: self.kernels.cublas,
            fp8: self.fp8,
            deterministic: self.deterministic,
        }
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
        self.check(model)?;
        report(model, budget, &self.name, self.target())
    }

    fn available(&self) -> Result<Option<u64>, LoadError> {
        Ok(Some(self.context.free()?.saturating_sub(RESERVE)))
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        self.caps().check(budget)?;
        self.check(&model)?;
        let device = Device::new(&self.context, self.kernels.portable)?;
        Ok(Box::new(CudaExecutor::new(
            model,
            budget,
            device,
            (&self.name, self.target()),
        )?))
    }
}
