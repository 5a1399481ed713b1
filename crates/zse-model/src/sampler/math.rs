//! Passes over a whole vocabulary, written so that they vectorise.

/// The lowest index of the largest value; `None` where all are negative infinity (or none is
/// there). There must be no NaN.
pub(super) fn argmax(x: &[f32]) -> Option<u32> {
    let max = max(x);
    if max == f32::NEG_INFINITY {
        return None;
    }
    position(x, |v| v == max).map(|i| i as u32)
}

/// The first index at which `found` holds. Without an early exit inside a chunk, the test of a
/// chunk vectorises.
fn position(x: &[f32], found: impl Fn(f32) -> bool) -> Option<usize> {
    x.chunks(1024).enumerate().find_map(|(c, chunk)| {
        if !chunk.iter().fold(false, |any, &v| any | found(v)) {
            return None;
        }
        chunk.iter().position(|&v| found(v)).map(|i| c * 1024 + i)
    })
}

/// The largest value; negative infinity where there is none.
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, tail) = x.as_chunks::<16>();
    for chunk in chunks {
        for (m, &v) in lanes.iter_mut().zip(chunk) {
            *m = if v > *m { v } else { *m };
        }
    }
    lanes
        .iter()
        .chain(tail)
        .fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

/// The first index of NaN or positive infinity.
pub(super) fn first_unusable(x: &[f32]) -> Option<usize> {
    position(x, |v| v.is_nan() | (v == f32::INFINITY))
}

/// `sum(exp(x - max))`, added in a fixed order: f32 within 64 neighbours, f64 beyond.
pub(super) fn exp_sum(x: &[f32], max: f32) -> f64 {
    let (chunks, tail) = x.as_chunks::<64>();
    let whole: f64 = chunks
        .iter()
        .map(|chunk| f64::from(exp_sum_64(chunk, max)))
        .sum();
    let tail: f32 = tail.iter().map(|&v| exp(v - max)).sum();
    whole + f64::from(tail)
}

fn exp_sum_64(x: &[f32; 64], max: f32) -> f32 {
    // A loop for the exponentials and one for the sum: both vectorise, one loop would not.
    let mut exps = [0.0f32; 64];
    for (e, &v) in exps.iter_mut().zip(x) {
        *e = exp(v - max);
    }
    let mut lanes = [0.0f32; 8];
    for eight in exps.as_chunks::<8>().0 {
        for (sum, e) in lanes.iter_mut().zip(eight) {
            *sum += e;
        }
    }
    lanes.iter().sum()
}

/// `e^x` for `x <= 0`, within 2 ulp, the same on every machine; 0 below -87.
///
/// Cody-Waite reduction to `|r| <= ln(2) / 2`, then the polynomial of Cephes' `expf` (Moshier).
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HI - n * LN2_LO;
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + c;
    }
    let y = p * r * r + r + 1.0;
    let power = f32::from_bits(
        shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            << 23,
    );
    if x < -87.0 { 0.0 } else { y * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let got = f64::from(exp(x));
            assert!(
                (got - exact).abs() <= exact * 2.4e-7,
                "exp({x}) = {got}, not {exact}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-87.5), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn argmax_takes_the_lowest_of_equals_wherever_it_stands() {
        for len in [1, 15, 16, 17, 100] {
            for at in 0..len {
                let mut x = vec![-1.0; len];
                x[at] = 2.0;
                x[len - 1] = 2.0;
                assert_eq!(argmax(&x), Some(at as u32));
            }
        }
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 20]), None);
    }

    #[test]
    fn unusable_values_are_found_wherever_they_stand() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            for at in [0, 1, 1023, 1024, 2999] {
                let mut x = vec![f32::NEG_INFINITY; 3000];
                x[at] = bad;
                assert_eq!(first_unusable(&x), Some(at));
            }
        }
        assert_eq!(
            first_unusable(&[f32::MIN, f32::NEG_INFINITY, f32::MAX]),
            None
        );
    }

    #[test]
    fn exp_sum_matches_f64_at_every_tail() {
        for len in [1, 7, 8, 63, 64, 65, 5000] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 * -0.2).collect();
            let exact: f64 = x.iter().map(|&v| f64::from(v).exp()).sum();
            assert!((exp_sum(&x, 0.0) / exact - 1.0).abs() < 1e-6);
        }
    }
}
