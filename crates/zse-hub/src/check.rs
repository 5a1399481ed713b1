//! Whether a model will run, and in how much memory: told from the header of its GGUF files, or from its
//! `config.json`. No weights are fetched for it.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use zse_format::hf::{MAX_CONFIG, Preview};

use crate::{Hub, HubError, ModelRef, RepoInfo, Selection, Shape, ShapeError};

/// Bytes of a header that are fetched at first, and at most: those of large vocabularies have some 10 MB.
const HEADER: (u64, u64) = (1 << 20, 64 << 20);

/// The file that describes a folder of safetensors.
const CONFIG: &str = "config.json";

/// Most tokens of context that are taken seriously.
const MAX_CONTEXT: u64 = 1 << 24;

/// What loading a model would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// As the model's file names it.
    pub architecture: String,
    /// Why it does not run, where it does not.
    pub obstacle: Option<String>,
    /// Tokens of context that it would have.
    pub context: u64,
    /// Bytes to run it, where that can be told.
    pub memory: Option<u64>,
}

/// A model before its weights are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The quant, where the file's name says it.
    pub quant: Option<String>,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// What loading it would be.
    pub outlook: Outlook,
}

/// Tells the outlook of the model at a path: a file whose weights may be zeros, or a folder. Fails where
/// there is no model, or the header is not whole.
pub type Open<'a> = &'a dyn Fn(&Path) -> Result<Outlook, Box<dyn Error + Send + Sync>>;

impl Hub {
    /// Whether a model runs, here or at the hub. GGUF files are judged by `open`, and so are folders of
    /// safetensors that are here; of others `config.json` alone is read. `context` are the tokens that
    /// are asked for, 0 for as many as the model was made for, `None` for up to [`Shape::CONTEXT`].
    ///
    /// # Errors
    /// As [`Hub::info`] and [`Hub::select`]; [`HubError::Unreadable`] for what is no model,
    /// [`HubError::Io`] where a header cannot be written for `open`.
    pub fn check(
        &self,
        model: &ModelRef,
        context: Option<u64>,
        open: Open<'_>,
    ) -> Result<Checked, HubError> {
        let Some(here) = self.cache().find(model) else {
            return self.check_remote(model, context, open);
        };
        let opened = open(&here.path).map_err(unreadable(model));
        let outlook = match opened {
            Err(error) if here.path.is_dir() => {
                let path = here.path.join(CONFIG);
                let config = fs::read(&path).map_err(HubError::io("read", &path))?;
                Outlook {
                    obstacle: Some(with_causes(&error)),
                    ..of_config(model, &config, here.bytes, context)?
                }
            }
            opened => opened?,
        };
        Ok(Checked {
            quant: here.quant,
            file_bytes: here.bytes,
            outlook,
        })
    }

    fn check_remote(
        &self,
        model: &ModelRef,
        context: Option<u64>,
        open: Open<'_>,
    ) -> Result<Checked, HubError> {
        let info = self.info(model)?;
        let chosen = self.select(&info, model)?;
        let is_weights = |path: &&String| path.ends_with(".gguf") || path.ends_with(".safetensors");
        let weights = chosen.files.iter().filter(is_weights);
        let sizes = weights.map(|path| size(&info, path).unwrap_or(0));
        let file_bytes = sizes.fold(0, u64::saturating_add);
        let outlook = match chosen.is_folder() {
            true => {
                let config = self.read(&info, CONFIG, 0..MAX_CONFIG as u64)?;
                of_config(model, &config, file_bytes, context)?
            }
            false => self.of_headers(model, &info, &chosen, open)?,
        };
        Ok(Checked {
            quant: chosen.quant,
            file_bytes,
            outlook,
        })
    }

    /// Judges stand-ins for GGUF files: their headers, and holes where the weights would be, which take
    /// no room.
    fn of_headers(
        &self,
        model: &ModelRef,
        info: &RepoInfo,
        chosen: &Selection,
        open: Open<'_>,
    ) -> Result<Outlook, HubError> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(HubError::io("make a folder in", &temporary))?;
        let place = |path: &str| folder.path().join(path.rsplit('/').next().unwrap_or(path));
        let first = &chosen.files[0];
        let (mut fetched, mut wanted) = (0, HEADER.0);
        loop {
            for path in &chosen.files {
                let size = size(info, path).ok_or_else(|| HubError::Answer {
                    url: format!("{}", info.repo),
                    why: format!("it does not say how long {path} is"),
                })?;
                // The vocabulary, which makes headers long, is in the first part.
                let wanted = if path == first { wanted } else { HEADER.0 };
                let (from, to) = (fetched.min(size), wanted.min(size));
                if from < to {
                    let bytes = self.read(info, path, from..to)?;
                    let path = place(path);
                    lengthen(&path, from, &bytes, size).map_err(HubError::io("write", &path))?;
                }
            }
            match (open(&place(first)), wanted < HEADER.1) {
                (Ok(outlook), _) => return Ok(outlook),
                // The rest of the header reads as zeros, which makes no sound one.
                (Err(_), true) => (fetched, wanted) = (wanted, wanted * 4),
                (Err(error), false) => return Err(unreadable(model)(error)),
            }
        }
    }
}

fn size(info: &RepoInfo, path: &str) -> Option<u64> {
    info.files.iter().find(|file| file.path == path)?.size
}

/// Writes `bytes` from `from` on into a file that is `size` long.
fn lengthen(path: &Path, from: u64, bytes: &[u8], size: u64) -> std::io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.set_len(from)?;
    file.write_all(bytes)?;
    file.set_len(size)
}

fn unreadable(model: &ModelRef) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> HubError {
    let model = model.to_string();
    move |source| HubError::Unreadable { model, source }
}

/// An error and what caused it, on one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// What `config.json` tells of a folder of safetensors of so many bytes. Whether it runs is decided by the
/// code that loads it.
fn of_config(
    model: &ModelRef,
    text: &[u8],
    file_bytes: u64,
    context: Option<u64>,
) -> Result<Outlook, HubError> {
    let unreadable = |error| unreadable(model)(error);
    let config: Value = serde_json::from_slice(text).map_err(|e| unreadable(e.into()))?;
    let kind = config["model_type"].as_str();
    let kind = kind.ok_or_else(|| unreadable(ShapeError::NoConfig.into()))?;
    let shape = Shape::from_config(&config).map(|(shape, _)| shape);
    let preview = match Preview::parse(text, CONFIG) {
        Ok(preview) => preview,
        Err(error) => {
            let trained = config["max_position_embeddings"].as_u64();
            let context = context_of(trained, context);
            return Ok(Outlook {
                architecture: kind.to_owned(),
                obstacle: Some(with_causes(&error)),
                context,
                memory: shape.ok().map(|s| memory(&s, file_bytes, context)),
            });
        }
    };
    let shape = shape.map_err(|error| unreadable(error.into()))?;
    let context = context_of(trained(&preview), context);
    let is_long = context > MAX_CONTEXT;
    let weights = match preview.is_quantized() {
        // Norms, and modules that are left out, are in neither number alone.
        true => held(&shape, &preview).map_or(file_bytes, |held| held.max(file_bytes)),
        false => file_bytes,
    };
    Ok(Outlook {
        architecture: kind.to_owned(),
        obstacle: is_long.then(|| format!("no model has {context} tokens of context")),
        context,
        memory: Some(memory(&shape, weights, context)),
    })
}

/// Tokens of context that the model was made for.
fn trained(preview: &Preview) -> Option<u64> {
    let metadata = preview.metadata();
    let architecture = metadata.require_str("general.architecture").ok()?;
    let context = metadata.u32(&format!("{architecture}.context_length"));
    context.ok()?.map(u64::from)
}

/// Tokens of context, where so many are asked for, of a model made for so many.
fn context_of(trained: Option<u64>, asked: Option<u64>) -> u64 {
    let trained = trained.filter(|n| (1..=MAX_CONTEXT).contains(n));
    let trained = trained.unwrap_or(Shape::CONTEXT);
    match asked {
        None => trained.min(Shape::CONTEXT),
        Some(0) => trained,
        Some(n) => n,
    }
}

/// Bytes of quantized weights in the types that hold them here, where the configuration tells these.
fn held(shape: &Shape, preview: &Preview) -> Option<u64> {
    shape.held_bytes(|cols| preview.matrix(cols), |cols| preview.embedding(cols))
}

fn memory(shape: &Shape, weights: u64, context: u64) -> u64 {
    weights.saturating_add(shape.memory_beside_weights(context.min(MAX_CONTEXT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outlook(change: impl FnOnce(&mut Value), context: Option<u64>) -> Outlook {
        let mut config = json!({
            "model_type": "qwen3", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64,
            "intermediate_size": 4096, "num_hidden_layers": 2, "vocab_size": 1000,
            "max_position_embeddings": 40_960, "torch_dtype": "bfloat16",
        });
        change(&mut config);
        let model = "org/name".parse().expect("a name");
        of_config(&model, config.to_string().as_bytes(), 1000, context).expect("a model")
    }

    #[test]
    fn a_config_tells_whether_a_model_runs_and_in_what() {
        let plain = outlook(|_| {}, None);
        assert_eq!((plain.obstacle.as_deref(), plain.context), (None, 4096));
        assert!(plain.memory > Some(1000));
        let long = outlook(|_| {}, Some(0));
        assert_eq!(long.context, 40_960);
        assert!(long.memory > plain.memory);
        let quantized = |config: Value| ("quantization_config", config);
        for (context, change, why) in [
            (
                None,
                ("model_type", json!("mamba")),
                "model_type is \"mamba\"",
            ),
            (
                None,
                ("hidden_act", json!("gelu")),
                "hidden_act is \"gelu\"",
            ),
            (
                None,
                ("rope_theta", json!("much")),
                "rope_theta must be a number",
            ),
            (
                None,
                quantized(json!({ "quant_method": "quip" })),
                "quant_method is \"quip\"",
            ),
            (
                None,
                quantized(json!({ "quant_method": "gptq", "bits": 5, "group_size": 128 })),
                "quantization_config.bits is 5",
            ),
            (
                None,
                quantized(json!({ "quant_method": "compressed-tensors", "format": "marlin-24" })),
                "format is \"marlin-24\"",
            ),
            (Some(1 << 40), ("model_type", json!("qwen3")), "context"),
        ] {
            let found = outlook(|config| config[change.0] = change.1, context);
            let obstacle = found.obstacle.expect(why);
            assert!(obstacle.contains(why), "{obstacle}");
        }
    }

    /// Bits of a matrix' weights beside those of the same model in 4 bits.
    #[test]
    fn codes_that_become_floats_are_counted_as_floats() {
        let memory = |quantization: Value| {
            let found = outlook(|config| config["quantization_config"] = quantization, None);
            assert_eq!(found.obstacle, None);
            found.memory.expect("it is known") as f64
        };
        let gptq = |bits: u32, order: bool, sym: bool| {
            memory(
                json!({ "quant_method": "gptq", "bits": bits, "group_size": 128,
                "desc_act": order, "sym": sym }),
            )
        };
        // Matrices of two layers of 4 of 1024 by 512 to 1024 for attention, and 3 of 1024 by 4096.
        let weights = 2.0 * f64::from(1024 * (2 * 1024 + 2 * 512) + 3 * 1024 * 4096);
        let four = gptq(4, false, true);
        for (name, found, bits) in [
            ("2 bits are held in 4", gptq(2, false, true), 4.5),
            ("asymmetric", gptq(4, false, false), 5.0),
            ("act order", gptq(4, true, true), 16.0),
            ("8 bits", gptq(8, false, true), 8.5),
            ("8 bits with a minimum", gptq(8, false, false), 16.0),
            (
                "FP8",
                memory(json!({ "quant_method": "fp8", "weight_block_size": [128, 128] })),
                16.0,
            ),
            (
                "NF4",
                memory(json!({ "quant_method": "bitsandbytes", "load_in_4bit": true })),
                16.0,
            ),
            (
                "LLM.int8",
                memory(json!({ "quant_method": "bitsandbytes", "load_in_8bit": true })),
                8.5,
            ),
        ] {
            let more = (found - four) * 8.0 / weights;
            assert!(
                (more - (bits - 4.5)).abs() < 0.01,
                "{name}: {more} bits more"
            );
        }
    }

    #[test]
    fn what_is_no_config_is_refused() {
        let model = "org/name".parse().expect("a name");
        for text in ["", "[]", "{}", r#"{"model_type": 1}"#] {
            let error = of_config(&model, text.as_bytes(), 0, None).unwrap_err();
            assert!(
                matches!(error, HubError::Unreadable { .. }),
                "{text}: {error}"
            );
        }
        let bare = of_config(&model, br#"{"model_type": "llama"}"#, 0, None).expect("an outlook");
        assert!(bare.obstacle.is_some() && bare.memory.is_none(), "{bare:?}");
    }
}
