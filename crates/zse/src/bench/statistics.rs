//! Mean, deviation and percentiles of samples.

/// Samples and what they say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    samples: Vec<f64>,
}

impl Statistics {
    /// Of these samples.
    pub fn new(samples: Vec<f64>) -> Self {
        Self { samples }
    }

    /// The samples in the order in which they were taken.
    pub fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// Their mean; 0 without samples.
    pub fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len().max(1) as f64
    }

    /// Their standard deviation (with n - 1); 0 for fewer than two.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.samples.iter().map(|x| (x - mean) * (x - mean)).sum();
        (squares / (self.samples.len().saturating_sub(1)).max(1) as f64).sqrt()
    }

    /// The smallest sample that `percent` of all do not exceed (nearest rank); 0 without samples.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_known_samples() {
        let s = Statistics::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(s.mean(), 2.5);
        assert!((s.deviation() - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(
            (s.percentile(50.0), s.percentile(95.0), s.percentile(0.0)),
            (2.0, 4.0, 1.0)
        );
        assert_eq!(s.samples(), [4.0, 1.0, 3.0, 2.0]);
    }

    #[test]
    fn of_none_and_of_one() {
        let none = Statistics::default();
        assert_eq!(
            (none.mean(), none.deviation(), none.percentile(50.0)),
            (0.0, 0.0, 0.0)
        );
        let one = Statistics::new(vec![7.0]);
        assert_eq!(
            (one.mean(), one.deviation(), one.percentile(99.0)),
            (7.0, 0.0, 7.0)
        );
    }
}
