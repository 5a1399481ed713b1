//! What `config.json` says of a model: read by the same code when the model is loaded and when it is asked
//! about before the rest of it is here.

use std::path::{Path, PathBuf};

use zse_quant::GgmlType;

use super::quantization::Quantization;
use super::tensors::Counts;
use super::{Config, FAMILIES, Family};
use crate::gguf::header::Gguf;
use crate::source::Source;
use crate::{EncodedValue, FormatError, GgufWriter, Metadata};

/// A `config.json` of which nothing is refused.
pub(super) struct Described {
    pub(super) family: &'static Family,
    pub(super) quantization: Quantization,
    pub(super) counts: Counts,
    /// Of a model that also sees, the part that reads and writes text; with the architecture's defaults.
    pub(super) config: Config,
    pub(super) keys: Keys,
}

impl Described {
    /// Reads `config`, and what stands beside it in `directory`.
    pub(super) fn read(config: Config, directory: Option<&Path>) -> Result<Self, FormatError> {
        let family = family(&config)?;
        let quantization = Quantization::read(&config, family.renames)?;
        let config = config.object("text_config")?.unwrap_or(config);
        let defaults = serde_json::from_str(family.defaults).expect("written in this crate");
        let config = config.with_defaults(&defaults);

        let mut keys = Keys::new(family.architecture, directory)?;
        (family.describe)(&config, &mut keys)?;
        Ok(Self {
            family,
            quantization,
            counts: Counts::read(&config)?,
            config,
            keys,
        })
    }
}

/// A model as its `config.json` alone describes it. What that refuses, loading refuses with the same error;
/// a model that it accepts may still lack tensors, or a tokenizer.
#[derive(Debug)]
pub struct Preview {
    metadata: Metadata,
    quantization: Quantization,
    float: GgmlType,
}

impl Preview {
    /// Reads the text of a `config.json`, which messages call `file`.
    ///
    /// # Errors
    /// Those of opening a directory with it, as far as this file causes them.
    pub fn parse(config: &[u8], file: &str) -> Result<Self, FormatError> {
        let config = Config::parse(config, file)?;
        let whole = float(&config);
        let Described {
            quantization,
            config,
            keys,
            ..
        } = Described::read(config, None)?;
        Ok(Self {
            metadata: keys.metadata(file)?,
            quantization,
            float: float(&config).or(whole).unwrap_or(GgmlType::F16),
        })
    }

    /// The keys that the model will have, but for those of its tokenizer, its pooling and its name.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether weights are stored in another form than the one that they are computed with.
    pub fn is_quantized(&self) -> bool {
        self.quantization != Quantization::None
    }

    /// The type that the matrices of layers with rows of `cols` weights will have; `None` where the file
    /// does not say enough of them. Where modules differ, that of most.
    pub fn matrix(&self, cols: u64) -> Option<GgmlType> {
        self.quantization.announced(cols as usize, self.float)
    }

    /// The same of embeddings, and of the output.
    pub fn embedding(&self, cols: u64) -> Option<GgmlType> {
        match self.quantization.has_embeddings() {
            true => self.matrix(cols),
            false => Some(self.float),
        }
    }
}

/// The type of plain weights, where the file says it.
fn float(config: &Config) -> Option<GgmlType> {
    let name = ["dtype", "torch_dtype"]
        .iter()
        .find_map(|key| config.get(key)?.as_str());
    match name? {
        "float32" => Some(GgmlType::F32),
        "bfloat16" => Some(GgmlType::Bf16),
        "float16" => Some(GgmlType::F16),
        _ => None,
    }
}

/// The architecture that `config.json` names.
fn family(config: &Config) -> Result<&'static Family, FormatError> {
    let model_type = config.require_str("model_type")?;
    let found = FAMILIES
        .iter()
        .find(|f| f.model_types.contains(&model_type));
    found.copied().ok_or_else(|| {
        let known = FAMILIES.iter().flat_map(|f| f.model_types).copied();
        let known = known.collect::<Vec<_>>().join(", ");
        config.not_implemented("model_type", &format!("known are {known}"))
    })
}

/// GGUF's keys, and tensors of numbers that come from `config.json`.
pub(super) struct Keys {
    writer: GgufWriter,
    architecture: &'static str,
    directory: Option<PathBuf>,
    /// Tensors beside those of files.
    pub(super) numbers: Vec<(&'static str, Vec<f32>)>,
    /// Modules that the model does not use, though the rules have them.
    pub(super) unused: Vec<&'static str>,
}

impl Keys {
    fn new(architecture: &'static str, directory: Option<&Path>) -> Result<Self, FormatError> {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", architecture)?;
        writer.set("general.type", "model")?;
        if let Some(name) = directory.and_then(model_name) {
            writer.set("general.name", &*name)?;
        }
        Ok(Self {
            writer,
            architecture,
            directory: directory.map(Path::to_owned),
            numbers: Vec::new(),
            unused: Vec::new(),
        })
    }

    /// Sets `{architecture}.{key}`.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: impl Into<EncodedValue>,
    ) -> Result<(), FormatError> {
        self.writer
            .set(&format!("{}.{key}", self.architecture), value)
    }

    /// Sets a key that does not begin with the architecture.
    pub(super) fn set_whole(
        &mut self,
        key: &str,
        value: impl Into<EncodedValue>,
    ) -> Result<(), FormatError> {
        self.writer.set(key, value)
    }

    /// Adds the tensor `name`.
    pub(super) fn numbers(&mut self, name: &'static str, numbers: Vec<f32>) {
        self.numbers.push((name, numbers));
    }

    /// Leaves out the tensors of `module`, a rule's.
    pub(super) fn leave_out(&mut self, module: &'static str) {
        self.unused.push(module);
    }

    /// Of the model; `None` where only `config.json` is here.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The keys as a reader finds them; `name` is for messages.
    pub(super) fn metadata(&self, name: &str) -> Result<Metadata, FormatError> {
        let header = self.writer.begin(Vec::new(), name)?.finish()?;
        Ok(Gguf::parse(Source::from_vec(header, name))?.metadata)
    }
}

/// The model's name by its directory: in Hugging Face's cache that is named by a commit, and the
/// model by `models--ORG--NAME` two levels above.
fn model_name(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let of_cache = directory
        .ancestors()
        .nth(2)
        .and_then(|above| above.file_name()?.to_str()?.strip_prefix("models--"));
    match of_cache {
        Some(name) => name.rsplit("--").next().map(str::to_owned),
        None => Some(directory.file_name()?.to_string_lossy().into_owned()),
    }
}
