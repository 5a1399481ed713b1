//! FP8 on the host: what the kernels of `fp8.cu` do, to compare them with.

pub(crate) use zse_quant::e4m3::{LARGEST, round, widen};

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
    fn rows_reach_the_largest() {
        let (bytes, scale) = row(&[0.5, -2.0, 0.0, 1.0]);
        let numbers: Vec<f32> = bytes.iter().map(|b| widen(*b) * scale).collect();
        assert_eq!(numbers, [0.5, -2.0, 0.0, 1.0]);
        assert_eq!(row(&[0.0; 4]), (vec![0; 4], 0.0));
        assert_eq!(row(&[1e-40; 2]), (vec![0; 2], 0.0));
    }
}
