//! The tensors of a directory's safetensors files, by name.

use std::collections::BTreeMap;

use super::weights::Raw;
use crate::FormatError;
use crate::safetensors::Safetensors;

/// What the names of tensors end with that are computed anew, or that say how to round keys and
/// values to FP8, which is not done here.
const UNUSED: [&str; 3] = ["rotary_emb.inv_freq", ".k_scale", ".v_scale"];

/// `name` with the first of `renames` (from, to) applied that begins it, and as PyTorch ends it.
pub(super) fn renamed(name: &str, renames: &[(&str, &str)]) -> String {
    let renamed = renames.iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        Some(format!("{to}{rest}"))
    });
    let name = renamed.unwrap_or_else(|| name.to_owned());
    // TensorFlow's names, which the first BERTs have.
    match (
        name.strip_suffix("LayerNorm.gamma"),
        name.strip_suffix("LayerNorm.beta"),
    ) {
        (Some(module), _) => format!("{module}LayerNorm.weight"),
        (_, Some(module)) => format!("{module}LayerNorm.bias"),
        _ => name,
    }
}

/// The tensors, and which of them were taken.
pub(super) struct Stored<'a> {
    directory: &'a str,
    by_name: BTreeMap<String, (Raw, bool)>,
    /// Which of how many matrices is taken of a tensor that is a stack of them.
    expert: Option<(usize, usize)>,
}

impl<'a> Stored<'a> {
    /// The tensors of `files`, [`renamed`].
    pub(super) fn new(
        directory: &'a str,
        files: &[Safetensors],
        renames: &[(&str, &str)],
    ) -> Result<Self, FormatError> {
        let mut stored = Self {
            directory,
            by_name: BTreeMap::new(),
            expert: None,
        };
        for (number, file) in (0..).zip(files) {
            for view in file.tensors() {
                let name = renamed(view.name, renames);
                let raw = Raw::new(file.source(), number, &view);
                if stored.by_name.insert(name, (raw, false)).is_some() {
                    let problem = "occurs twice; the files are not of one model".to_owned();
                    return Err(stored.unusable(view.name, problem));
                }
            }
        }
        Ok(stored)
    }

    /// Whether there is a tensor `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// From now on tensors that are stacks of `n` are taken as number `e` of each, if that is
    /// `Some((e, n))`. Others are taken as they are: where a matrix is wanted, they are refused.
    pub(super) fn take_of_stacks(&mut self, expert: Option<(usize, usize)>) {
        self.expert = expert;
    }

    /// The tensor `name`, which counts as used from now on.
    pub(super) fn take(&mut self, name: &str) -> Option<Raw> {
        let (raw, taken) = self.by_name.get_mut(name)?;
        *taken = true;
        let one = self.expert.and_then(|(e, n)| raw.of_stack(e, n));
        Some(one.unwrap_or_else(|| raw.clone()))
    }

    /// The tensor `name`, which must be there.
    pub(super) fn require(&mut self, name: &str) -> Result<Raw, FormatError> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    pub(super) fn missing(&self, name: &str) -> FormatError {
        let problem =
            "is missing; files of the model were not downloaded, or it is of another kind";
        self.unusable(name, problem.to_owned())
    }

    /// Refuses tensors that nobody took: a model that has them computes something else. `unused`
    /// are the beginnings of names that a model has and no computation needs.
    pub(super) fn expect_all_taken(&self, unused: &[&str]) -> Result<(), FormatError> {
        let is_unused = |name: &str| {
            UNUSED.iter().any(|suffix| name.ends_with(suffix))
                || unused.iter().any(|prefix| name.starts_with(prefix))
        };
        let left = self
            .by_name
            .iter()
            .find(|(name, (_, taken))| !taken && !is_unused(name));
        match left {
            None => Ok(()),
            Some((name, _)) => {
                let problem = "has no place in a model of this architecture as zse knows it";
                Err(self.unusable(name, problem.to_owned()))
            }
        }
    }

    pub(super) fn unusable(&self, name: &str, problem: String) -> FormatError {
        FormatError::Unusable {
            file: self.directory.to_owned(),
            field: format!("tensor {name:?}"),
            problem,
        }
    }
}
