//! Eight f32 side by side, in portable code that compiles to the vectors of any target.

use std::array::from_fn;
use std::hint::black_box;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// Eight numbers that take the same steps.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
pub(super) struct F32x8(pub(super) [f32; 8]);

impl F32x8 {
    #[inline(always)]
    pub(super) const fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    /// `first` to `last` in equal steps.
    pub(super) const fn ramp(first: f32, last: f32) -> Self {
        let mut lanes = [0.0; 8];
        let mut k = 0;
        while k < 8 {
            lanes[k] = first + (last - first) * k as f32 / 7.0;
            k += 1;
        }
        Self(lanes)
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(from_fn(|k| f(self.0[k], other.0[k])))
    }

    #[inline(always)]
    pub(super) fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(f))
    }

    /// Each lane in `lo..=hi`, NaN to `lo`: two instructions, unlike `f32::clamp`.
    #[inline(always)]
    pub(super) fn clamp(self, lo: f32, hi: f32) -> Self {
        let above = self.map(|x| if x > lo { x } else { lo });
        above.map(|x| if x < hi { x } else { hi })
    }

    /// Each lane rounded to an integer, ties to even; for magnitudes under 2^22.
    #[inline(always)]
    pub(super) fn round(self) -> Self {
        self.map(round)
    }

    /// `1 / x`, or 0 where that is not finite.
    #[inline(always)]
    pub(super) fn inverse(self) -> Self {
        self.map(inverse)
    }

    /// The same numbers, of which the compiler does not know that they are eight: it cuts the sums of
    /// a loop in odd parts where it sees what becomes of their lanes, at twice the time.
    #[inline(always)]
    pub(super) fn whole(self) -> Self {
        black_box(self)
    }

    /// Lane by lane `yes` where `self > other`, else `no`.
    #[inline(always)]
    pub(super) fn if_above(self, other: Self, yes: Self, no: Self) -> Self {
        Self(from_fn(|k| {
            if self.0[k] > other.0[k] {
                yes.0[k]
            } else {
                no.0[k]
            }
        }))
    }

    #[inline(always)]
    pub(super) fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// The least lane, none being NaN.
    #[inline(always)]
    pub(super) fn min(self) -> f32 {
        let less = |a: f32, b: f32| if a < b { a } else { b };
        let [a, b, c, d, e, f, g, h] = self.0;
        less(less(less(a, e), less(c, g)), less(less(b, f), less(d, h)))
    }

    /// The greatest lane, none being NaN.
    #[inline(always)]
    pub(super) fn max(self) -> f32 {
        -self.map(|x| -x).min()
    }

    /// The first lane with the least number, NaN left aside.
    #[inline(always)]
    pub(super) fn least(self) -> usize {
        (1..8).fold(0, |best, k| if self.0[k] < self.0[best] { k } else { best })
    }
}

/// `1 / x`, or 0 where that is not finite.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.abs() < f32::INFINITY {
        inverse
    } else {
        0.0
    }
}

/// `x` rounded to an integer, ties to even; for magnitudes under 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    // Beside 1.5 * 2^23 an f32 has no fraction bits. Plain SSE2 has no instruction for this.
    const INTEGERS: f32 = 12_582_912.0;
    (x + INTEGERS) - INTEGERS
}

impl Add for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl AddAssign for F32x8 {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl Mul for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

impl Div for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
}
