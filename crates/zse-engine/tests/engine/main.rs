//! What callers of an engine may rely on, tested through its public interface.

mod adapters;
mod ageing;
mod batching;
mod cancel;
mod chaos;
mod common;
mod constrained;
mod lifecycle;
mod prefix;
mod rebuild;
mod reference;
mod swap;
mod threads;
