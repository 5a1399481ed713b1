//! The CUDA executor: kernels for NVIDIA GPUs of compute capability 8.0 and above.
//!
//! `CudaBackend` compiles a model for one GPU. Weights are uploaded once and permuted on the device
//! into planes that kernels read 16 bytes a lane (`kernels/layouts.cuh`); intermediate results lie in
//! one arena, planned from the program; keys and values in blocks that the engine numbers. A step is a
//! few hundred launches on one stream without a wait between them; decoding replays them as a graph.
//!
//! The library is empty without the feature `cuda`, which needs `nvcc` when it is built. It finds the
//! driver when it runs: without one, `CudaBackend::open` says so, and nothing else happens.
//!
//! **Exactness.** Sums are made in f32 in orders that depend on the number of columns of a product:
//! a token's logits can differ in their last bits with what else is in the batch, unless the backend is
//! made so (`CudaBackend::deterministic`).
#![cfg(feature = "cuda")]
#![deny(unsafe_op_in_unsafe_fn)]

mod backend;
mod device;
mod error;
mod executor;
mod kv;
mod ops;
mod weights;

pub use backend::{CudaBackend, Kernels};
pub use device::{Gpu, Watch, cublas, energy, gpus, is_broken, is_failed};
pub use error::CudaError;
