//! What callers of an engine may rely on, tested through its public interface.

mod batching;
mod common;
mod lifecycle;
mod reference;
mod threads;
