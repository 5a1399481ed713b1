//! Which KV blocks hold which sequence. The executor owns the bytes of a block; here are only
//! numbers.

mod blocks;

pub use blocks::{BlockManager, BlockTables};
