//! Everything that can go wrong, with what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use zse_engine::{AdapterLoadError, EngineError, RequestError};
use zse_format::FormatError;
use zse_model::executor::{ExecError, LoadError};
use zse_model::{AdapterError, ModelError};
use zse_text::TextError;

use crate::Perplexity;
use crate::convert::ConvertError;
use crate::quantize::QuantizeError;

/// Why something could not be done. Messages are for people: they name the file, the tensor or the
/// field, and say what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is neither a file nor the built-in model.
    #[error(
        "there is no model '{name}': MODEL is the path of a GGUF or .zse file or of a directory with \
         safetensors files, or `builtin`; `zse models list` shows what can be pulled"
    )]
    UnknownModel {
        /// What was asked for.
        name: String,
    },
    /// A file of a format that is not read yet.
    #[error("{} is {what}, which this version does not read; give a GGUF file or a directory \
         with safetensors files", path.display())]
    UnsupportedFormat {
        /// The file or directory.
        path: PathBuf,
        /// What it seems to be.
        what: &'static str,
    },
    /// The built-in model was left out when this program was built.
    #[error(
        "this build has no built-in model (it was built without the feature `builtin`); give the \
         path of a GGUF file"
    )]
    NoBuiltin,
    /// A device that cannot be used.
    #[error("device '{name}' cannot be used: {why}")]
    Device {
        /// The device asked for.
        name: String,
        /// Why not.
        why: String,
    },
    /// A GPU cannot be used.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] zse_cuda::CudaError),
    /// The file cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The file is no model that can be run.
    #[error("{file}: cannot build the model")]
    Model {
        /// The file.
        file: String,
        /// Why.
        source: ModelError,
    },
    /// The tokenizer or the chat template cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The device cannot take the model.
    #[error("the model cannot be loaded")]
    Load(#[from] LoadError),
    /// A GPU has no room for the model.
    #[error(
        "{device} has no room for this model: {:.2} GiB are needed, {:.2} GiB are free. {advice}",
        *needed as f64 / f64::from(1 << 30),
        *free as f64 / f64::from(1 << 30)
    )]
    NoRoom {
        /// The GPU.
        device: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free for models.
        free: u64,
        /// What would fit.
        advice: String,
    },
    /// No plan fits.
    #[error(
        "{file} needs at least {:.2} GiB, but {:.2} GiB are allowed: allow more, ask for a shorter \
         context (--ctx), or take a smaller model",
        *needed as f64 / f64::from(1 << 30),
        *memory as f64 / f64::from(1 << 30)
    )]
    NoFit {
        /// The model's file.
        file: String,
        /// Bytes allowed.
        memory: u64,
        /// The least that would do, with weights left in the file.
        needed: u64,
    },
    /// The system has no thread for the engine.
    #[error("cannot start the engine's thread")]
    Thread(#[source] std::io::Error),
    /// There is no file for swapped keys and values, or they cannot be compacted.
    #[error(
        "keys and values cannot be swapped as asked for; a folder must be one that can be written to"
    )]
    Swap(#[source] std::io::Error),
    /// An adapter is not for this model, cannot be read, or the device has no kernels for it.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// An adapter without a name or a path.
    #[error("'{text}' names no adapter: give the path of one, or NAME=PATH")]
    AdapterSource {
        /// What was given.
        text: String,
    },
    /// A name that is taken.
    #[error("there is an adapter '{name}' already: unload it first, or give another name")]
    AdapterExists {
        /// The name.
        name: String,
    },
    /// A name that stands for none.
    #[error("there is no adapter '{name}'; load it first")]
    NoAdapter {
        /// The name.
        name: String,
    },
    /// The engine refused the request, failed, or has stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The device failed in a forward pass.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A request failed while it ran.
    #[error("the request failed: {0}")]
    Failed(String),
    /// A model without single, different tokens for "yes" and "no", by which documents are ranked.
    #[error(
        "the model cannot rank documents: its vocabulary has no single tokens for yes and no; load a \
         reranker"
    )]
    NoAnswers,
    /// A continuation to wait for that had ended, and was read to its end, before.
    #[error("nothing is left of the first continuation: it was read to its end already")]
    AlreadyRead,
    /// More tokens than the context holds.
    #[error(
        "{tokens} tokens are needed, the context holds {context}: give a larger context (--ctx) or a \
         smaller test or prompt"
    )]
    TooLong {
        /// Tokens needed.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// A bench test of no sequences.
    #[error("test {test} has 0 sequences: give at least 1")]
    NoSequences {
        /// The test's name.
        test: String,
    },
    /// A device whose executor does not say where its time goes.
    #[error(
        "{backend} cannot be profiled: it does not tell its operations apart: give --device cpu"
    )]
    NoProfile {
        /// Its name.
        backend: String,
    },
    /// A device whose executor does not say what its weights meet.
    #[error("{backend} does not tell what its weights meet: give --device cpu")]
    NoSquares {
        /// Its name.
        backend: String,
    },
    /// A bench test that needs more room than the tests did for which the model was loaded.
    #[error(
        "test {test} does not fit {sequences} sequences of {context} tokens, for which the model \
         was loaded: load it with this test among the others"
    )]
    NotLoadedFor {
        /// The test's name.
        test: String,
        /// Tokens that a sequence may grow to.
        context: usize,
        /// Sequences that there may be.
        sequences: usize,
    },
    /// A text too short for what is to be measured.
    #[error(
        "the text has {tokens} tokens, a chunk needs {chunk}: give a longer text or a smaller \
         context (--ctx)"
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a chunk.
        chunk: usize,
    },
    /// Chunks so short that none of their tokens would be scored.
    #[error(
        "chunks need at least {} tokens, not {chunk}: give a larger context (--ctx)",
        Perplexity::MIN_CHUNK
    )]
    ChunkTooShort {
        /// Tokens of a chunk.
        chunk: usize,
    },
    /// Quantization failed.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A model was not converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl From<AdapterLoadError> for Error {
    fn from(error: AdapterLoadError) -> Self {
        match error {
            AdapterLoadError::Refused(error) => Self::Adapter(error),
            AdapterLoadError::Stopped => Self::Engine(EngineError::Stopped),
        }
    }
}

impl Error {
    /// Whether a request was refused because its prompt is longer than the context or the KV cache
    /// allows; a shorter one may do.
    pub fn is_too_long(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::Refused(RequestError::TooLong { .. }))
        )
    }

    /// Whether a request was refused because of its constraint
    /// ([`Generate::constraint`](crate::Generate::constraint)).
    pub fn is_constraint(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::Refused(RequestError::Constraint(_)))
        )
    }

    /// When to try again, where a request was refused because too many wait
    /// ([`LoadOptions::max_waiting`](crate::LoadOptions::max_waiting)).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Engine(EngineError::Busy { retry_after, .. }) => Some(*retry_after),
            _ => None,
        }
    }
}
