//! Which KV blocks hold which sequence, and which keep what may be asked for again. The executor
//! owns the bytes of a block; here are only numbers, but for `swap`, `swap_file` and `compact`, which keep
//! bytes of blocks that had to give way.

mod blocks;
mod compact;
mod prefix;
pub(crate) mod swap;
mod swap_file;
#[cfg(test)]
mod tests;

pub use blocks::{BlockManager, BlockOp, BlockTable, Slot};
