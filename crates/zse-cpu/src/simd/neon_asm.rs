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

/// To the lanes of `acc`, the dot products of two rows of eight signed bytes of `a` with two of `b`:
/// first with first, first with second, second with first, second with second.
///
/// # Safety
/// The CPU must have the instructions for products of matrices of bytes (`i8mm`).
#[inline(always)]
pub(super) unsafe fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction on registers alone, which the caller vouches for.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
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
