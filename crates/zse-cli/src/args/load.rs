//! Which model, and how it is loaded.

use clap::Args;
use zse::{AdapterSource, Device, KvType, LoadOptions, ModelSource, WeightKind};
use zse_hub::{Catalogue, HubError, ModelRef};

use crate::resolve;

/// Heading of the options of every command.
pub(super) const GLOBAL: &str = "Options of every command";

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = GLOBAL)]
pub(crate) struct Global {
    /// Where the model runs: auto, cpu, cpu:ISA (such as cpu:avx2), cuda (the first GPU; cuda:1 the
    /// second), or reference (slow; what every device is tested against)
    #[arg(long, global = true, value_name = "DEVICE", default_value_t)]
    pub(crate) device: Device,
    /// Layers that a GPU takes, counted from the last; those before are computed on the CPU
    /// [default: all, or as many as fit]
    #[arg(long, visible_alias = "n-gpu-layers", global = true, value_name = "N")]
    pub(crate) gpu_layers: Option<usize>,
    /// What matrices in F32, F16 or BF16 are made into when the model is loaded: stored (what they are), or fp8 (on
    /// GPUs: half the memory of 16 bits)
    #[arg(long, global = true, value_name = "TYPE", default_value_t)]
    pub(crate) weights: WeightKind,
    /// Tokens that do not depend on what else runs, to the last bit: on a GPU that costs speed, most of it for prompts
    /// and many sequences; on the CPU it is always so
    #[arg(long, global = true)]
    pub(crate) deterministic: bool,
    /// CPU threads [default: as many as the process may use]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Context size in tokens; 0: what the model was made for [default: that, but at most 4096]
    #[arg(long, visible_alias = "ctx-size", global = true, value_name = "N")]
    pub(crate) ctx: Option<usize>,
    /// Type of the KV cache: f32, f16, bf16, q8_0, q4_0 or fp8
    #[arg(long, global = true, value_name = "TYPE", default_value_t)]
    pub(crate) kv_type: KvType,
}

impl Global {
    /// The options for loading `source`.
    pub(crate) fn options(&self, source: &ModelSource) -> Result<LoadOptions, zse::Error> {
        let context = match self.ctx {
            Some(0) => Some(LoadOptions::trained_context(source)?),
            other => other,
        };
        Ok(LoadOptions {
            device: self.device,
            gpu_layers: self.gpu_layers,
            weights: self.weights,
            deterministic: self.deterministic,
            threads: self.threads,
            context,
            kv_type: self.kv_type,
            batch_tokens: self.device.batch_tokens(),
            ..LoadOptions::default()
        })
    }

    /// The options for loading `source` with adapters.
    pub(crate) fn options_with(
        &self,
        source: &ModelSource,
        lora: &LoraArgs,
    ) -> Result<LoadOptions, zse::Error> {
        Ok(LoadOptions {
            adapters: lora.adapters.clone(),
            ..self.options(source)?
        })
    }
}

/// The model that a command works on.
#[derive(Args, Debug, Default)]
pub(crate) struct ModelArg {
    /// Model: the path of a GGUF or .zse file or of a directory with safetensors files, a model that
    /// was pulled (`org/name:QUANT` of the Hugging Face hub, or an id of `zse models list`), or
    /// `builtin` [default: builtin]
    #[arg(value_name = "MODEL")]
    positional: Option<String>,
    /// The same as MODEL
    #[arg(
        short = 'm',
        long = "model",
        value_name = "MODEL",
        conflicts_with = "positional"
    )]
    named: Option<String>,
}

impl ModelArg {
    /// Where the model comes from.
    pub(crate) fn source(&self) -> anyhow::Result<ModelSource> {
        let name = self.positional.as_ref().or(self.named.as_ref());
        resolve::source(name.map_or("builtin", String::as_str))
    }
}

/// The adapters of a model.
#[derive(Args, Debug, Default)]
pub(crate) struct LoraArgs {
    /// Adapter (LoRA) to use with the model: a directory of PEFT or a GGUF file; of several all are
    /// added
    #[arg(long = "lora", value_name = "PATH")]
    pub(crate) adapters: Vec<AdapterSource>,
}

/// A model of the hub.
#[derive(Args, Debug)]
pub(crate) struct ModelId {
    /// Model: `org/name`, `org/name:QUANT`, `org/name:FILE.gguf`, the address of its page or file, or
    /// an id of `zse models list`
    #[arg(value_name = "ID")]
    id: String,
    /// The quant, such as Q4_K_M [default: the one that suits most people]
    #[arg(short, long, value_name = "QUANT")]
    quant: Option<String>,
}

impl ModelId {
    /// The model that is meant.
    pub(crate) fn model(&self) -> Result<ModelRef, HubError> {
        Catalogue::builtin().model(&self.id, self.quant.as_deref())
    }

    /// What was given.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}
