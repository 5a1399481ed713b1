//! Models from the Hugging Face hub.
//!
//! A [`Hub`] lists what a repository holds, searches, and [pulls](Hub::pull) models into the
//! [`Cache`] that it shares with `huggingface_hub`: what either has fetched, the other finds. Names
//! are [`ModelRef`]s, `org/name:Q4_K_M`. The [`catalogue`](Catalogue) describes models that many
//! people run; a [`Shape`] tells from a model's `config.json` how much memory it takes in which quant.
//!
//! Everything that a server says is untrusted: names become paths only when they stay below their
//! folder, answers have limits of size and time, contents are what their hash says or are dropped,
//! and the token goes to the endpoint's own host and nowhere else.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use zse_hub::{Config, Hub};
//!
//! let hub = Hub::new(Config::from_env()?)?;
//! let model = "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M".parse()?;
//! let pulled = hub.pull(&model, Hub::CONNECTIONS, |p| {
//!     println!("{} of {} bytes", p.done, p.total);
//!     ControlFlow::Continue(())
//! })?;
//! println!("{}", pulled.model.path.display());
//! # Ok::<(), zse_hub::HubError>(())
//! ```
#![forbid(unsafe_code)]

mod api;
mod cache;
mod catalogue;
mod check;
mod config;
mod digest;
mod error;
mod fetch;
mod http;
mod hub;
mod list;
mod name;
mod partial;
mod progress;
mod quant;
mod select;
mod shape;

pub use api::{Found, Order, RepoFile, RepoInfo, Search};
pub use cache::{Cache, LocalModel};
pub use catalogue::{Catalogue, Entry, Runs};
pub use check::{Checked, Open, Outlook};
pub use config::{Config, Patience, Token};
pub use error::HubError;
pub use hub::{Hub, Pulled};
pub use list::{Filter, Listed, Listing, Memory};
pub use name::{Choice, ModelRef, RepoId};
pub use progress::Progress;
pub use select::Selection;
pub use shape::{QuantPlan, Shape, ShapeError};
