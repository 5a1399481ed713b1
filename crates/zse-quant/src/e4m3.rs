//! FP8 with four bits of exponent and three of mantissa (E4M3; Micikevicius et al. 2022, arXiv:2209.05433): no infinities,
//! one NaN of each sign.

/// The largest number.
pub const LARGEST: f32 = 448.0;

/// `x` rounded to the nearest number, ties to even; too large: the largest; no number: none.
///
/// ```
/// use zse_quant::e4m3;
///
/// assert_eq!(e4m3::widen(e4m3::round(1.05)), 1.0);
/// assert_eq!(e4m3::widen(e4m3::round(-1e9)), -e4m3::LARGEST);
/// ```
pub fn round(x: f32) -> u8 {
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
pub fn widen(bits: u8) -> f32 {
    NUMBERS[usize::from(bits)]
}

/// All numbers, by their bits.
static NUMBERS: [f32; 256] = {
    let mut numbers = [0.0; 256];
    let mut bits = 0;
    while bits < 256u32 {
        let (exponent, mantissa) = (bits >> 3 & 15, bits & 7);
        let magnitude = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa as f32 / 512.0,
            _ => f32::from_bits((exponent + 127 - 7) << 23 | mantissa << 20),
        };
        numbers[bits as usize] = if bits < 128 { magnitude } else { -magnitude };
        bits += 1;
    }
    numbers
};

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
    fn numbers_have_the_values_of_the_format() {
        for (bits, value) in [
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x07, 0.013671875),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0x3c, 1.5),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(widen(bits), value, "{bits:#x}");
        }
        assert!(widen(0x7f).is_nan() && widen(0xff).is_nan());
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
}
