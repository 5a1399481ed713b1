//! Where a model comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use zse_format::Checkpoint;

use crate::Error;

/// The name of the built-in model.
const BUILTIN: &str = "builtin";

/// A chat model of 10 to 25 million parameters; see `models/builtin` for what it has learnt.
#[cfg(feature = "builtin")]
static BUILTIN_FILE: &[u8] = include_bytes!("../../../models/builtin/zse-builtin.gguf");

/// Where a model comes from. Parses from what is given on a command line: `builtin`, or the path
/// of a GGUF or `.zse` file or a model's directory.
///
/// ```
/// use zse::ModelSource;
///
/// assert!(matches!("builtin".parse(), Ok(ModelSource::Builtin)));
/// assert!(matches!("models/my.gguf".parse(), Ok(ModelSource::Path(_))));
/// assert!(matches!("my/model.safetensors".parse(), Ok(ModelSource::Path(_))));
/// let error = "llama3:8b".parse::<ModelSource>().unwrap_err();
/// assert!(error.to_string().contains("path of a GGUF or .zse file"));
/// ```
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// The model that is part of this crate (feature `builtin`).
    Builtin,
    /// A GGUF or `.zse` file, of a split model any of its files; or a directory as Hugging Face lays
    /// models out, with `config.json` and safetensors files.
    Path(PathBuf),
    /// One that is open already.
    Checkpoint(Arc<Checkpoint>),
}

impl ModelSource {
    /// Opens the file; its weights stay where they are until they are used.
    ///
    /// # Errors
    /// If there is no such file or directory, or it holds no sound model.
    pub fn open(&self) -> Result<Arc<Checkpoint>, Error> {
        match self {
            #[cfg(feature = "builtin")]
            Self::Builtin => Ok(Arc::new(Checkpoint::from_static(BUILTIN_FILE, BUILTIN)?)),
            #[cfg(not(feature = "builtin"))]
            Self::Builtin => Err(Error::NoBuiltin),
            Self::Path(path) => {
                refuse_other_formats(path)?;
                Ok(Arc::new(Checkpoint::open(path)?))
            }
            Self::Checkpoint(checkpoint) => Ok(Arc::clone(checkpoint)),
        }
    }
}

/// Says what a path is, where it is a model that cannot be read yet.
fn refuse_other_formats(path: &Path) -> Result<(), Error> {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let what = match extension {
        _ if path.is_dir() => return Ok(()),
        "bin" | "pt" | "pth" => "a PyTorch file",
        _ => return Ok(()),
    };
    Err(Error::UnsupportedFormat {
        path: path.to_owned(),
        what,
    })
}

impl FromStr for ModelSource {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if name == BUILTIN {
            return Ok(Self::Builtin);
        }
        let path = Path::new(name);
        // What looks like a path is one, so that a missing file is reported as missing.
        let extension = path.extension().and_then(|e| e.to_str());
        let is_path = path.exists() || matches!(extension, Some("gguf" | "safetensors" | "zse"));
        match is_path {
            true => Ok(Self::Path(path.to_owned())),
            false => Err(Error::UnknownModel {
                name: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str(BUILTIN),
            Self::Path(path) => path.display().fmt(f),
            Self::Checkpoint(checkpoint) => f.write_str(checkpoint.metadata().file()),
        }
    }
}
