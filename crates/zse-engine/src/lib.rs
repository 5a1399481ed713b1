//! The engine: many requests, one model, one step after another.
//!
//! [`Engine::step`] reads as: admit -> plan -> submit, masks beside it -> sample -> emit -> retire. Which
//! sequences are in a step is decided by the scheduler, a state machine without I/O, clocks, threads
//! or devices; which KV blocks they use, and which of those of earlier requests they find again, by
//! the [`kv`] block manager, which knows numbers of blocks and never their bytes. Everything else is a
//! request's own: its text, its stop strings, its grammar, its channel.
//!
//! [`Engine::start`] moves an engine to a thread of its own and gives a handle that any number of
//! threads may use; a caller with one request can drive the engine itself with
//! [`Engine::complete`].
//!
//! The tokens of a request do not depend on what else runs, on how its prompt is cut into chunks, on
//! what of it was in the prefix cache, or on whether it had to give way and start again: executors are
//! exact whatever the batch, and draws are keyed by position.
//!
//! Requests may use adapters ([`EngineHandle::load_adapter`]), each its own, and share steps
//! nevertheless; what the prefix cache has of one is found by requests with the same ones only.
//!
//! The urgent go first ([`Generate::priority`]), but never for ever: of 17 places that a less urgent
//! request waits for while later ones overtake it, one is its own.
//!
//! A device may fail so that no step can run on it any more. Whoever was in that step hears of it; then the
//! executor is made anew ([`Engine::with_rebuild`]), and all others compute their tokens again.
//!
//! [`EngineHandle::submit`] refuses what can never fit and what a full queue cannot take; who drops an
//! [`EventStream`] is gone within a step. [`Metrics`] say how it goes.
//!
//! ```
//! use zse_engine::{Engine, EngineConfig, FinishReason, Generate, Request};
//! use zse_model::conformance::{DecoderSpec, decoder};
//! use zse_model::executor::Budget;
//! use zse_model::reference::Reference;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = decoder(&DecoderSpec::small(zse_quant::GgmlType::F32), 1)?;
//! let budget = Budget::for_context(64, 4, 32);
//! let engine = Engine::load(&Reference, model, None, &budget, EngineConfig::default())?.start()?;
//!
//! let generate = Generate { max_tokens: Some(5), n: 2, ..Generate::default() };
//! let stream = engine.submit(Request::generate(vec![1, 2, 3], generate))?;
//! for completion in stream.completions() {
//!     assert_eq!(completion.tokens.len(), 5);
//!     assert_eq!(completion.finished.reason, FinishReason::Length);
//! }
//! assert_eq!(engine.score(vec![1, 2, 3], 1, "")?.len(), 2);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod adapters;
mod ageing;
mod batch;
mod channel;
mod config;
mod constraint;
mod drawn;
mod ended;
mod engine;
mod event;
mod generation;
mod handle;
pub mod kv;
mod masks;
mod metrics;
mod queue;
mod reading;
mod rebuild;
mod request;
mod scheduler;
mod score;
mod sequence;
mod text;

pub use adapters::{AdapterChoice, AdapterLoadError, LoadedAdapter};
pub use channel::EventStream;
pub use config::{EngineConfig, ModelShape};
pub use ended::Ended;
pub use engine::Engine;
pub use event::{Completion, Event, FinishReason, Finished, Timings, TokenInfo, Usage};
pub use handle::{EngineError, EngineHandle};
pub use kv::swap::{SwapConfig, SwapDisk};
pub use metrics::{Histogram, Metrics};
pub use reading::IsGone;
pub use rebuild::Rebuild;
pub use request::{Generate, Limits, Request, RequestError, Score, Task};
