//! The tokens that are still in the running.

use std::cmp::Ordering;

use super::math;

/// A token and its logit, which is above negative infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
}

/// Every token that is not forbidden, in rising order of id.
pub(super) fn all(logits: &[f32]) -> impl Iterator<Item = Candidate> + '_ {
    logits
        .iter()
        .enumerate()
        .filter(|(_, l)| **l > f32::NEG_INFINITY)
        .map(|(id, &logit)| Candidate {
            id: id as u32,
            logit,
        })
}

/// A set of tokens: never empty, always in rising order of id, so that sums over it have one order
/// and ties go to the lower id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// The `k` most likely tokens of `logits`, of which one must be allowed; 0: all.
    pub(super) fn top_k(logits: &[f32], k: u32) -> Self {
        if k == 0 || k as usize >= logits.len() {
            return Self(all(logits).collect());
        }
        let mut kept = best(logits.iter().copied(), k as usize);
        kept.retain(|r| r.key > f32::NEG_INFINITY);
        kept.sort_unstable_by_key(|r| r.index);
        Self(
            kept.iter()
                .map(|r| Candidate {
                    id: r.index as u32,
                    logit: r.key,
                })
                .collect(),
        )
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The largest logit.
    pub(super) fn max(&self) -> f32 {
        self.iter()
            .map(|c| c.logit)
            .fold(f32::NEG_INFINITY, f32::max)
    }

    /// Keeps the candidates for which `keep` holds, unless that would leave none.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Candidate) -> bool) {
        if self.iter().any(&mut keep) {
            self.0.retain(|c| keep(*c));
        }
    }

    /// Keeps the candidates at these places, of which there is at least one.
    pub(super) fn keep_at(&mut self, mut places: Vec<usize>) {
        places.sort_unstable();
        self.0 = places.into_iter().map(|i| self.0[i]).collect();
    }

    /// Softmax over the candidates.
    pub(super) fn softmax(&self) -> Softmax {
        let logits: Vec<f32> = self.iter().map(|c| c.logit).collect();
        let max = math::max(&logits);
        let sum = math::exp_sum(&logits, max);
        Softmax {
            max,
            sum,
            ln_sum: sum.ln(),
        }
    }

    /// Keeps the shortest run of candidates, in falling order of `key`, whose probabilities reach
    /// `mass`. `keys` has one for each candidate, none of them NaN.
    pub(super) fn keep_mass(&mut self, keys: &[f32], mass: f32) {
        let softmax = self.softmax();
        let mut k = 256;
        loop {
            let ranked = best(keys.iter().copied(), k);
            let mut sum = 0.0;
            let reached = ranked.iter().position(|r| {
                sum += softmax.probability(self.0[r.index].logit);
                sum >= f64::from(mass)
            });
            if reached.is_some() || ranked.len() == self.len() {
                let end = reached.map_or(ranked.len(), |i| i + 1);
                return self.keep_at(ranked[..end].iter().map(|r| r.index).collect());
            }
            k *= 8;
        }
    }
}

/// Turns logits into probabilities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax {
    max: f32,
    sum: f64,
    ln_sum: f64,
}

impl Softmax {
    pub(super) fn probability(&self, logit: f32) -> f64 {
        f64::from(math::exp(logit - self.max)) / self.sum
    }

    /// Natural logarithm of the probability, finite for every finite logit.
    pub(super) fn ln(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.max) - self.ln_sum
    }
}

/// A key and where it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranked {
    pub(super) key: f32,
    pub(super) index: usize,
}

/// Falling keys, equal ones by rising index.
fn order(a: &Ranked, b: &Ranked) -> Ordering {
    b.key
        .partial_cmp(&a.key)
        .unwrap_or(Ordering::Equal)
        .then(a.index.cmp(&b.index))
}

/// The `k` largest of `keys`, best first, equal ones by rising index. One pass that holds `2 k`
/// keys: most of a vocabulary fails the comparison with the smallest key kept so far.
pub(super) fn best(keys: impl Iterator<Item = f32>, k: usize) -> Vec<Ranked> {
    if k == 0 {
        return Vec::new();
    }
    let room = k.saturating_mul(2).max(64);
    let mut kept: Vec<Ranked> = Vec::new();
    let mut floor = None;
    for (index, key) in keys.enumerate() {
        if floor.is_some_and(|floor| key <= floor) {
            continue;
        }
        kept.push(Ranked { key, index });
        if kept.len() >= room {
            kept.select_nth_unstable_by(k - 1, order);
            kept.truncate(k);
            floor = Some(kept[k - 1].key);
        }
    }
    kept.sort_unstable_by(order);
    kept.truncate(k);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_equals_a_full_sort() {
        // Many ties, so that the order among equals is tested as well.
        let keys: Vec<f32> = (0..3000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32)
            .collect();
        let mut sorted: Vec<Ranked> = keys
            .iter()
            .enumerate()
            .map(|(index, &key)| Ranked { key, index })
            .collect();
        sorted.sort_by(|a, b| b.key.total_cmp(&a.key).then(a.index.cmp(&b.index)));
        for k in [0, 1, 2, 31, 32, 33, 500, 2999, 3000, 9999] {
            assert_eq!(best(keys.iter().copied(), k), sorted[..k.min(3000)]);
        }
    }

    #[test]
    fn top_k_leaves_out_forbidden_tokens() {
        let logits = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 0.5];
        let ids = |k| {
            Candidates::top_k(&logits, k)
                .iter()
                .map(|c| c.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(0), [1, 3]);
        assert_eq!(ids(1), [1]);
        assert_eq!(ids(3), [1, 3]);
        assert_eq!(ids(9), [1, 3]);
    }
}
