//! Why a model was not converted.

use std::io;
use std::path::PathBuf;

use zse_format::FormatError;
use zse_model::ModelError;
use zse_quant::GgmlType;

use crate::quantize::QuantizeError;

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The source cannot be read, or the result's header cannot be made.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A weight cannot be encoded as asked for.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A result that is neither.
    #[error("{} ends neither in .zse nor in .gguf: its ending says what to write", path.display())]
    Extension {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A result that would be written over the source.
    #[error("{} is read for this conversion: give another name to write to", path.display())]
    OwnSource {
        /// The file that is both.
        path: PathBuf,
    },
    /// A rule that says nothing.
    #[error("'{text}': {why}; write a pattern of names and a type, such as ffn_down=Q6_K")]
    TypeRule {
        /// The rule.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// An architecture whose program is not known.
    #[error(
        "the layout for CPUs follows from the model's program, which cannot be built: {0}. Convert \
         with --target portable"
    )]
    Architecture(#[source] ModelError),
    /// An adapter changes the logits of a model whose logits come from its embeddings.
    #[error(
        "{file} changes {tensor:?}, which in this model are the embeddings: it cannot be merged; load it \
         beside the model (--lora)"
    )]
    MergeTied {
        /// The adapter.
        file: String,
        /// The weight.
        tensor: String,
    },
    /// An adapter changes a weight that is quantized, and may not be quantized again.
    #[error(
        "tensor '{tensor}' is quantized already ({ty}), and what is added is lost in part: merge into \
         the model that it was made of, or allow it with --allow-requantize"
    )]
    MergeQuantized {
        /// The weight.
        tensor: String,
        /// Its type.
        ty: GgmlType,
    },
    /// The disk is too small.
    #[error(
        "{} takes {needed} bytes more, and its disk has {available} left: make room, or write to \
         another disk", path.display()
    )]
    Space {
        /// The file that grows.
        path: PathBuf,
        /// Bytes that it still needs.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Two conversions to one file.
    #[error("{} is being written by another conversion", partial.display())]
    InUse {
        /// The file that grows.
        partial: PathBuf,
    },
    /// The caller ended the work.
    #[error(
        "interrupted: {finished} of {tensors} tensors are finished and kept in {}; the same command \
         goes on from there (delete that file to give up)", partial.display()
    )]
    Interrupted {
        /// The file that holds them.
        partial: PathBuf,
        /// Tensors that are finished.
        finished: usize,
        /// All tensors.
        tensors: usize,
    },
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
}
