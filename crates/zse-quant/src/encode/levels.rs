//! The numbers that a quantized weight may stand for, before its scale.

use super::lanes::F32x8;
use crate::iq4::VALUES;
use crate::mx::E2M1_DOUBLED;

/// A fixed, ascending set of levels.
pub(super) trait Levels {
    /// The least level.
    const LOW: f32;
    /// The greatest level.
    const HIGH: f32;

    /// The level nearest to each lane, which must be finite or NaN (then it is some level).
    fn nearest(t: F32x8) -> F32x8;

    /// The code that blocks store for a level.
    fn code(level: f32) -> u8;
}

/// All integers of `LOW..=HIGH`, stored from 0 up.
pub(super) struct Integers<const LOW: i32, const HIGH: i32>;

impl<const LOW: i32, const HIGH: i32> Levels for Integers<LOW, HIGH> {
    const LOW: f32 = LOW as f32;
    const HIGH: f32 = HIGH as f32;

    #[inline(always)]
    fn nearest(t: F32x8) -> F32x8 {
        t.clamp(Self::LOW, Self::HIGH).round()
    }

    #[inline(always)]
    fn code(level: f32) -> u8 {
        (level - Self::LOW) as u8
    }
}

/// Entry `i & 511` is the level nearest to all of `i / 2 .. (i + 1) / 2`. Exact, because the
/// levels are integers, so that midpoints between them are multiples of a half.
const fn nearest_table<const M: usize>(levels: [i8; M]) -> [f32; 512] {
    let mut table = [0.0; 512];
    let mut i = -256i32;
    while i < 256 {
        let mut k = 0;
        while k < M - 1 && levels[k] as i32 + levels[k + 1] as i32 <= i {
            k += 1;
        }
        table[(i & 511) as usize] = levels[k] as f32;
        i += 1;
    }
    table
}

/// Entries of a [`nearest_table`] for numbers within -127..=127.
#[inline(always)]
fn look_up(table: &[f32; 512], t: F32x8) -> F32x8 {
    // Twice t, rounded down, in the low bits of the mantissa.
    const INTEGERS: f32 = 12_582_912.0;
    let doubled = t.map(|t| t * 2.0 - 0.5 + INTEGERS);
    doubled.map(|t| table[(t.to_bits() & 511) as usize])
}

/// The 16 values of IQ4_NL and IQ4_XS.
pub(super) struct Iq4Levels;

impl Levels for Iq4Levels {
    const LOW: f32 = VALUES[0] as f32;
    const HIGH: f32 = VALUES[15] as f32;

    #[inline(always)]
    fn nearest(t: F32x8) -> F32x8 {
        static NEAREST: [f32; 512] = nearest_table(VALUES);
        look_up(&NEAREST, t.clamp(Self::LOW, Self::HIGH))
    }

    #[inline(always)]
    fn code(level: f32) -> u8 {
        VALUES.partition_point(|v| f32::from(*v) < level) as u8
    }
}

/// Twice the values of the 4-bit float E2M1.
pub(super) struct E2m1Levels;

impl Levels for E2m1Levels {
    const LOW: f32 = -12.0;
    const HIGH: f32 = 12.0;

    #[inline(always)]
    fn nearest(t: F32x8) -> F32x8 {
        static NEAREST: [f32; 512] =
            nearest_table([-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12]);
        look_up(&NEAREST, t.clamp(Self::LOW, Self::HIGH))
    }

    #[inline(always)]
    fn code(level: f32) -> u8 {
        let magnitude = E2M1_DOUBLED[..8].partition_point(|v| f32::from(*v) < level.abs()) as u8;
        if level < 0.0 {
            magnitude | 8
        } else {
            magnitude
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `levels` in order of their codes.
    fn nearest_is_nearest<L: Levels>(levels: &[f32]) {
        for i in -20_000..20_000 {
            let t = i as f32 * 0.013;
            let found = L::nearest(F32x8::splat(t)).0[0];
            let best = levels
                .iter()
                .map(|l| (l - t).abs())
                .fold(f32::MAX, f32::min);
            assert!((found - t).abs() <= best + 1e-5, "{t}: {found}");
            assert_eq!(levels[usize::from(L::code(found))], found);
        }
        let nan = L::nearest(F32x8::splat(f32::NAN)).0[0];
        assert!(levels.contains(&nan));
    }

    #[test]
    fn nearest_level_is_found_and_coded() {
        let integers: Vec<f32> = (-32..32).map(|i| i as f32).collect();
        nearest_is_nearest::<Integers<-32, 31>>(&integers);
        nearest_is_nearest::<Integers<0, 3>>(&[0.0, 1.0, 2.0, 3.0]);
        nearest_is_nearest::<Iq4Levels>(&VALUES.map(f32::from));
        nearest_is_nearest::<E2m1Levels>(&E2M1_DOUBLED.map(f32::from));
    }
}
