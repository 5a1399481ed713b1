//! Launchers: one file a kernel source, with the shapes that its kernels expect.
//!
//! Every function here puts launches on the device's stream and returns at once. Pointers are parts of
//! the executor's arenas, sized by its plan for the rows of the batch; that, and that one stream orders
//! everything, is what their unsafe blocks rely on.

pub(crate) mod attention;
pub(crate) mod draw;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod fp8;
#[cfg(test)]
mod fp8_tests;
pub(crate) mod gemm;
pub(crate) mod gemm_bytes;
pub(crate) mod gemm_cublas;
pub(crate) mod gemm_hopper;
pub(crate) mod gemv;
pub(crate) mod kv;
pub(crate) mod moe;
pub(crate) mod norm;
pub(crate) mod quantize;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod sample;

use zse_model::program::Act;

/// The number of an activation in `kernels/common.cuh`.
pub(crate) fn act_number(act: Act) -> i32 {
    match act {
        Act::Silu => 0,
        Act::GeluErf => 1,
        Act::GeluTanh => 2,
        Act::Relu => 3,
    }
}
