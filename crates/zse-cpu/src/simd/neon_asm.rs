//! NEON instructions whose intrinsics are not stable yet.

use std::arch::aarch64::{float32x4_t, int8x16_t, int32x4_t, uint16x4_t};
use std::arch::asm;

/// To each lane of `acc`, the dot product of four signed bytes of `w` and `x`.
///
/// # Safety
/// The CPU must have the dot product instructions (`dotprod`).
#[inline(always)]
pub(super) unsafe fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction on registers alone, which the caller vouches for.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Four f16 as f32.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn widen_f16(x: uint16x4_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: an instruction of NEON on registers alone.
    unsafe {
        asm!(
            "fcvtl {out:v}.4s, {x:v}.4h",
            out = out(vreg) out,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    out
}
