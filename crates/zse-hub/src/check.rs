//! Whether a model will run, and in how much memory: told from the header of its GGUF files, or from its
//! `config.json`. No weights are fetched for it.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::{Hub, HubError, ModelRef, RepoInfo, Runs, Selection, Shape};

/// Bytes of a header that are fetched at first, and at most: those of large vocabularies have some 10 MB.
const HEADER: (u64, u64) = (1 << 20, 64 << 20);

/// Most bytes of a `config.json`.
const CONFIG: u64 = 1 << 20;

/// Most tokens of context that are taken seriously.
const MAX_CONTEXT: u64 = 1 << 24;

/// Quantizations of safetensors that are read, as `quant_method` of `config.json` names them. MLX's has
/// no name there.
const METHODS: [&str; 6] = [
    "fp8",
    "fbgemm_fp8",
    "compressed-tensors",
    "gptq",
    "awq",
    "bitsandbytes",
];

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
                let path = here.path.join("config.json");
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
                let config = self.read(&info, "config.json", 0..CONFIG)?;
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

/// What `config.json` tells of a folder of safetensors of so many bytes.
fn of_config(
    model: &ModelRef,
    config: &[u8],
    file_bytes: u64,
    context: Option<u64>,
) -> Result<Outlook, HubError> {
    let config: Value =
        serde_json::from_slice(config).map_err(|error| unreadable(model)(error.into()))?;
    let (shape, kind) =
        Shape::from_config(&config).map_err(|error| unreadable(model)(error.into()))?;
    let trained = [&config["text_config"], &config]
        .iter()
        .find_map(|part| part["max_position_embeddings"].as_u64())
        .filter(|n| (1..=MAX_CONTEXT).contains(n))
        .unwrap_or(Shape::CONTEXT);
    let context = match context {
        None => trained.min(Shape::CONTEXT),
        Some(0) => trained,
        Some(n) => n,
    };
    let method = config["quantization_config"]["quant_method"].as_str();
    let obstacle = match (Runs::architecture(&kind), method) {
        (Runs::No, _) => Some(format!("the architecture {kind} is not supported")),
        (_, Some(method)) if !METHODS.contains(&method) => {
            Some(format!("the quantization {method} is not supported"))
        }
        _ if context > MAX_CONTEXT => Some(format!("no model has {context} tokens of context")),
        _ => None,
    };
    let beside = shape.memory_beside_weights(context.min(MAX_CONTEXT));
    Ok(Outlook {
        architecture: kind,
        obstacle,
        context,
        memory: Some(file_bytes.saturating_add(beside)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outlook(change: impl FnOnce(&mut Value), context: Option<u64>) -> Outlook {
        let mut config = json!({
            "model_type": "qwen3", "hidden_size": 64, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 128, "num_hidden_layers": 2,
            "vocab_size": 100, "max_position_embeddings": 40_960,
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
        for (context, change, why) in [
            (None, ("model_type", json!("mamba")), "architecture mamba"),
            (
                None,
                ("quantization_config", json!({ "quant_method": "quip" })),
                "quantization quip",
            ),
            (Some(1 << 40), ("model_type", json!("qwen3")), "context"),
        ] {
            let found = outlook(|config| config[change.0] = change.1, context);
            let obstacle = found.obstacle.expect(why);
            assert!(obstacle.contains(why), "{obstacle}");
        }
    }

    #[test]
    fn what_is_no_config_is_refused() {
        let model = "org/name".parse().expect("a name");
        for text in ["", "[]", "{}", r#"{"model_type": "llama"}"#] {
            let error = of_config(&model, text.as_bytes(), 0, None).unwrap_err();
            assert!(
                matches!(error, HubError::Unreadable { .. }),
                "{text}: {error}"
            );
        }
    }
}
