//! From what the user calls a model to where it is.

use std::io::{self, Write};
use std::path::Path;

use zse::ModelSource;
use zse_hub::{Cache, Catalogue, Choice, Config, Hub, HubError, ModelRef};

use crate::{Usage, commands, term};

/// Where the model of this name is: a path, the built-in model, or one that was pulled. At a terminal
/// the user is asked whether to pull what is not here.
pub(crate) fn source(name: &str) -> anyhow::Result<ModelSource> {
    if is_path(name) {
        return Ok(name.parse()?);
    }
    let Ok(model) = model(name) else {
        // The error that says what MODEL may be.
        return Ok(name.parse()?);
    };
    let config = Config::from_env()?;
    if let Some(here) = Cache::new(config.cache.clone()).find(&model) {
        return Ok(ModelSource::Path(here.path));
    }
    let missing =
        format!("{name} is neither a file nor a model that is here; get it with `zse pull {name}`");
    if config.offline || !term::is_interactive() || !wants_pull(name)? {
        return Err(Usage(missing).into());
    }
    let pulled = commands::pull::pull(config, &model, Hub::CONNECTIONS)?;
    Ok(ModelSource::Path(pulled.model.path))
}

/// Whether this cannot be a name of the hub, or is there as a file.
fn is_path(name: &str) -> bool {
    let is_file_name = !name.contains(':')
        && Path::new(name)
            .extension()
            .is_some_and(|e| e == "gguf" || e == "safetensors" || e == "zse");
    name == "builtin" || Path::new(name).exists() || is_file_name
}

fn wants_pull(name: &str) -> io::Result<bool> {
    let mut out = io::stdout();
    write!(out, "{name} is not on this machine. Pull it now? [Y/n] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    ) && !answer.is_empty())
}

/// The model of the hub that a name stands for: an id of the catalogue, or the hub's own name.
pub(crate) fn model(name: &str) -> anyhow::Result<ModelRef> {
    if let Some(model) = Catalogue::builtin().resolve(name) {
        return Ok(model);
    }
    if !name.contains('/') {
        return Err(Usage(format!(
            "there is no model '{name}' in the catalogue: give `org/name` of the Hugging Face hub, or an id of \
             `zse models list`"
        ))
        .into());
    }
    Ok(name.parse::<ModelRef>()?)
}

/// The model of this name in a quant.
pub(crate) fn with_quant(name: &str, quant: &str) -> anyhow::Result<ModelRef> {
    let mut found = model(name)?;
    // Checked as if it stood behind the name.
    let checked: ModelRef = format!("{}:{quant}", found.repo).parse()?;
    if !matches!(checked.choice, Choice::Quant(_)) {
        return Err(HubError::Name {
            name: quant.to_owned(),
            why: "--quant takes a quant, such as Q4_K_M",
        }
        .into());
    }
    found.choice = checked.choice;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_not_taken_for_names_of_the_hub() {
        for path in [
            "builtin",
            "models/absent.gguf",
            "models/absent.zse",
            "absent.gguf",
            "a/b/model.safetensors",
        ] {
            assert!(is_path(path), "{path}");
        }
        for name in ["org/name", "org/name:file.gguf", "llama-3.2-1b"] {
            assert!(!is_path(name), "{name}");
        }
    }

    #[test]
    fn ids_of_the_catalogue_and_names_of_the_hub_are_models() {
        let model = |name| model(name).map(|m| m.to_string());
        assert_eq!(model("org/name:q8_0").unwrap(), "org/name:q8_0");
        assert!(model("qwen3-0.6b").unwrap().starts_with("unsloth/"));
        assert!(
            model("nothing")
                .unwrap_err()
                .to_string()
                .contains("zse models list")
        );
        let quant = |quant| with_quant("qwen3-0.6b", quant);
        assert_eq!(
            quant("q4_k_m").unwrap().choice,
            Choice::Quant("q4_k_m".to_owned())
        );
        assert!(quant("file.gguf").is_err() && quant("banana").is_err());
    }
}
