//! FP8 on the host: what the kernels of `fp8.cu` do, to compare them with.

/// The largest number.
const LARGEST: f32 = 448.0;

/// `x` rounded to the nearest number of E4M3, ties to even; too large: the largest; no number: none.
pub(crate) fn round(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let x = x.abs();
    if x.is_nan() {
        return sign | 0x7f;
    }
    // Bit 20 of f32 is the last of three; numbers below 2^-6 are multiples of 2^-9.
    let bits = if x < 2f32.powi(-6) {
        (x * 512.0).round_ties_even() as u32
    } else {
        let bits = x.min(LARGEST).to_bits();
        let rounded = bits + 0x7ffff + (bits >> 20 & 1);
        (rounded >> 20) - ((127 - 7) << 3)
    };
    sign | bits as u8
}

/// What the bits stand for.
pub(crate) fn widen(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// A row in E4M3, and its scale.
pub(crate) fn row(numbers: &[f32]) -> (Vec<u8>, f32) {
    let top = numbers.iter().fold(0f32, |top, x| top.max(x.abs()));
    let factor = LARGEST / top;
    if factor.is_infinite() {
        return (vec![0; numbers.len()], 0.0);
    }
    let bytes = numbers.iter().map(|x| round(x * factor)).collect();
    (bytes, top / LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are() {
        for bits in 0..=255u8 {
            let x = widen(bits);
            if x.is_nan() {
                assert!(widen(round(x)).is_nan());
            } else {
                assert_eq!(round(x), bits, "{x}");
            }
        }
    }

    #[test]
    fn every_number_goes_to_the_nearest() {
        // All that are positive, by rising size.
        let known: Vec<f32> = (0..0x7f).map(widen).collect();
        for (i, pair) in known.windows(2).enumerate() {
            let [low, high] = [pair[0], pair[1]];
            let middle = (low + high) / 2.0;
            let even = if i % 2 == 0 { low } else { high };
            for (x, nearest) in [
                (middle, even),
                (middle.next_down(), low),
                (middle.next_up(), high),
            ] {
                assert_eq!(widen(round(x)), nearest, "{x}");
                assert_eq!(widen(round(-x)), -nearest, "-{x}");
            }
        }
    }

    #[test]
    fn what_is_too_large_becomes_the_largest() {
        for x in [448.0, 449.0, 463.9, 464.0, 1e30, f32::INFINITY] {
            assert_eq!([widen(round(x)), widen(round(-x))], [448.0, -448.0], "{x}");
        }
        // Ties at the bottom go to zero, which keeps its sign.
        assert_eq!(round(2f32.powi(-10)), 0);
        assert_eq!(round(-2f32.powi(-10)), 0x80);
        assert_eq!(widen(round(2f32.powi(-10).next_up())), 2f32.powi(-9));
    }

    #[test]
    fn rows_reach_the_largest() {
        let (bytes, scale) = row(&[0.5, -2.0, 0.0, 1.0]);
        let numbers: Vec<f32> = bytes.iter().map(|b| widen(*b) * scale).collect();
        assert_eq!(numbers, [0.5, -2.0, 0.0, 1.0]);
        assert_eq!(row(&[0.0; 4]), (vec![0; 4], 0.0));
        assert_eq!(row(&[1e-40; 2]), (vec![0; 2], 0.0));
    }
}
