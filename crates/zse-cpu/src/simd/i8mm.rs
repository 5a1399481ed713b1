//! I8MM: NEON's products of small matrices of bytes. An instruction multiplies two columns with two
//! rows over 8 k, twice as many products as `sdot` makes.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::neon_asm::smmla;
use super::panel::{PanelDot, Right, Sums};
use super::{Dot, Neon};
use crate::ops::activations::{Group, PANEL};

/// Proof that the CPU has NEON with the dot product instructions and I8MM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I8mm(Neon<Dot>);

impl I8mm {
    /// The proof, if the CPU has the features.
    pub(crate) fn detect() -> Option<Self> {
        let vectors = Neon::detect_dot()?;
        is_aarch64_feature_detected!("i8mm").then_some(Self(vectors))
    }

    /// The vectors of the same CPU.
    pub(crate) fn vectors(self) -> Neon<Dot> {
        self.0
    }

    /// The products over `H` halves of the 32 k, from half `first` on. Four columns at a time fill
    /// half of the registers with sums.
    #[inline(always)]
    fn sum<const H: usize>(
        self,
        first: usize,
        left: &[Group; PANEL],
        right: &Right,
        sums: &mut Sums,
    ) {
        let columns = left.as_chunks::<4>().0;
        for (columns, sums) in columns.iter().zip(sums.0.as_chunks_mut::<4>().0) {
            // SAFETY: `self` proves that the CPU has the instructions; loads and stores stay within
            // the arrays that they are given.
            unsafe {
                // Of each pair of columns, with each pair of rows.
                let mut acc = [[vdupq_n_s32(0); 8]; 2];
                for half in first..first + H {
                    let x = columns.each_ref().map(|column| {
                        let halves = column.q.as_chunks::<16>().0;
                        vreinterpretq_s64_u8(vld1q_u8(halves[half].as_ptr()))
                    });
                    let pairs = [
                        [vzip1q_s64(x[0], x[1]), vzip1q_s64(x[2], x[3])],
                        [vzip2q_s64(x[0], x[1]), vzip2q_s64(x[2], x[3])],
                    ];
                    let rows = right.0[4 * half..][..4].as_flattened().as_chunks::<16>().0;
                    for (x, rows) in pairs.iter().zip(rows.as_chunks::<8>().0) {
                        for (r, rows) in rows.iter().enumerate() {
                            let w = vreinterpretq_s8_u8(vld1q_u8(rows.as_ptr()));
                            for (acc, x) in acc.iter_mut().zip(x) {
                                acc[r] = smmla(acc[r], vreinterpretq_s8_s64(*x), w);
                            }
                        }
                    }
                }
                for (acc, sums) in acc.iter().zip(sums.as_chunks_mut::<2>().0) {
                    let [even, odd] = sums.each_mut().map(|sums| sums.as_chunks_mut::<16>().0);
                    let acc = acc.map(|acc| vreinterpretq_s64_s32(acc));
                    for (i, [a, b]) in acc.as_chunks::<2>().0.iter().enumerate() {
                        vst1q_u8(
                            even[i].as_mut_ptr(),
                            vreinterpretq_u8_s64(vzip1q_s64(*a, *b)),
                        );
                        vst1q_u8(
                            odd[i].as_mut_ptr(),
                            vreinterpretq_u8_s64(vzip2q_s64(*a, *b)),
                        );
                    }
                }
            }
        }
    }
}

impl PanelDot for I8mm {
    /// To 8 k of two rows, then of the next two.
    #[inline(always)]
    fn arrange(&self, right: &mut Right) {
        for eight in right.0.as_chunks_mut::<2>().0 {
            // SAFETY: `self` proves that the CPU has NEON; loads and stores stay within the arrays
            // that they are given.
            unsafe {
                let [low, high] = eight.map(|four| {
                    let rows = four.as_chunks::<16>().0;
                    std::array::from_fn::<_, 4, _>(|i| {
                        vreinterpretq_u32_u8(vld1q_u8(rows[i].as_ptr()))
                    })
                });
                let to = eight.as_flattened_mut().as_chunks_mut::<32>().0;
                for (i, to) in to.iter_mut().enumerate() {
                    let [first, second] =
                        [vzip1q_u32(low[i], high[i]), vzip2q_u32(low[i], high[i])];
                    vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_u32(first));
                    vst1q_u8(to[16..].as_mut_ptr(), vreinterpretq_u8_u32(second));
                }
            }
        }
    }

    #[inline(always)]
    fn dot(&self, left: &[Group; PANEL], right: &Right, sums: &mut Sums) {
        self.sum::<2>(0, left, right, sums);
    }

    #[inline(always)]
    fn dot_halves(&self, left: &[Group; PANEL], right: &Right, sums: &mut [Sums; 2]) {
        for (half, sums) in sums.iter_mut().enumerate() {
            self.sum::<1>(half, left, right, sums);
        }
    }
}
