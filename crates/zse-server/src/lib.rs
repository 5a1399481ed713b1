//! Serves models over HTTP, with the API that OpenAI's clients speak.
//!
//! [`Server::bind`] checks the settings and takes the port, [`Server::run`] serves until it is told
//! to stop, and then lets what runs come to its end. Each endpoint is a file
//! in `routes/`; whatever a request gets wrong becomes an `ApiError`, and so
//! OpenAI's error object.
//!
//! Inside: `models` has what is served, `downloads` what is on its way, `guard` decides who may ask at all, `request` reads a body and refuses what it does not
//! know by name, `job` runs a generation on a thread that may block and stops it when nobody
//! listens any more, `sse` streams.
//!
//! ```no_run
//! use zse::{LoadOptions, ModelSource};
//! use zse_server::{Config, Served, Server};
//!
//! let server = Server::bind(Config::default())?;
//! println!("http://{}", server.address());
//! let mut model = Served::on_request("builtin", ModelSource::Builtin, LoadOptions::default());
//! model.load()?;
//! let stop = server.interrupted()?;
//! server.run(vec![model], stop)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod chat;
mod config;
mod connection;
mod downloads;
mod embed;
mod error;
mod form;
mod gap;
mod guard;
mod job;
mod json;
mod logprobs;
mod metrics;
mod models;
mod openapi;
mod patience;
mod registry;
mod request;
mod routes;
mod sampling;
mod server;
mod sse;
mod state;
mod usage;
mod waiting;

pub use config::{AskGpu, Config, Report, ServeError};
pub use models::{LoadTimes, Served};
pub use registry::{LoadBy, Registry, Verdict};
pub use server::{Ended, Server};
