//! Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`, whose tensors
//! are called `base_model.model.MODULE.lora_A.weight` by the modules of the model that was trained.
//! Experts are modules of their own in transformers up to version 4; since then those of a layer share
//! parameters, which [`experts`] reads.

mod experts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::{Lora, LoraMatrix, NO_PLACE, Pairs, Side, matrix, unusable, weight_of};
use crate::hf::config::Config;
use crate::hf::modules::{ModuleWeight, tensor_of};
use crate::hf::rules::Change;
use crate::hf::weights::{Raw, interleave};
use crate::safetensors::{Safetensors, SafetensorsView};
use crate::source::Source;
use crate::{Checkpoint, FormatError};
use experts::{Parameters, Stack};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const TARGET_PARAMETERS: &str = "target_parameters";

/// What the names of all tensors begin with.
const PREFIX: &str = "base_model.model.";

/// Most patterns that say the rank or alpha of some modules: each is tried on each module.
const MAX_PATTERNS: usize = 4096;

/// The directory of the adapter, if `path` is one or one of its files.
pub(super) fn directory(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let name = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    [CONFIG, WEIGHTS]
        .contains(&name)
        .then(|| parent.unwrap_or(Path::new(".")).to_owned())
}

pub(super) fn read(directory: &Path, base: &Checkpoint) -> Result<Lora, FormatError> {
    let file = directory.display().to_string();
    let missing = |field: &str, problem: &str| FormatError::Unusable {
        file: file.clone(),
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    let config = Config::open(&directory.join(CONFIG))?
        .ok_or_else(|| missing(CONFIG, "is missing: this is no adapter of PEFT"))?;
    let settings = Settings::read(&config)?;
    let path = directory.join(WEIGHTS);
    if !path.is_file() && directory.join("adapter_model.bin").is_file() {
        let problem = "is missing; adapter_model.bin is not read: save it as safetensors";
        return Err(missing(WEIGHTS, problem));
    }
    let stored = Safetensors::open(&path)?;
    let base = Base::new(base)?;

    let mut pairs = Pairs::default();
    let mut modules = BTreeMap::new();
    let mut parameters = Parameters::default();
    for tensor in stored.tensors() {
        let failed = |problem: String| unusable(&file, tensor.name, problem);
        let (module, part) = split(tensor.name).map_err(|problem| failed(problem.to_owned()))?;
        if let (Part::Matrix(side), Some(stack)) = (&part, Stack::of(&base, module)) {
            let matrix = decoded(stored.source(), &tensor).map_err(failed)?;
            parameters.add(stack, *side, matrix).map_err(failed)?;
            continue;
        }
        let found = tensor_of(&base.architecture, module);
        let place = found
            .map(|found| (format!("{}.weight", found.tensor), found))
            .filter(|(weight, _)| weight_of(base.checkpoint, weight).is_some());
        let Some((weight, ModuleWeight { expert, change, .. })) = place else {
            return Err(failed(NO_PLACE.to_owned()));
        };
        let side = match part {
            Part::Matrix(side) => side,
            // A copy of the model's own, made because its vocabulary might have grown.
            Part::BaseLayer if base.has_shape(&weight, tensor.shape) => continue,
            Part::BaseLayer => {
                let problem = "has another shape than the model's: the adapter is for another one";
                return Err(failed(problem.to_owned()));
            }
        };
        let mut matrix = decoded(stored.source(), &tensor).map_err(failed)?;
        let rows = matrix.rows;
        if let (Side::B, Some(heads)) = (side, base.heads(change)) {
            if !rows.is_multiple_of(2 * heads) {
                let problem = format!("has {rows} rows, which {heads} heads do not divide");
                return Err(failed(problem));
            }
            let mut bytes = tensor.data.to_vec();
            interleave(tensor.data, &mut bytes, heads, tensor.data.len() / rows);
            matrix.data = bytes.into();
        }
        let place = (weight, expert);
        if let Side::A = side {
            let expected = settings.rank(module);
            if rows as u64 != u64::from(expected) {
                let problem = format!("has rank {rows}, but {CONFIG} says {expected}");
                return Err(failed(problem));
            }
            modules.insert(place.clone(), module.to_owned());
        }
        pairs.add(place, side, matrix).map_err(failed)?;
    }
    parameters.finish(&file, &base, &settings, &mut pairs, &mut modules)?;
    pairs.finish(&file, |place, rank| {
        let module = modules.get(place).map_or("", String::as_str);
        settings.scale(module, rank)
    })
}

/// The matrix that a tensor is; or what is wrong with it.
fn decoded(source: &Arc<Source>, tensor: &SafetensorsView<'_>) -> Result<LoraMatrix, String> {
    let raw = Raw::new(source, 0, tensor);
    let ty = raw.float().ok_or_else(|| {
        let known = "F32, F16 and BF16 are implemented";
        format!("has dtype {}: {known}", tensor.dtype.name())
    })?;
    let [rows, cols] = matrix(tensor.shape)?;
    LoraMatrix::decode(ty, rows, cols, tensor.data.to_vec())
}

/// What a tensor is of its module.
#[derive(Clone, Copy)]
enum Part {
    Matrix(Side),
    BaseLayer,
}

/// The module that a tensor belongs to, and what it is of it.
fn split(name: &str) -> Result<(&str, Part), &'static str> {
    let module = name
        .strip_prefix(PREFIX)
        .ok_or("does not begin with `base_model.model.`: it is not of an adapter")?;
    for (suffix, part) in [
        (".lora_A.weight", Part::Matrix(Side::A)),
        (".lora_B.weight", Part::Matrix(Side::B)),
        (".base_layer.weight", Part::BaseLayer),
    ] {
        if let Some(module) = module.strip_suffix(suffix) {
            return Ok((module, part));
        }
    }
    Err(match module {
        _ if module.contains(".lora_embedding_") => {
            "adapts the embeddings, which is not implemented"
        }
        _ if module.contains("lora_magnitude_vector") => "is of DoRA, which is not implemented",
        _ if module.contains(".lora_") => "is of another kind of LoRA, which is not implemented",
        _ => {
            "is a whole tensor of a trained model (modules_to_save), which is not implemented: merge it \
             into the model with PEFT"
        }
    })
}

/// What the adapter needs to know of its model.
struct Base<'a> {
    checkpoint: &'a Checkpoint,
    architecture: String,
    query_heads: usize,
    key_heads: usize,
}

impl<'a> Base<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Result<Self, FormatError> {
        let metadata = checkpoint.metadata();
        let architecture = metadata.require_str("general.architecture")?.to_owned();
        let heads = |key: &str| metadata.u32(&format!("{architecture}.attention.{key}"));
        let query_heads = heads("head_count")?.unwrap_or(1).max(1) as usize;
        let key_heads = heads("head_count_kv")?.map_or(query_heads, |n| n.max(1) as usize);
        Ok(Self {
            checkpoint,
            architecture,
            query_heads,
            key_heads,
        })
    }

    /// The heads whose rows change their order, if they do.
    fn heads(&self, change: Change) -> Option<usize> {
        match change {
            Change::None | Change::PlusOne => None,
            Change::RotatedQueries => Some(self.query_heads),
            Change::RotatedKeys => Some(self.key_heads),
        }
    }

    /// Matrices of the weight `name`.
    fn experts(&self, name: &str) -> usize {
        let tensor = weight_of(self.checkpoint, name);
        tensor.map_or(1, |tensor| tensor.shape.get(2).map_or(1, |&n| n as usize))
    }

    /// Whether the weight `name` has `shape`, slowest dimension first.
    fn has_shape(&self, name: &str, shape: &[u64]) -> bool {
        let tensor = weight_of(self.checkpoint, name);
        tensor.is_some_and(|tensor| tensor.shape.iter().rev().eq(shape))
    }
}

/// `adapter_config.json`.
struct Settings {
    rank: u32,
    alpha: f64,
    /// Whether the product is divided by the root of the rank (Kalajdzievski 2023,
    /// arXiv:2312.03732).
    is_stabilized: bool,
    ranks: Vec<(Regex, u32)>,
    alphas: Vec<(Regex, f64)>,
}

impl Settings {
    fn read(c: &Config) -> Result<Self, FormatError> {
        c.allow_only("peft_type", &[json!("LORA")])?;
        c.allow_only("bias", &[json!("none")])?;
        // Those that train on changed weights of the model save what was changed nowhere.
        let starts = ["gaussian", "eva", "orthogonal"].map(Value::from);
        let starts = [&[json!(true), json!(false)][..], &starts].concat();
        c.allow_only("init_lora_weights", &starts)?;
        for switch in [
            "use_dora",
            "fan_in_fan_out",
            "lora_bias",
            "use_qalora",
            "use_bdlora",
        ] {
            c.allow_only(switch, &[json!(false)])?;
        }
        for list in ["modules_to_save", "layer_replication"] {
            c.allow_only(list, &[json!([])])?;
        }
        for parameter in c.strs(TARGET_PARAMETERS)?.unwrap_or_default() {
            if !experts::is_known(parameter) {
                let what = "only those of experts are";
                return Err(c.not_implemented(TARGET_PARAMETERS, what));
            }
        }
        for object in [
            "trainable_token_indices",
            "alora_invocation_tokens",
            "arrow_config",
        ] {
            c.allow_only(object, &[])?;
        }
        let rank = c.require_u32("r")?;
        let alpha = c.require_f64("lora_alpha")?;
        let whole = |value: &Value| value.as_u64()?.try_into().ok();
        Ok(Self {
            rank,
            alpha,
            is_stabilized: c.bool("use_rslora", false)?,
            ranks: patterns(c, "rank_pattern", "an integer", whole)?,
            alphas: patterns(c, "alpha_pattern", "a number", Value::as_f64)?,
        })
    }

    /// The rank of a module's matrices.
    fn rank(&self, module: &str) -> u32 {
        first(&self.ranks, module).unwrap_or(self.rank)
    }

    /// The factor on a module's product.
    fn scale(&self, module: &str, rank: usize) -> f32 {
        let alpha = first(&self.alphas, module).unwrap_or(self.alpha);
        let divisor = match self.is_stabilized {
            true => (rank as f64).sqrt(),
            false => rank as f64,
        };
        (alpha / divisor) as f32
    }
}

/// The value of the first pattern that fits.
fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    let fits = |(regex, _): &&(Regex, T)| regex.is_match(module.as_bytes());
    let found = patterns.iter().find(fits);
    found.map(|(_, value)| *value)
}

/// The object `key`: patterns of the ends of modules' names, at a dot, and a value for each.
fn patterns<T>(
    c: &Config,
    key: &str,
    expected: &str,
    convert: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>, FormatError> {
    let Some(object) = c.object(key)? else {
        return Ok(Vec::new());
    };
    let keys: Vec<&str> = object.keys().collect();
    if keys.len() > MAX_PATTERNS {
        let problem = format!("has {} patterns, at most {MAX_PATTERNS}", keys.len());
        return Err(c.unusable(key, problem));
    }
    let mut patterns = Vec::with_capacity(keys.len());
    for pattern in keys {
        let regex = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
            .unicode(false)
            .build()
            .map_err(|_| object.unusable(pattern, "is no pattern that zse reads".to_owned()))?;
        let value = object.get(pattern).and_then(&convert);
        let value = value.ok_or_else(|| object.unusable(pattern, format!("must be {expected}")))?;
        patterns.push((regex, value));
    }
    Ok(patterns)
}
