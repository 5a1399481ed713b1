//! Which KV blocks hold which sequence, and which keep what may be asked for again. The executor
//! owns the bytes of a block; here are only numbers.

mod blocks;
mod prefix;
#[cfg(test)]
mod tests;

pub use blocks::{BlockManager, BlockTable};
