//! AMX: products of tiles of bytes, whose intrinsics are not stable yet.
//!
//! A tile register holds up to 16 rows of 64 bytes: columns of activations, or four k of 16 rows of
//! weights in each.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max, _xgetbv};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::Avx512;
use super::panel::{PanelDot, Right, Sums};
use crate::ops::activations::{Group, PANEL};

/// Shapes of the tile registers, as the instruction reads them: palette, first row, then bytes a
/// row and rows by register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    unused: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

// The instruction reads this much.
const _: () = assert!(size_of::<Config>() == 64);
// Rows of a tile register.
const _: () = assert!(PANEL == 16);

/// Proof that the CPU has AVX-512 with VNNI and AMX for bytes, and that the system lets this
/// process use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512);

thread_local! {
    /// Whether this thread has [`Registers`].
    static IN_USE: Cell<bool> = const { Cell::new(false) };
}

/// Tile registers set up on this thread, until dropped.
pub(crate) struct Registers {
    /// They are the thread's.
    _not_send: PhantomData<*const ()>,
}

impl Amx {
    /// The proof, if the CPU has the features and the system grants their use.
    pub(crate) fn detect() -> Option<Self> {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512::detect()?;
        GRANTED
            .get_or_init(|| has_tiles() && request_tiles())
            .then_some(Self(vectors))
    }

    /// The vectors of the same CPU.
    pub(crate) fn vectors(self) -> Avx512 {
        self.0
    }

    /// Sets up the tile registers of this thread.
    ///
    /// # Panics
    /// If they are in use: who drops the one would take them from the other.
    pub(crate) fn registers(self) -> Registers {
        assert!(!IN_USE.replace(true), "tile registers are in use");
        let mut config = Config {
            palette: 1,
            start: 0,
            unused: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        // 0 and 1: sums. 2 and 3: operands over 32 k. 4 and 5: over 16 k.
        let shapes = [(16, 64), (16, 64), (16, 32), (8, 64), (16, 16), (4, 64)];
        for (i, (rows, row_bytes)) in shapes.into_iter().enumerate() {
            config.rows[i] = rows;
            config.row_bytes[i] = row_bytes;
        }
        // SAFETY: `self` proves that the instruction may be used; it reads the 64 bytes of
        // `config`. It zeroes all tile registers, which is said below. Registers and shapes are
        // the callee's to change in the calling convention of x86-64, so no caller of ours relies
        // on them. The shapes last as long as `Registers` does: there is one on this thread, and
        // no foreign code runs while it lives.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                config = in(reg) &raw const config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
        Registers {
            _not_send: PhantomData,
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the registers were set up on this thread, so the CPU has the instruction. It
        // zeroes them all and forgets their shapes; nobody relies on either, as said above.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem, preserves_flags),
            );
        }
        IN_USE.set(false);
    }
}

impl PanelDot for Registers {
    /// As they come.
    #[inline(always)]
    fn arrange(&self, _: &mut Right) {}

    #[inline(always)]
    fn dot(&self, left: &[Group; PANEL], right: &Right, sums: &mut Sums) {
        // SAFETY: `self` proves that the registers are set up on this thread, and for nobody else:
        // 0 as 16 rows of 64 bytes, 2 as 16 of 32, 3 as 8 of 64, which are read and written within
        // the structs.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm2, [{left} + {left_row}]",
                "tileloadd tmm3, [{right} + {row}]",
                "tdpbssd tmm0, tmm2, tmm3",
                "tilestored [{sums} + {row}], tmm0",
                left = in(reg) left,
                right = in(reg) right,
                sums = in(reg) sums,
                left_row = in(reg) size_of::<Group>(),
                row = in(reg) 64usize,
                out("tmm0") _, out("tmm2") _, out("tmm3") _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn dot_halves(&self, left: &[Group; PANEL], right: &Right, sums: &mut [Sums; 2]) {
        // SAFETY: as in `dot`; registers 1, 4 and 5 are set up as 16 rows of 64 bytes, 16 of 16
        // and 4 of 64, and the second halves start 16 bytes into a row of `left`, 256 bytes into
        // `right` and 1024 into `sums`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm4, [{left} + {left_row}]",
                "tileloadd tmm5, [{right} + {row}]",
                "tdpbssd tmm0, tmm4, tmm5",
                "tileloadd tmm4, [{left} + {left_row} + 16]",
                "tileloadd tmm5, [{right} + {row} + 256]",
                "tdpbssd tmm1, tmm4, tmm5",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                left = in(reg) left,
                right = in(reg) right,
                sums = in(reg) sums,
                left_row = in(reg) size_of::<Group>(),
                row = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Whether the CPU has tile registers and products of bytes, and the system saves the registers.
fn has_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 1 << 24;
    const BYTES: u32 = 1 << 25;
    const SAVED: u64 = 3 << 17;
    if __get_cpuid_max(0).0 < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: with OSXSAVE the CPU has the instruction.
    let saved = unsafe { saved_states() };
    __cpuid_count(7, 0).edx & (TILES | BYTES) == TILES | BYTES && saved & SAVED == SAVED
}

/// The states that the system saves.
#[target_feature(enable = "xsave")]
fn saved_states() -> u64 {
    // SAFETY: register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the use of tile registers in this process, which it grants only on request.
#[cfg(target_os = "linux")]
fn request_tiles() -> bool {
    const ARCH_PRCTL: isize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: the system call takes two numbers and touches no memory of the process; the
    // instruction overwrites rcx and r11, which are given up.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems' rules are not known here.
#[cfg(not(target_os = "linux"))]
fn request_tiles() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_registers_once() {
        let Some(amx) = Amx::detect() else {
            return;
        };
        let first = amx.registers();
        assert!(std::panic::catch_unwind(|| drop(amx.registers())).is_err());
        // They are as they were.
        let group = Group {
            q: [1; 32],
            ..Group::ZERO
        };
        let (left, right) = ([group; PANEL], Right([[1; 64]; 8]));
        let mut sums = Sums::ZERO;
        first.dot(&left, &right, &mut sums);
        assert_eq!(sums.0[0][..4], 32i32.to_le_bytes());
        drop(first);
        drop(amx.registers());
    }
}
