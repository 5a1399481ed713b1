//! How a model is loaded.

use std::sync::Arc;

use zse_engine::{EngineConfig, SwapConfig};
use zse_format::Checkpoint;
use zse_model::executor::{Backend, Budget, Fuse, KvType, MemoryReport, Staged};
use zse_model::{Model, ModelOptions};

use crate::adapters;
use crate::{AdapterSource, Device, Error, ModelSource, WeightKind};

/// How a model is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// Layers of a model that a GPU takes, counted from the last; those before are the CPU's. `None`: all, or
    /// as many as fit.
    pub gpu_layers: Option<usize>,
    /// Threads; `None`: as many as the process may use.
    pub threads: Option<usize>,
    /// Tokens that a sequence may grow to; `None`: what the model was made for, but at most
    /// [`LoadOptions::CONTEXT`], because all of it is set aside at once.
    pub context: Option<usize>,
    /// What matrices are made into.
    pub weights: WeightKind,
    /// Whether what a request gets may not depend, in the last bits, on what else runs: on GPUs, where it costs speed
    /// (docs/gpu.md). On CPUs it never does.
    pub deterministic: bool,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Sequences of `context` tokens that are kept at the same time.
    pub sequences: usize,
    /// Most requests that may wait for their first step; more are refused
    /// ([`Error::retry_after`]).
    pub max_waiting: usize,
    /// Most tokens of a forward pass: long prompts are computed in chunks of this size.
    pub batch_tokens: usize,
    /// Fusion.
    pub fuse: Fuse,
    /// Most bytes that the model may take; `None`: what the system has available. Weights that a
    /// CPU has no room for beside keys and values stay in the file.
    pub memory_limit: Option<u64>,
    /// Where keys and values of earlier requests go when their room is needed; by default they are
    /// forgotten.
    pub swap: SwapConfig,
    /// Adapters (LoRA) that are loaded beside the model; requests use them as
    /// [`Engine::with_adapters`](crate::Engine::with_adapters) says.
    pub adapters: Vec<AdapterSource>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::default(),
            gpu_layers: None,
            threads: None,
            context: None,
            weights: WeightKind::default(),
            deterministic: false,
            kv_type: KvType::default(),
            sequences: 1,
            max_waiting: EngineConfig::default().max_waiting,
            batch_tokens: 512,
            fuse: Fuse::default(),
            memory_limit: None,
            swap: SwapConfig::default(),
            adapters: Vec::new(),
        }
    }
}

/// Least outputs of a step that a GPU has room for.
const GPU_OUTPUTS: usize = 64;

impl LoadOptions {
    /// The context where none is asked for and the model's own is longer.
    pub const CONTEXT: usize = 4096;

    /// The context that the model of `source` was made for.
    ///
    /// # Errors
    /// If the model cannot be opened, or does not say.
    pub fn trained_context(source: &ModelSource) -> Result<usize, Error> {
        let checkpoint = source.open()?;
        let metadata = checkpoint.metadata();
        let architecture = metadata.require_str("general.architecture")?;
        Ok(metadata.require_u32(&format!("{architecture}.context_length"))? as usize)
    }

    /// The backend: of a GPU with the CPU for what has no room there.
    ///
    /// # Errors
    /// If there is no such device, this build cannot use it, or layers or weights are for a GPU and it is none.
    pub fn backend(&self) -> Result<Box<dyn Backend>, Error> {
        let backend = self.device.backend_for(self.weights, self.deterministic)?;
        match (self.device.resolved(), self.gpu_layers) {
            (device @ Device::Cuda(_), Some(0)) if self.weights == WeightKind::Fp8 => {
                Err(Error::Device {
                    name: device.to_string(),
                    why: "FP8 weights are made on GPUs only, and no layers are for it (--gpu-layers 0)"
                        .to_owned(),
                })
            }
            (Device::Cuda(_), layers) => {
                let front = Device::Cpu.backend()?;
                Ok(Box::new(Staged::new(front, backend, layers)))
            }
            (_, None | Some(0)) => Ok(backend),
            (device, Some(layers)) => Err(Error::Device {
                name: device.to_string(),
                why: format!("it is no GPU that could take {layers} layers"),
            }),
        }
    }

    /// Bytes that models can take beside those that are loaded, where that is known: of the GPU that they run
    /// on, or of the machine.
    pub fn available(&self) -> Option<u64> {
        self.device.available()
    }

    /// Whether a model that its device has no room for is shared with another.
    pub fn is_shared(&self) -> bool {
        self.gpu_layers.is_none() && matches!(self.device.resolved(), Device::Cuda(_))
    }

    /// Builds the program of `checkpoint` for this context.
    ///
    /// # Errors
    /// If the architecture is unknown, or the file does not hold what it needs.
    pub fn model(&self, checkpoint: Arc<Checkpoint>) -> Result<Arc<Model>, Error> {
        let file = checkpoint.metadata().file().to_owned();
        let load = |context| {
            Model::load(Arc::clone(&checkpoint), &ModelOptions { context }).map_err(|source| {
                Error::Model {
                    file: file.clone(),
                    source,
                }
            })
        };
        let model = load(self.context)?;
        // Some models rotate differently for long contexts, so the one chosen must be known.
        match self.context {
            None if model.info.context > Self::CONTEXT => Ok(Arc::new(load(Some(Self::CONTEXT))?)),
            _ => Ok(Arc::new(model)),
        }
    }

    /// What the executor of `model` may use.
    pub fn budget(&self, model: &Model) -> Budget {
        // A model that sees tokens ahead needs its whole prompt in one pass.
        let batch_tokens = match model.program.is_causal() {
            // No prompt is longer than the context.
            true => self
                .batch_tokens
                .max(self.sequences)
                .min(model.info.context.saturating_mul(self.sequences)),
            false => model.info.context,
        };
        let budget = Budget::for_context(model.info.context, self.sequences, batch_tokens);
        let max_outputs = match self.device.resolved() {
            // Room for all outputs is taken at once. Few are wanted in most steps; a request that wants
            // more gets them step by step.
            Device::Cuda(_) => budget.max_outputs.min(self.sequences.max(GPU_OUTPUTS)),
            _ => budget.max_outputs,
        };
        Budget {
            max_outputs,
            kv_type: self.kv_type,
            threads: self.threads,
            fuse: self.fuse,
            // What is swapped is not the executor's.
            memory: (self.memory_limit).map(|limit| limit.saturating_sub(self.swap.peak_memory())),
            ..budget
        }
    }

    /// Bytes of `report` that must be in memory: of weights that stay in the file, the system keeps
    /// what [`memory_limit`](Self::memory_limit) leaves room for.
    pub fn resident(&self, report: &MemoryReport) -> u64 {
        let (total, held) = (report.total(), report.total() - report.mapped);
        self.memory_limit
            .map_or(total, |limit| total.min(limit.max(held)))
    }

    /// The memory that `model` and its adapters need while it computes prompts and generates, known
    /// before they are loaded: what swapped keys and values may take counts as theirs
    /// ([`SwapConfig::peak_memory`]).
    ///
    /// ```
    /// use zse::{LoadOptions, ModelSource};
    ///
    /// let options = LoadOptions::default();
    /// let model = options.model(ModelSource::Builtin.open()?)?;
    /// println!("{} bytes", options.memory(&model)?.total());
    /// # Ok::<(), zse::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the device cannot take the model, or not with these options, or an adapter is not for it.
    pub fn memory(&self, model: &Model) -> Result<MemoryReport, Error> {
        let mut plan = self.model_memory(model)?;
        for adapter in &self.adapters {
            let bytes = adapters::read(model, &adapter.path)?.bytes();
            plan.weights = plan.weights.saturating_add(bytes);
        }
        Ok(plan)
    }

    /// Where `model` will run, such as `cpu (avx512)`, and which layers where if it is on two devices.
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub fn place(&self, model: &Model) -> Result<String, Error> {
        Ok(self.backend()?.place(model, &self.budget(model))?)
    }

    /// The same without adapters.
    pub(crate) fn model_memory(&self, model: &Model) -> Result<MemoryReport, Error> {
        let budget = self.budget(model);
        let outputs = match self.device.resolved() {
            // All of it is taken at once.
            Device::Cuda(_) => budget.max_outputs,
            // Room for outputs grows with what is wanted, which is one for each sequence in a step.
            _ => self.sequences,
        };
        let budget = Budget {
            max_outputs: outputs,
            ..budget
        };
        let plan = self.backend()?.plan(model, &budget)?;
        Ok(MemoryReport {
            kv: plan.kv.saturating_add(self.swap.peak_memory()),
            ..plan
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_they_are_asked_for() {
        for name in ["auto", "cpu", "cpu:avx2", "cpu:scalar", "reference"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        let mut wrong = vec![("cpu:sse", "avx2"), ("tpu", "`auto`")];
        if !cfg!(feature = "cuda") {
            wrong.push(("cuda", "CPU"));
        }
        for (name, why) in wrong {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn a_batch_holds_no_more_than_all_contexts() {
        let checkpoint = ModelSource::Builtin.open().unwrap();
        for (context, sequences, expected) in [(64, 1, 64), (64, 3, 192), (1024, 2, 512)] {
            let options = LoadOptions {
                context: Some(context),
                sequences,
                ..LoadOptions::default()
            };
            let model = options.model(Arc::clone(&checkpoint)).unwrap();
            assert_eq!(options.budget(&model).max_tokens, expected);
        }
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn what_is_swapped_counts_on_its_way_as_well() {
        let checkpoint = ModelSource::Builtin.open().unwrap();
        let mut options = LoadOptions::default();
        let model = options.model(checkpoint).unwrap();
        let before = options.memory(&model).unwrap().total();
        options.swap.memory = 1 << 30;
        let after = options.memory(&model).unwrap().total();
        assert_eq!(after - before, 2 << 30);
    }
}
