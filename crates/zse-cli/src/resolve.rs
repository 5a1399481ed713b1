//! From what the user calls a model to where it is.

use std::io::{self, Write};
use std::path::Path;

use zse::ModelSource;
use zse_hub::{Cache, Catalogue, Config, Hub};

use crate::{Usage, commands, term};

/// Where the model of this name is: a path, the built-in model, or one that was pulled. At a terminal
/// the user is asked whether to pull what is not here.
pub(crate) fn source(name: &str) -> anyhow::Result<ModelSource> {
    if is_path(name) {
        return Ok(name.parse()?);
    }
    let Ok(model) = Catalogue::builtin().model(name, None) else {
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
}
