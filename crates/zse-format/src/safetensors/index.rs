//! The safetensors files of a model's directory: one, or the shards that
//! `model.safetensors.index.json` lists.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use super::Safetensors;
use crate::{FormatError, Problem};

/// The list of shards.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The only file, where there is one.
pub(crate) const SINGLE: &str = "model.safetensors";

/// Bytes of the list: that of 2 * 10^5 tensors has a third of that.
const MAX_INDEX_BYTES: usize = 64 << 20;
/// Files of a model.
const MAX_SHARDS: usize = 10_000;

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Opens the safetensors files of `dir`; no two have a tensor in common.
pub(crate) fn open(dir: &Path) -> Result<Vec<Safetensors>, FormatError> {
    let (single, path) = (dir.join(SINGLE), dir.join(INDEX));
    // Beside a file with everything a list is a leftover, as transformers takes it.
    let text = match single.is_file() {
        true => None,
        false => read_file(&path, MAX_INDEX_BYTES)?,
    };
    let Some(text) = text else {
        return Ok(vec![Safetensors::open(&single)?]);
    };
    let file = path.display().to_string();
    let unusable = |field: String, problem: String| FormatError::Unusable {
        file: file.clone(),
        field,
        problem,
    };
    let Index { weight_map } = parse(&text, &file)?;
    let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
    for name in weight_map.values() {
        *shards.entry(name).or_default() += 1;
    }
    if shards.is_empty() || shards.len() > MAX_SHARDS {
        let problem = format!("names {} files, not 1 to {MAX_SHARDS}", shards.len());
        return Err(unusable("weight_map".to_owned(), problem));
    }
    let mut opened = Vec::with_capacity(shards.len());
    for (&name, &tensors) in &shards {
        if !is_file_name(name) {
            let problem = "is not the name of a .safetensors file beside the list".to_owned();
            return Err(unusable(format!("weight_map's file {name:?}"), problem));
        }
        let shard = Safetensors::open(&dir.join(name))?;
        let listed = shard
            .tensors()
            .filter(|t| weight_map.get(t.name).is_some_and(|f| f == name));
        let listed = listed.count();
        if listed != tensors || listed != shard.tensors().len() {
            let problem = format!(
                "has {} tensors, of which {listed} are listed for it, but the list has {tensors}; the files are not of one model, download them again",
                shard.tensors().len()
            );
            return Err(unusable(format!("weight_map's file {name:?}"), problem));
        }
        opened.push(shard);
    }
    Ok(opened)
}

/// Whether `name` is that of a safetensors file and of nothing outside its directory.
fn is_file_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0']) && name.len() <= 255
}

/// The content of a file of at most `most` bytes; `None` where there is no such file.
pub(crate) fn read_file(path: &Path, most: usize) -> Result<Option<Vec<u8>>, FormatError> {
    let failed = |action, source| FormatError::Io {
        file: path.display().to_string(),
        action,
        source,
    };
    // Opening a FIFO would block: look first.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(failed("open", reason));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", error)),
    }
    let file = File::open(path).map_err(|error| failed("open", error))?;
    let mut text = Vec::new();
    file.take(most as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| failed("read", error))?;
    if text.len() > most {
        let reason = format!("it has more than {most} bytes");
        return Err(failed(
            "read",
            io::Error::new(io::ErrorKind::InvalidData, reason),
        ));
    }
    Ok(Some(text))
}

/// Reads JSON.
pub(crate) fn parse<'de, T: Deserialize<'de>>(
    text: &'de [u8],
    file: &str,
) -> Result<T, FormatError> {
    serde_json::from_slice(text).map_err(|error| FormatError::Malformed {
        file: file.to_owned(),
        field: format!("line {}", error.line()),
        offset: 0,
        problem: Problem::Json(format!("is not what it should be: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        assert!(is_file_name("model-00001-of-00002.safetensors"));
        for name in [
            "../model.safetensors",
            "/etc/model.safetensors",
            "a\\model.safetensors",
            "C:model.safetensors",
            "model.bin",
            "",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
