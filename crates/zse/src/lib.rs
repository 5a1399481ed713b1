//! Run large language models: the SDK of ZSE.
//!
//! ```
//! use zse::{ChatRequest, Engine, Generate, LoadOptions, Message, ModelSource, Role, SampleParams};
//!
//! // The built-in model; `"path/to/model.gguf".parse()?` loads a file.
//! let engine = Engine::load(&ModelSource::Builtin, &LoadOptions::default())?;
//!
//! let request = ChatRequest::new(vec![Message::new(Role::User, "What is ZSE?")]);
//! let settings = Generate { params: SampleParams::greedy(), ..Generate::default() };
//! for chunk in engine.chat(&request, &settings)? {
//!     print!("{}", chunk?.text);
//! }
//! # Ok::<(), zse::Error>(())
//! ```
//!
//! An [`Engine`] generates ([`generate`](Engine::generate), [`chat`](Engine::chat)), embeds
//! ([`embed`](Engine::embed)), ranks ([`relevance`](Engine::relevance)) and scores ([`score`](Engine::score),
//! [`perplexity`](Engine::perplexity)); requests of several threads are computed together, up to
//! [`LoadOptions::sequences`] at a time, and what a request gives does not depend on the others.
//! [`Generate`] asks for the form of a text, a priority, and whose keys and values it may find;
//! [`Engine::metrics`] counts. Adapters (LoRA) are loaded beside the model
//! ([`LoadOptions::adapters`], [`Engine::load_adapter`]) and used by the requests that ask for them
//! ([`Engine::with_adapters`]). Who may go away before a result is there asks by
//! [`Engine::until`]. [`LoadOptions::memory`] says beforehand what memory a model needs,
//! [`mod@plan`] what fits into an amount of it, [`mod@bench`] measures speed, [`quantize`] writes a
//! model's weights in other types, [`convert`] whole models in other formats.
//!
//! Feature `builtin` (on by default) makes a small chat model part of the program; feature `cuda` lets
//! models run on NVIDIA GPUs ([`Device::Cuda`]).
#![forbid(unsafe_code)]

mod adapters;
pub mod bench;
mod chat;
pub mod convert;
mod device;
mod engine;
mod error;
mod generation;
mod options;
mod perplexity;
pub mod plan;
pub mod quantize;
mod rerank;
mod room;
mod source;
mod until;
mod weight_kind;
mod words;

pub use adapters::{AdapterInfo, AdapterSource};
pub use chat::ChatRequest;
pub use device::{Device, GpuState, gpu_state};
pub use engine::Engine;
pub use error::Error;
pub use generation::{Chunk, Generation, Progress};
pub use options::LoadOptions;
pub use perplexity::{Perplexity, PerplexityProgress};
pub use source::ModelSource;
pub use until::{Scoring, Until};
pub use weight_kind::WeightKind;
pub use words::tokens_containing;

pub use zse_cpu::{Isa, SystemMemory, system_memory};
#[cfg(feature = "cuda")]
pub use zse_cuda::{Gpu, cublas, gpus};
pub use zse_engine::{
    AdapterLoadError, Completion, Ended, EngineError, FinishReason, Finished, Generate, Histogram,
    Limits, Metrics, RequestError, Score, SwapConfig, SwapDisk, Timings, TokenInfo, Usage,
};
/// Model files: metadata and tensors.
pub use zse_format as format;
pub use zse_model::executor::{Fuse, KvType, MemoryReport};
pub use zse_model::sampler::{Mirostat, ParamError, SampleParams};
pub use zse_model::{AdapterError, Model, ModelInfo, Program};
pub use zse_text::{
    AnswerFormat, AnswerPiece, AnswerReader, CHATML, ChatTemplate, Constraint, Content,
    DecodeStream, Grammar, GrammarError, Message, Role, StopMatcher, TOOL_CALL_CLOSE,
    TOOL_CALL_OPEN, TextError, Tokenizer, TooManyTokens, ToolCall, Wanted, parse_tool_calls,
    template_reads,
};
