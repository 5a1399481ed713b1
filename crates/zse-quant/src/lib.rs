//! ggml's block quantization formats: the type table, scalar decode and encode, the numeric
//! contract of quantized dot products, and the packed layout that SIMD kernels read.
//!
//! ```
//! use zse_quant::{GgmlType, decode, encode};
//!
//! let weights: Vec<f32> = (0..64).map(|i| (i as f32 * 0.3).sin()).collect();
//! let mut bytes = vec![0; GgmlType::Q8_0.row_bytes(64).unwrap()];
//! encode(GgmlType::Q8_0, &weights, 64, None, &mut bytes)?;
//!
//! let mut back = vec![0.0; 64];
//! decode(GgmlType::Q8_0, &bytes, &mut back)?;
//! assert!(weights.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.005));
//! # Ok::<(), zse_quant::QuantError>(())
//! ```
//!
//! A format is one file (its block, and how 32 of its weights unpack to small integers and
//! scales) and one row of the table in `types.rs`; decode, dot products and packing follow from
//! that. Encoders live in `encode/`.
//!
//! Block layouts are those of ggml (<https://github.com/ggml-org/ggml>, `ggml-common.h`), and
//! all numbers are little-endian.

mod block;
pub mod contract;
mod decode;
pub mod e4m3;
mod encode;
mod error;
mod float;
mod format;
pub mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod kquants;
mod legacy;
mod lowbit;
mod mx;
pub mod pack;
mod ternary;
mod types;

pub use block::Field;
pub use decode::decode;
pub use encode::{can_encode, encode, encode_groups};
pub use error::QuantError;
pub use types::GgmlType;
