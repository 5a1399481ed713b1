//! The CPU executor: a thread pool, packed weights and SIMD kernels.
//!
//! [`CpuBackend`] compiles a model for the CPU. Weights are packed as they are loaded (16 rows
//! side by side, see [`zse_quant::pack`]), the instruction set is chosen once ([`Isa`]), and all
//! models of a process share one pool of threads.
//!
//! **Exactness.** The logits of a token are the same bits whether it is computed alone, in a
//! prompt chunk of any size or beside other sequences, whether its prefix was cached, on any
//! number of threads and under any instruction set. Every kernel keeps this by adding in an order
//! that depends on nothing but the numbers' own positions: products by the contract of
//! [`zse_quant::contract`], norms in 16 lanes and a fixed tree, attention by spans of keys that
//! start at fixed positions. `tests/exactness.rs` holds it for every type.
#![deny(unsafe_op_in_unsafe_fn)]

mod backend;
mod executor;
mod isa;
mod kv;
mod memory;
mod ops;
mod pages;
mod par;
mod peak;
mod pool;
mod simd;
mod weights;

pub use backend::CpuBackend;
pub use executor::tiled_tensors;
pub use isa::Isa;
pub use memory::{SystemMemory, system_memory};
pub use peak::Peaks;
