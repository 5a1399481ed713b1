//! Writing a model's weights anew in other types: `zse quantize`.
//!
//! Which types tensors get, and how they are encoded; the file is written as `zse convert` writes it.

pub(crate) mod encode;
mod gather;
mod importance;
mod mixture;
pub(crate) mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use zse_format::{Checkpoint, FormatError, TensorView};
use zse_model::executor::Budget;
use zse_quant::{GgmlType, QuantError};

use crate::convert::{self, ConvertError, ConvertOptions, ConvertReport};
pub use gather::{GatherOptions, GatherProgress, Gathered, gather};
pub use importance::Importance;
pub use mixture::Mixture;
use rules::{Choice, Chooser};

/// How to quantize; [`QuantizeOptions::new`] gives what most want.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Which types.
    pub mixture: &'static Mixture,
    /// Gives every matrix the mixture's base type.
    pub pure: bool,
    /// Allows a source that is quantized already; the errors of both add up.
    pub allow_requantize: bool,
    /// How much columns matter.
    pub importance: Option<Arc<Importance>>,
    /// Threads, at most [`Budget::MAX_THREADS`]; `None`: as many as the process may use. Fewer work
    /// where the system does not give as many.
    pub threads: Option<usize>,
}

impl QuantizeOptions {
    /// `mixture` and nothing special.
    pub fn new(mixture: &'static Mixture) -> Self {
        Self {
            mixture,
            pure: false,
            allow_requantize: false,
            importance: None,
            threads: None,
        }
    }
}

/// Where a quantization stands; given to the caller after each piece.
#[derive(Clone, Copy, Debug)]
pub struct QuantizeProgress<'a> {
    /// The tensor at work.
    pub tensor: &'a str,
    /// Its type in the source.
    pub from: GgmlType,
    /// Its type in the result.
    pub to: GgmlType,
    /// Bytes of the source that are done.
    pub done: u64,
    /// Bytes of all tensors of the source.
    pub total: u64,
}

/// What a quantization wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeReport {
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Number of weights of all tensors.
    pub parameters: u64,
    /// Number of tensors of each type in the result, by the type's name.
    pub types: BTreeMap<&'static str, usize>,
    /// Tensors whose rows the chosen type's blocks do not divide, with the type they got instead.
    pub fallbacks: Vec<(String, GgmlType)>,
}

impl QuantizeReport {
    /// Bits that a weight takes in the result.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes_after as f64 / self.parameters.max(1) as f64
    }

    /// Counts a tensor of the source, and the type that it gets.
    pub(crate) fn count(&mut self, tensor: &TensorView<'_>, choice: Choice) {
        let Choice {
            ty, is_fallback, ..
        } = choice;
        if is_fallback {
            self.fallbacks.push((tensor.name.to_owned(), ty));
        }
        self.bytes_before += tensor.data.len() as u64;
        self.parameters += tensor.elements();
        *self.types.entry(ty.name()).or_default() += 1;
    }
}

/// Why a model was not quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The source cannot be read, or the result cannot be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No mixture of that name.
    #[error("unknown quantization type '{name}'; known are {known}")]
    UnknownType {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Groups of a size that no type has.
    #[error("{name}:{group}: {name} has groups of 32, 64 or 128 weights, as in {name}:g128")]
    GroupSize {
        /// The type.
        name: String,
        /// What was asked for.
        group: String,
    },
    /// A weight that cannot be encoded.
    #[error("tensor '{tensor}': {source}")]
    Encode {
        /// Its name.
        tensor: String,
        /// Why.
        source: QuantError,
    },
    /// The source is quantized.
    #[error(
        "tensor '{tensor}' is quantized already ({ty}): quantizing it again adds the errors of \
         both. Start from an F16, BF16 or F32 file, or pass --allow-requantize"
    )]
    Requantize {
        /// The first such tensor.
        tensor: String,
        /// Its type.
        ty: GgmlType,
    },
    /// A file that is no importance matrix.
    #[error(
        "{file} is not an importance matrix in GGUF; make one with `zse imatrix` or llama-imatrix"
    )]
    NotImportance {
        /// The file.
        file: String,
    },
    /// An importance matrix with a tensor that makes no sense.
    #[error("tensor '{tensor}' of {file} is malformed: {why}; make the file anew")]
    ImportanceTensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// More threads than [`Budget::MAX_THREADS`].
    #[error("{threads} threads, at most {}; ask for fewer", Budget::MAX_THREADS)]
    TooManyThreads {
        /// What was asked for.
        threads: usize,
    },
    /// An importance matrix of another model.
    #[error(
        "the importance matrix has {found} values for tensor '{tensor}', which needs {expected}: \
         it is of another model"
    )]
    ImportanceShape {
        /// The tensor.
        tensor: String,
        /// Values that it has.
        found: usize,
        /// Values that it should have.
        expected: usize,
    },
}

/// Writes the model of `source` to `out` as a GGUF file with weights as `options` say: what
/// [`convert`](crate::convert::convert) does, whatever `out` is called. `progress` is told after each piece, and
/// may end the work there; the same call goes on with what was finished.
///
/// # Errors
/// If the source is quantized already (and that is not allowed), a weight is not finite, too many
/// threads are asked for, there is not room enough, a file cannot be read or written, or `progress` ended
/// the work.
pub fn quantize(
    source: &Checkpoint,
    out: &Path,
    options: &QuantizeOptions,
    progress: impl FnMut(QuantizeProgress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, ConvertError> {
    let options = ConvertOptions {
        mixture: Some(options.mixture),
        pure: options.pure,
        allow_requantize: options.allow_requantize,
        importance: options.importance.clone(),
        threads: options.threads,
        ..ConvertOptions::default()
    };
    convert::to_gguf(source, out, &options, progress)
}

/// The tensors of `source` with the types that they get in a file of `mixture`.
pub(crate) fn types<'a>(
    source: &'a Checkpoint,
    mixture: &'a Mixture,
) -> impl Iterator<Item = (TensorView<'a>, GgmlType)> {
    let chooser = Chooser::new(source, mixture, false, false);
    source.tensors().map(move |tensor| {
        let ty = chooser.choose(&tensor).ty;
        (tensor, ty)
    })
}

/// Weights that share a scale, where these are more than the blocks of the type have; for people.
const GROUP_SIZE: &str = "zse.quantization.group_size";

/// Sets the metadata that say of which types a model is; `None`: of those of its source.
pub(crate) fn set_types(
    mixture: Option<&Mixture>,
    mut set: impl FnMut(&str, u32) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    set("general.quantization_version", 2)?;
    let Some(mixture) = mixture else {
        return Ok(());
    };
    set("general.file_type", mixture.file_type)?;
    let group = mixture.group.map(|group| group as u32);
    group.map_or(Ok(()), |group| set(GROUP_SIZE, group))
}

/// Refuses another type for a tensor that is quantized already, unless that is allowed.
pub(crate) fn check_requantize(
    tensor: &TensorView<'_>,
    to: GgmlType,
    is_allowed: bool,
) -> Result<(), QuantizeError> {
    match tensor.ty.is_quantized() && tensor.ty != to && !is_allowed {
        true => Err(QuantizeError::Requantize {
            tensor: tensor.name.to_owned(),
            ty: tensor.ty,
        }),
        false => Ok(()),
    }
}

/// The number of threads that is asked for, or as many as the process may use.
pub(crate) fn thread_count(asked: Option<usize>) -> Result<usize, QuantizeError> {
    match asked {
        Some(threads) if threads > Budget::MAX_THREADS => {
            Err(QuantizeError::TooManyThreads { threads })
        }
        Some(threads) => Ok(threads.max(1)),
        None => Ok(std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(Budget::MAX_THREADS)),
    }
}
