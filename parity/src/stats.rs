//! How near two engines' numbers are.

/// `max |a - b| / max |b|`; infinite where lengths differ or a number is NaN.
pub(crate) fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    let differences = || a.iter().zip(b).map(|(a, b)| (a - b).abs());
    if a.len() != b.len() || differences().any(f32::is_nan) {
        return f32::INFINITY;
    }
    let largest = b.iter().fold(0.0f32, |m, b| m.max(b.abs()));
    differences().fold(0.0, f32::max) / largest
}

/// The natural logarithms of the probabilities that `logits` stand for.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits
        .iter()
        .fold(f64::NEG_INFINITY, |m, &l| m.max(l.into()));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
    let norm = largest + sum.ln();
    logits.iter().map(|&l| f64::from(l) - norm).collect()
}

/// The Kullback-Leibler divergence of `q` from `p`, both logarithms of probabilities, in nats.
pub(crate) fn kl_divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| p.exp() * (p - q)).sum()
}

/// The index of the largest number; the first of equals.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let better = |best: usize, i| if values[i] > values[best] { i } else { best };
    (0..values.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_largest() {
        let b = [1.0, -8.0, 2.0];
        assert_eq!(relative_error(&b, &b), 0.0);
        assert_eq!(relative_error(&[1.0, -8.0, 4.0], &b), 0.25);
        assert_eq!(relative_error(&[f32::NAN, -8.0, 2.0], &b), f32::INFINITY);
        assert_eq!(relative_error(&[1.0], &b), f32::INFINITY);
    }

    #[test]
    fn divergence_is_that_of_the_formula() {
        let p = log_softmax(&[0.0, 0.0]);
        let q = log_softmax(&[0.0, 3f32.ln()]);
        assert!(kl_divergence(&p, &p).abs() < 1e-12);
        let expected = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl_divergence(&p, &q) - expected).abs() < 1e-6);
        assert_eq!((argmax(&p), argmax(&q)), (0, 1));
    }
}
