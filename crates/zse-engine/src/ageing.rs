//! What keeps the less urgent from waiting for ever.
//!
//! Whoever is more urgent and came later may overtake others, but only so often: of [`OVERTAKES`] + 1
//! places, one goes to the oldest of those that were overtaken, whatever its priority is. It then has a
//! rank before all others, so that it starts at once and does not give way again. The one behind it has
//! the next such place: with a flow of urgent requests that never ends, the request that is the `i`-th of
//! those overtaken begins after at most `i * OVERTAKES` others have overtaken it. Those of one priority
//! keep their order of arrival.
//!
//! It is counted in places and not in time, as the scheduler knows no clock.

use crate::sequence::{Rank, SeqId};

/// How often later, more urgent sequences start, or come further in their prompts, before one that they
/// overtake has its turn.
pub(crate) const OVERTAKES: u32 = 16;

/// How often somebody was overtaken since somebody last had a turn.
#[derive(Debug, Default)]
pub(crate) struct Ageing {
    overtakes: u32,
    /// The most urgent that overtook somebody.
    by: Option<Rank>,
}

/// Whether `other`, which goes on, overtakes `id`, which does not.
pub(crate) fn overtakes(other: SeqId, id: SeqId) -> bool {
    other.rank < id.rank && other.request > id.request
}

impl Ageing {
    /// Notes that `other` overtook somebody.
    pub(crate) fn note(&mut self, other: SeqId) {
        self.overtakes += 1;
        self.by = Some(self.by.map_or(other.rank, |by| by.min(other.rank)));
    }

    /// Whether somebody's turn has come.
    pub(crate) fn is_due(&self) -> bool {
        self.overtakes >= OVERTAKES
    }

    /// Whose turn it is, of all that wait: the oldest that may have been overtaken. From here on it is
    /// counted anew.
    pub(crate) fn turn(&mut self, waiting: impl Iterator<Item = SeqId>) -> Option<SeqId> {
        let by = std::mem::take(self).by?;
        let overtaken = waiting.filter(|id| id.rank > by);
        overtaken.min_by_key(|id| (id.request, id.choice))
    }
}
