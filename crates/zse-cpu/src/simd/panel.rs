//! Products of a panel of 16 columns of activations with 16 rows of weights, for instruction sets that
//! multiply matrices: [`amx`](super::amx), [`i8mm`](super::i8mm).

use super::{Kernel, Simd};
use crate::ops::activations::{Group, PANEL};

/// 16 rows of weights over 32 k, as signed bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Right(pub(crate) [[u8; 64]; 8]);

impl Right {
    pub(crate) const ZERO: Self = Self([[0; 64]; 8]);
}

/// Sums of products, of 32 bits: row c has those of column c with 16 rows of weights.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[u8; 64]; PANEL]);

impl Sums {
    pub(crate) const ZERO: Self = Self([[0; 64]; PANEL]);
}

// Implementations read and write this much.
const _: () = assert!(size_of::<Right>() == 512);
const _: () = assert!(size_of::<Sums>() == 1024);

/// What multiplies panels, exactly. All methods are `#[inline(always)]`.
pub(crate) trait PanelDot {
    /// Brings weights into the order that products read them in. They come with four k of each row,
    /// then the next four; each half of the bytes stays 16 k.
    fn arrange(&self, right: &mut Right);

    /// The dot products of 16 columns with 16 rows over 32 k.
    fn dot(&self, left: &[Group; PANEL], right: &Right, sums: &mut Sums);

    /// As [`PanelDot::dot`], but with the sums over the first and the last 16 k apart.
    fn dot_halves(&self, left: &[Group; PANEL], right: &Right, sums: &mut [Sums; 2]);
}

/// Code that runs under an instruction set with products of panels: a [`Kernel`] with these. `run`
/// must be `#[inline(always)]`.
pub(crate) trait PanelKernel {
    /// Runs on the vectors of `s`.
    fn run<S: Simd>(self, s: S, unit: &impl PanelDot);
}

/// A [`PanelKernel`] and what multiplies its panels.
pub(crate) struct With<'a, K, P> {
    pub(crate) kernel: K,
    pub(crate) unit: &'a P,
}

impl<K: PanelKernel, P: PanelDot> Kernel for With<'_, K, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.kernel.run(s, self.unit);
    }
}

#[cfg(test)]
mod tests {
    use zse_model::conformance::Rng;

    use super::*;
    use crate::isa::{Arch, Isa};

    /// Products of a panel with weights as they come.
    struct Products<'a> {
        left: &'a [Group; PANEL],
        right: Right,
        whole: &'a mut Sums,
        halves: &'a mut [Sums; 2],
    }

    impl PanelKernel for Products<'_> {
        #[inline(always)]
        fn run<S: Simd>(mut self, _: S, unit: &impl PanelDot) {
            unit.arrange(&mut self.right);
            unit.dot(self.left, &self.right, self.whole);
            unit.dot_halves(self.left, &self.right, self.halves);
        }
    }

    #[test]
    fn products_of_panels_are_exact() {
        let mut rng = Rng::new(6);
        let units = Isa::available().into_iter().filter_map(Arch::of);
        for unit in units.filter_map(Arch::panels) {
            for _ in 0..100 {
                let mut byte = || match rng.below(4) {
                    0 => i8::MIN as u8,
                    _ => rng.bits() as u8,
                };
                let left = std::array::from_fn(|_| Group {
                    q: std::array::from_fn(|_| byte()),
                    ..Group::ZERO
                });
                let right = Right(std::array::from_fn(|_| std::array::from_fn(|_| byte())));
                let (mut whole, mut halves) = (Sums::ZERO, [Sums::ZERO; 2]);
                unit.run(Products {
                    left: &left,
                    right,
                    whole: &mut whole,
                    halves: &mut halves,
                });
                for (c, column) in left.iter().enumerate() {
                    for row in 0..16 {
                        let product = |k: usize| {
                            let weight = right.0[k / 4][4 * row + k % 4];
                            i32::from(column.q[k] as i8) * i32::from(weight as i8)
                        };
                        let [first, second] = [0..16, 16..32].map(|k| k.map(product).sum::<i32>());
                        let got = [&whole, &halves[0], &halves[1]]
                            .map(|sums| i32::from_le_bytes(sums.0[c].as_chunks().0[row]));
                        assert_eq!(got, [first + second, first, second], "{unit:?} {c} {row}");
                    }
                }
            }
        }
    }
}
