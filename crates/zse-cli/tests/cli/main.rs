//! The `zse` binary, used as a person or a script would, on the built-in model.
#![cfg(feature = "builtin")]

mod chat;
mod common;
mod convert;
mod lora;
mod measure;
mod memory;
mod model;
mod models;
mod run;
mod serve;
mod terminal;
mod usage;
