//! Models split over files named `name-00001-of-00005.gguf`, as llama.cpp's `gguf-split` makes
//! them. Each file is a GGUF file with `split.no` (from 0), `split.count` and
//! `split.tensors.count`; the first one also has the model's metadata.

use std::path::{Path, PathBuf};

use super::header::Gguf;
use crate::source::Source;
use crate::{FormatError, Metadata};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// All files of the model of which `gguf`, found at `path`, is one; the first comes first.
pub(crate) fn complete(path: &Path, gguf: Gguf) -> Result<Vec<Gguf>, FormatError> {
    let Some(count) = parts(&gguf.metadata)? else {
        return Ok(vec![gguf]);
    };
    let name = PartName::of(path).filter(|name| name.count == count).ok_or_else(|| {
        let problem = format!(
            "{COUNT} is {count}, so the file must be named like name-00001-of-{count:05}.gguf for the others to be found; rename it as it was"
        );
        disagrees(&gguf.metadata, problem)
    })?;
    let mut opened = Some(gguf);
    let mut files = Vec::new();
    for number in 1..=count {
        let gguf = match opened.take_if(|_| number == name.number) {
            Some(gguf) => gguf,
            None => Gguf::parse(Source::map(&name.path_of(path, number))?)?,
        };
        check_part(&gguf.metadata, number, count)?;
        files.push(gguf);
    }
    let promised = files[0].metadata.u64(TENSORS)?;
    let found: usize = files.iter().map(|gguf| gguf.tensors.len()).sum();
    if promised.is_some_and(|promised| promised != found as u64) {
        let problem = format!(
            "{TENSORS} is {}, but the {count} files hold {found} tensors; they are not of one model, download them again",
            promised.unwrap_or_default()
        );
        return Err(disagrees(&files[0].metadata, problem));
    }
    Ok(files)
}

/// Refuses a file that is a part of a split model: from memory, the others cannot be found.
pub(crate) fn refuse_part(gguf: &Gguf) -> Result<(), FormatError> {
    match parts(&gguf.metadata)? {
        None => Ok(()),
        Some(count) => {
            let problem = format!("{COUNT} is {count}; open a split model by its path");
            Err(disagrees(&gguf.metadata, problem))
        }
    }
}

/// The number of files, if there are several.
fn parts(metadata: &Metadata) -> Result<Option<u64>, FormatError> {
    Ok(metadata.u64(COUNT)?.filter(|&count| count > 1))
}

fn check_part(metadata: &Metadata, number: u64, count: u64) -> Result<(), FormatError> {
    let (no, of) = (metadata.require_u64(NO)?, metadata.require_u64(COUNT)?);
    if (no, of) == (number - 1, count) {
        return Ok(());
    }
    let problem = format!(
        "{NO} is {no} and {COUNT} is {of}, but by its name they should be {} and {count}; the files were renamed or mixed up, download them again",
        number - 1
    );
    Err(disagrees(metadata, problem))
}

fn disagrees(metadata: &Metadata, problem: String) -> FormatError {
    FormatError::Split {
        file: metadata.file().to_owned(),
        problem,
    }
}

/// The parts of `name-00002-of-00005.gguf`.
#[derive(Debug, PartialEq, Eq)]
struct PartName<'a> {
    prefix: &'a str,
    /// From 1.
    number: u64,
    count: u64,
}

impl<'a> PartName<'a> {
    fn of(path: &'a Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let is_number = text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1..=count).contains(&number).then_some(Self {
            prefix,
            number,
            count,
        })
    }

    /// The path of another part, beside `path`.
    fn path_of(&self, path: &Path, number: u64) -> PathBuf {
        path.with_file_name(format!(
            "{}-{number:05}-of-{:05}.gguf",
            self.prefix, self.count
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_are_read_and_made() {
        let path = Path::new("dir/a-of-b-00002-of-00012.gguf");
        let name = PartName::of(path).expect("a part's name");
        assert_eq!(
            name,
            PartName {
                prefix: "a-of-b",
                number: 2,
                count: 12
            }
        );
        assert_eq!(
            name.path_of(path, 12),
            Path::new("dir/a-of-b-00012-of-00012.gguf")
        );
        for other in [
            "a.gguf",
            "a-00003-of-00002.gguf",
            "a-00000-of-00002.gguf",
            "a-1-of-2.gguf",
        ] {
            assert_eq!(PartName::of(Path::new(other)), None, "{other}");
        }
    }
}
