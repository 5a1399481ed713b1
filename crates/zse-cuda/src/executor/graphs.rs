//! Which recordings of launches are kept: those of the batch sizes that came last.

use std::collections::HashMap;

use super::meta::Size;
use crate::ops::attention::BatchShape;

/// Most batch sizes whose launches are kept.
const MOST: usize = 64;

/// What fixes the arguments of a batch's launches.
pub(super) type Key = (Size, BatchShape);

/// Recordings `G` by key; `None` of a batch that came once: kernels are loaded as they first run, so that launches are
/// recorded when it comes again.
pub(super) struct Graphs<G> {
    kept: HashMap<Key, Kept<G>>,
    /// Counts up with each use.
    clock: u64,
}

struct Kept<G> {
    graph: Option<G>,
    used: u64,
}

impl<G> Graphs<G> {
    pub(super) fn new() -> Self {
        Self {
            kept: HashMap::new(),
            clock: 0,
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Notes that a batch came: what is known of such, if one came before.
    pub(super) fn note(&mut self, key: &Key) -> Option<Option<&G>> {
        self.clock += 1;
        if !self.kept.contains_key(key) {
            self.make_room();
            let kept = Kept {
                graph: None,
                used: self.clock,
            };
            self.kept.insert(*key, kept);
            return None;
        }
        let kept = self.kept.get_mut(key)?;
        kept.used = self.clock;
        Some(kept.graph.as_ref())
    }

    /// Drops what was not used for longest, if there are too many.
    fn make_room(&mut self) {
        if self.kept.len() < MOST {
            return;
        }
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.kept.remove(&key);
        }
    }

    /// Keeps the recording of a batch that was noted.
    pub(super) fn keep(&mut self, key: &Key, graph: G) -> Option<&G> {
        let kept = self.kept.get_mut(key)?;
        Some(kept.graph.insert(graph))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tokens: usize) -> Key {
        let size = Size {
            tokens,
            ..Size::default()
        };
        (size, BatchShape::default())
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let mut graphs = Graphs::new();
        for n in 0..MOST {
            assert!(graphs.note(&key(n)).is_none());
            assert_eq!(graphs.keep(&key(n), n), Some(&n));
        }
        assert_eq!(graphs.note(&key(0)), Some(Some(&0)));
        assert!(graphs.note(&key(MOST)).is_none());
        assert_eq!(graphs.note(&key(MOST)), Some(None));
        assert_eq!(graphs.note(&key(0)), Some(Some(&0)));
        assert_eq!(graphs.note(&key(2)), Some(Some(&2)));
        assert!(graphs.note(&key(1)).is_none());
    }
}
