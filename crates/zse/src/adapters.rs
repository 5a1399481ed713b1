//! Adapters (LoRA) beside a loaded model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zse_engine::{AdapterChoice, EngineHandle, LoadedAdapter};
use zse_format::Lora;
use zse_model::{Adapter, Model};

use crate::Error;

/// An adapter by the name that requests call it by, and where it is. Parses from `NAME=PATH`, or from a
/// path, of which the last part without its extension is the name.
///
/// ```
/// use zse::AdapterSource;
///
/// let source: AdapterSource = "sql=adapters/sql-lora".parse()?;
/// assert_eq!((source.name.as_str(), source.path.to_str()), ("sql", Some("adapters/sql-lora")));
/// let source: AdapterSource = "adapters/sql.gguf".parse()?;
/// assert_eq!(source.name, "sql");
/// # Ok::<(), zse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSource {
    /// What requests call it.
    pub name: String,
    /// A directory of PEFT, or a GGUF file.
    pub path: PathBuf,
}

impl FromStr for AdapterSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // What is there under the whole text is a file whose name has a `=`.
        let named = text.split_once('=').filter(|_| !Path::new(text).exists());
        let (name, path) = match named {
            Some((name, path)) => (name.to_owned(), Path::new(path)),
            None => {
                let path = Path::new(text);
                // The name of a directory may have dots.
                let name = match path.extension().is_some_and(|e| e == "gguf") {
                    true => path.file_stem(),
                    false => path.file_name(),
                };
                (
                    name.unwrap_or_default().to_string_lossy().into_owned(),
                    path,
                )
            }
        };
        match name.is_empty() || path.as_os_str().is_empty() {
            true => Err(Error::AdapterSource {
                text: text.to_owned(),
            }),
            false => Ok(Self {
                name,
                path: path.to_owned(),
            }),
        }
    }
}

impl fmt::Display for AdapterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.path.display())
    }
}

/// An adapter that a model has loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// Its name, and where it came from.
    pub source: AdapterSource,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// The adapters of a model by name, in the order of loading.
#[derive(Default)]
pub(crate) struct Adapters(Mutex<Vec<(AdapterSource, LoadedAdapter)>>);

/// What the adapter at `path` adds to `model`.
pub(crate) fn read(model: &Model, path: &Path) -> Result<Adapter, Error> {
    let lora = Lora::open(path, model.weights.checkpoint())?;
    Ok(Adapter::new(model, &lora)?)
}

impl Adapters {
    fn lock(&self) -> MutexGuard<'_, Vec<(AdapterSource, LoadedAdapter)>> {
        // Every change of it is one of an element.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn load(
        &self,
        model: &Model,
        handle: &EngineHandle,
        source: &AdapterSource,
    ) -> Result<(), Error> {
        let taken = || Error::AdapterExists {
            name: source.name.clone(),
        };
        if position(&self.lock(), &source.name).is_some() {
            return Err(taken());
        }
        let loaded = handle.load_adapter(read(model, &source.path)?)?;
        let mut all = self.lock();
        if position(&all, &source.name).is_some() {
            return Err(taken());
        }
        all.push((source.clone(), loaded));
        Ok(())
    }

    pub(crate) fn unload(&self, name: &str) -> Result<(), Error> {
        let mut all = self.lock();
        let removed = position(&all, name).map(|i| all.remove(i));
        drop(all);
        removed.map(drop).ok_or_else(|| no_adapter(name))
    }

    pub(crate) fn all(&self) -> Vec<AdapterInfo> {
        let info = |(source, loaded): &(AdapterSource, LoadedAdapter)| AdapterInfo {
            source: source.clone(),
            bytes: loaded.bytes(),
        };
        self.lock().iter().map(info).collect()
    }

    pub(crate) fn choose(&self, choices: &[(&str, f32)]) -> Result<Vec<AdapterChoice>, Error> {
        let all = self.lock();
        let choose = |&(name, scale): &(&str, f32)| {
            let found = position(&all, name).ok_or_else(|| no_adapter(name))?;
            let adapter = all[found].1.clone();
            Ok(AdapterChoice { adapter, scale })
        };
        choices.iter().map(choose).collect()
    }
}

fn position(all: &[(AdapterSource, LoadedAdapter)], name: &str) -> Option<usize> {
    all.iter().position(|(source, _)| source.name == name)
}

fn no_adapter(name: &str) -> Error {
    Error::NoAdapter {
        name: name.to_owned(),
    }
}
