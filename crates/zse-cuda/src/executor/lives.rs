//! Shares one allocation among parts that are not all needed at the same time.

use std::ops::RangeInclusive;

/// A part, and when it is needed.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) bytes: usize,
    pub(super) life: RangeInclusive<usize>,
    /// The beginning of it, needed until later: how long, and until when.
    pub(super) lasting: (usize, usize),
}

/// Parts begin at multiples of this.
const ALIGN: usize = 256;

impl Part {
    pub(super) fn new(bytes: usize, life: RangeInclusive<usize>) -> Self {
        let bytes = bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        let lasting = (0, *life.end());
        Self {
            bytes,
            life,
            lasting,
        }
    }

    /// The same, whose first `bytes` are needed until `end`.
    pub(super) fn lasting(self, bytes: usize, end: usize) -> Self {
        let bytes = bytes.next_multiple_of(ALIGN).min(self.bytes);
        Self {
            lasting: (bytes, end.max(*self.life.end())),
            ..self
        }
    }

    /// How much of it is needed at some time in `from..=to`.
    fn needed(&self, from: usize, to: usize) -> usize {
        if *self.life.start() <= to && from <= *self.life.end() {
            self.bytes
        } else if *self.life.end() < to && from <= self.lasting.1 {
            self.lasting.0
        } else {
            0
        }
    }

    /// How near the beginnings of the two may be: bytes that must lie between them if this comes first.
    fn before(&self, other: &Self) -> usize {
        let (from, to) = (*other.life.start(), *other.life.end());
        let whole = self.needed(from, to);
        // What lasts of the other is needed later: what of this lasts then, too.
        let later = if other.lasting.0 > 0 {
            self.needed(to + 1, other.lasting.1)
        } else {
            0
        };
        whole.max(later)
    }
}

/// Offsets of all parts, and the bytes that hold them: the largest first, each as low as it can be.
pub(super) fn place(parts: &[Part]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].bytes > 0).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(parts[i].bytes));
    let (mut offsets, mut end) = (vec![0usize; parts.len()], 0usize);
    // Those with a place by when they are needed: most of a model's parts never meet.
    let times = parts.iter().map(|part| part.lasting.1 + 1).max();
    let mut placed: Vec<Vec<usize>> = vec![Vec::new(); times.unwrap_or(0)];
    for i in order {
        let part = &parts[i];
        let span = *part.life.start()..=part.lasting.1;
        let mut met: Vec<usize> = placed[span.clone()].iter().flatten().copied().collect();
        met.sort_unstable();
        met.dedup();
        placed[span].iter_mut().for_each(|at| at.push(i));
        // From where to where it may not begin.
        let mut taken: Vec<(usize, usize)> = met
            .into_iter()
            .filter_map(|j| {
                let (own, others) = (part.before(&parts[j]), parts[j].before(part));
                let from = offsets[j].saturating_sub(own.saturating_sub(1));
                (own > 0 && others > 0).then_some((from, offsets[j].saturating_add(others)))
            })
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if from <= at {
                at = at.max(to);
            }
        }
        offsets[i] = at;
        end = end.max(at.saturating_add(part.bytes));
    }
    (offsets, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_needed_together_lie_apart() {
        let parts = [
            Part::new(1024, 0..=1),
            Part::new(512, 1..=3),
            Part::new(1024, 2..=3),
            Part::new(256, 4..=4),
        ];
        let (offsets, end) = place(&parts);
        assert_eq!(offsets, [0, 1024, 0, 0]);
        assert_eq!(end, 1536);
    }

    #[test]
    fn what_lasts_of_a_part_is_kept() {
        let parts = [
            Part::new(1024, 0..=1).lasting(256, 3),
            Part::new(768, 2..=3),
            Part::new(512, 4..=4),
        ];
        let (offsets, end) = place(&parts);
        assert_eq!((offsets, end), (vec![0, 256, 0], 1024));
    }

    /// Byte by byte, over random parts.
    #[test]
    fn no_byte_is_needed_twice() {
        let mut random = zse_model::conformance::Rng::new(5);
        for _ in 0..50 {
            let parts: Vec<Part> = (0..40)
                .map(|_| {
                    let (from, len) = (random.below(20), random.below(4));
                    let part = Part::new(256 * (1 + random.below(8)), from..=from + len);
                    part.lasting(256 * random.below(3), from + len + random.below(4))
                })
                .collect();
            let (offsets, end) = place(&parts);
            for time in 0..30 {
                let mut owner = vec![None; end / 256];
                for (i, (part, at)) in parts.iter().zip(&offsets).enumerate() {
                    for unit in &mut owner[at / 256..(at + part.needed(time, time)) / 256] {
                        assert_eq!(unit.replace(i), None, "{time}: {parts:?} {offsets:?}");
                    }
                }
            }
        }
    }
}
