//! What can go wrong with a tokenizer or a chat template.

use zse_format::FormatError;

/// Why a tokenizer or a chat template could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A key of the model's metadata is absent or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] FormatError),
    /// The kind of tokenizer is not supported.
    #[error(
        "tokenizer.ggml.model {model:?} is not supported; supported are llama (SentencePiece BPE), \
         gpt2 and gemma4 (BPE), t5 (Unigram) and bert (WordPiece)"
    )]
    UnsupportedModel {
        /// The value of `tokenizer.ggml.model`.
        model: String,
    },
    /// The splitting rules of a byte-level BPE tokenizer are not known.
    #[error(
        "tokenizer.ggml.pre {pre:?} is not a known pre-tokenizer; convert the model again with a \
         current converter, or override the key"
    )]
    UnknownPreTokenizer {
        /// The value of `tokenizer.ggml.pre`.
        pre: String,
    },
    /// The vocabulary contradicts itself.
    #[error("{field} {problem}")]
    Vocabulary {
        /// The metadata key or field that is wrong.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A pre-tokenizer's pattern is not one the splitter understands.
    #[error("pattern {pattern:?}: {problem} at byte {offset}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Where it is wrong.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A chat template does not parse, or failed while rendering.
    #[error("chat template: {message}")]
    Template {
        /// What is wrong, with the line where it is known.
        message: String,
    },
    /// A chat template raised an error itself (`raise_exception`): the conversation breaks one of
    /// its rules.
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// A chat template went over a limit that keeps hostile ones harmless.
    #[error("chat template: {limit} is over its limit")]
    TemplateLimit {
        /// Which limit.
        limit: &'static str,
    },
    /// No template goes by that name.
    #[error("the model has no chat template {name:?}; it has {available}")]
    NoSuchTemplate {
        /// The name asked for.
        name: String,
        /// The names that exist, separated by commas.
        available: String,
    },
}
