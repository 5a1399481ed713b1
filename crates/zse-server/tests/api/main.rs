//! The server, used through real sockets, with the built-in model.

mod access;
mod anthropic;
mod cancel;
mod chat;
mod common;
mod completions;
mod echo;
mod embeddings;
mod form;
mod hostile;
mod lifecycle;
mod lora;
mod models;
mod ollama;
mod openapi;
mod parameters;
mod registry;
mod rerank;
mod responses;
mod text;
mod transcripts;
mod ws;
