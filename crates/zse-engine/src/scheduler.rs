//! Which sequences run, and which of their tokens are in the next batch.
//!
//! A state machine without I/O, clocks, threads or devices. Sequences wait or run; the most urgent
//! first, the oldest of those that are equally urgent, and now and then one that was overtaken (module
//! `ageing`). One that runs keeps its KV blocks, unless one
//! before it needs them: then it gives way and later computes again what is not found in the prefix
//! cache any more, which gives the same results.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use crate::ageing::{Ageing, overtakes};
use crate::kv::{BlockManager, BlockOp, Slot};
use crate::sequence::{Rank, SeqId, Sequence};

/// What a step may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepBudget {
    pub(crate) tokens: usize,
    pub(crate) outputs: usize,
    /// At most as many as `tokens` and as `outputs`, so that every running sequence fits.
    pub(crate) sequences: usize,
    /// Whether a prompt must not be cut.
    pub(crate) whole_prompts: bool,
}

/// The next step: what is computed, of whom.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What has to be done to blocks before.
    pub(crate) ops: Vec<BlockOp>,
    pub(crate) parts: Vec<Part>,
}

/// Tokens of one sequence that are in a step.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) id: SeqId,
    /// Which of its tokens.
    pub(crate) tokens: Range<usize>,
    /// How many results they give.
    pub(crate) results: usize,
}

impl Plan {
    /// Whose result is in a row of the step's.
    pub(crate) fn of_row(&self, row: usize) -> Option<SeqId> {
        let mut end = 0;
        let mut parts = self.parts.iter();
        let part = parts.find(|part| {
            end += part.results;
            row < end
        });
        part.map(|part| part.id)
    }
}

pub(crate) struct Scheduler {
    budget: StepBudget,
    blocks: BlockManager,
    waiting: BTreeMap<SeqId, Sequence>,
    running: BTreeMap<SeqId, Sequence>,
    prefix: PrefixCounts,
    preemptions: u64,
    ageing: Ageing,
    /// Requests whose turn came because they were overtaken.
    raised: BTreeSet<u64>,
}

/// What the prefix cache was good for so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrefixCounts {
    /// Tokens of prompts that were looked up.
    pub(crate) queried: u64,
    /// Those that were found.
    pub(crate) found: u64,
}

impl Scheduler {
    pub(crate) fn new(budget: StepBudget, blocks: BlockManager) -> Self {
        Self {
            budget,
            blocks,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            prefix: PrefixCounts::default(),
            preemptions: 0,
            ageing: Ageing::default(),
            raised: BTreeSet::new(),
        }
    }

    pub(crate) fn push(&mut self, seq: Sequence) {
        self.waiting.insert(seq.id, seq);
    }

    /// Starts what waits, as long as there is room. Nobody overtakes one that lacks blocks.
    pub(crate) fn admit(&mut self) {
        if self.ageing.is_due() {
            self.give_turn();
        }
        let ready = self
            .waiting
            .values()
            .filter(|s| !s.stalled && !self.leader_is_busy(s));
        let ids: Vec<SeqId> = ready.map(|s| s.id).take(self.budget.sequences).collect();
        for id in ids {
            while self.running.len() == self.budget.sequences || !self.start(id) {
                match self.victim(id) {
                    Some(victim) => self.preempt(victim),
                    None => return,
                }
            }
        }
    }

    /// Who gives way to `id`, which waits: what nobody reads, as it must not hold what others wait
    /// for, or else the last of those that are less urgent. One that only came later goes on.
    fn victim(&self, id: SeqId) -> Option<SeqId> {
        let last = || self.running.values().next_back();
        let less_urgent = || last().filter(|s| s.id.rank > id.rank);
        self.unread().or_else(less_urgent).map(|s| s.id)
    }

    /// The last of those that run and that nobody reads.
    fn unread(&self) -> Option<&Sequence> {
        self.running.values().rev().find(|s| s.stalled)
    }

    /// Moves a waiting sequence to the running ones, or changes nothing.
    fn start(&mut self, id: SeqId) -> bool {
        let Some(mut seq) = self.waiting.remove(&id) else {
            return true;
        };
        let prefix = self.prefix;
        let tokens = seq.tokens_to_start();
        let fits = self.take_over(&mut seq, tokens) && self.blocks.grow(&mut seq.table, tokens);
        if fits {
            seq.note_start();
            self.running.insert(id, seq);
            let mut behind = self.waiting.range(id..);
            if behind.any(|(&other, seq)| overtakes(id, other) && !seq.stalled) {
                self.ageing.note(id);
            }
        } else {
            self.prefix = prefix;
            self.blocks.release(&mut seq.table);
            seq.restart();
            self.waiting.insert(id, seq);
        }
        fits
    }

    /// Puts the request whose turn it is before all others.
    fn give_turn(&mut self) {
        let prompts = self.running.values().filter(|s| !s.is_decoding());
        let all = self.waiting.values().chain(prompts);
        let ready = all.filter(|s| !s.stalled).map(|s| s.id);
        let Some(turn) = self.ageing.turn(ready) else {
            return;
        };
        self.raised.insert(turn.request);
        for sequences in [&mut self.waiting, &mut self.running] {
            let own: Vec<_> = sequences
                .extract_if(of_request(turn), |_, _| true)
                .collect();
            for (_, mut seq) in own {
                seq.id.rank = Rank::First;
                sequences.insert(seq.id, seq);
            }
        }
    }

    /// Takes over what others have computed: the prompt from the first continuation of the request,
    /// or else as much as is in the prefix cache. False where blocks lack for `room` tokens.
    fn take_over(&mut self, seq: &mut Sequence, room: usize) -> bool {
        if let (Some(tokens), Some(leader)) = (seq.shareable(), self.running.get(&leader(seq.id))) {
            // Nothing is copied for a sequence that cannot start.
            if !self.blocks.has_room(tokens / self.blocks.block_len(), room) {
                return false;
            }
            let table = self.blocks.fork(&leader.table, tokens);
            return table.map(|table| seq.adopt(table, tokens)).is_some();
        }
        if let (Some(salt), false) = (seq.salt().cloned(), self.budget.whole_prompts) {
            let findable = &seq.tokens()[..seq.findable()];
            let mut table = self.blocks.find(&salt, findable);
            let fits = self.blocks.has_room(table.as_slice().len(), room);
            if fits {
                self.blocks.swap_in(&mut table, &salt, findable);
            }
            let tokens = table.as_slice().len() * self.blocks.block_len();
            if seq.is_fresh() {
                self.prefix.queried += seq.tokens().len() as u64;
                self.prefix.found += tokens as u64;
            }
            seq.adopt(table, tokens);
            return fits;
        }
        true
    }

    /// Makes what a running sequence has computed, from token `from` on, known to the prefix cache.
    pub(crate) fn keep(&mut self, id: SeqId, from: usize) {
        let Some(seq) = self.running.get_mut(&id) else {
            return;
        };
        let Some(salt) = seq.salt().cloned() else {
            return;
        };
        let mut table = std::mem::take(&mut seq.table);
        let first = from / self.blocks.block_len();
        let computed = &seq.tokens()[..seq.cached()];
        self.blocks.keep(&mut table, first, &salt, computed);
        seq.table = table;
    }

    /// Forgets the prefix cache: what it holds cannot be trusted any more.
    pub(crate) fn forget(&mut self) {
        self.blocks.forget();
        if self.is_empty() {
            // Nobody needs what had to be done to blocks.
            self.blocks.take_ops();
        }
    }

    /// Forgets of the prefix cache what those may find who have the salt of a running sequence.
    pub(crate) fn forget_salt_of(&mut self, id: SeqId) {
        if let Some(salt) = self.running.get(&id).and_then(|seq| seq.salt().cloned()) {
            self.blocks.forget_of(&salt);
        }
    }

    /// Lets so many blocks of the prefix cache be swapped, and so many of them in one step.
    pub(crate) fn set_slots(&mut self, slots: usize, at_once: usize) {
        self.blocks.set_slots(slots, at_once);
    }

    /// Slots of the prefix cache that are not needed any more.
    pub(crate) fn take_drops(&mut self) -> Vec<Slot> {
        self.blocks.take_drops()
    }

    /// Forgets what `slots` held: it was lost.
    pub(crate) fn lose(&mut self, slots: &[Slot]) {
        self.blocks.lose(slots);
    }

    /// Whether the first continuation of the request is about to compute what `seq` could share.
    fn leader_is_busy(&self, seq: &Sequence) -> bool {
        let id = leader(seq.id);
        seq.shareable().is_some_and(|tokens| {
            self.waiting.contains_key(&id)
                || self
                    .running
                    .get(&id)
                    .is_some_and(|leader| leader.cached() < tokens)
        })
    }

    /// What to compute next. Sequences that have drawn a token come first, with one token each;
    /// prompts share what is left, oldest first, cut where they do not fit.
    pub(crate) fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let decoding = self
            .running
            .values()
            .filter(|s| !s.stalled && s.is_decoding());
        let ids: Vec<SeqId> = decoding.map(|s| s.id).collect();
        for id in ids {
            if self.make_room(id) {
                self.add(&mut plan, id);
            }
        }
        let prompts = self
            .running
            .values()
            .filter(|s| !s.stalled && !s.is_decoding());
        let ids: Vec<SeqId> = prompts.map(|s| s.id).collect();
        for id in ids {
            if !self.add(&mut plan, id) {
                self.note_passed(&plan, id);
            }
        }
        if !plan.parts.is_empty() {
            plan.ops = self.blocks.take_ops();
        }
        plan
    }

    /// Notes that a prompt has no part in `plan`, if it is because later ones do.
    fn note_passed(&mut self, plan: &Plan, id: SeqId) {
        let is_prompt = |id: SeqId| self.running.get(&id).is_some_and(|s| !s.is_decoding());
        let mut parts = plan.parts.iter().map(|part| part.id);
        if let Some(other) = parts.find(|&other| overtakes(other, id) && is_prompt(other)) {
            self.ageing.note(other);
        }
    }

    /// Adds as many of the tokens of a running sequence as fit; whether any do.
    fn add(&self, plan: &mut Plan, id: SeqId) -> bool {
        let seq = &self.running[&id];
        let used: usize = plan.parts.iter().map(|p| p.tokens.len()).sum();
        let results: usize = plan.parts.iter().map(|p| p.results).sum();
        let room = self.budget.outputs - results;
        let start = seq.cached();
        let mut end = start + seq.pending().min(self.budget.tokens - used);
        while seq.results(&(start..end)) > room {
            end -= seq.results(&(start..end)) - room;
        }
        let cut = end - start < seq.pending();
        let fits = end > start && !(cut && self.budget.whole_prompts);
        if fits {
            let results = seq.results(&(start..end));
            plan.parts.push(Part {
                id,
                tokens: start..end,
                results,
            });
        }
        fits
    }

    /// Finds blocks for the next token of a running sequence: what nobody reads gives way, then what is
    /// behind it, and if there is nothing, it does so itself.
    fn make_room(&mut self, id: SeqId) -> bool {
        while let Some(seq) = self.running.get_mut(&id) {
            let tokens = seq.cached() + 1;
            if self.blocks.grow(&mut seq.table, tokens) {
                return true;
            }
            let last = || self.running.values().next_back();
            if let Some(victim) = self.unread().or_else(last).map(|seq| seq.id) {
                self.preempt(victim);
            }
        }
        false
    }

    /// Takes the blocks of a running sequence away.
    fn preempt(&mut self, id: SeqId) {
        if let Some(mut seq) = self.running.remove(&id) {
            self.blocks.release(&mut seq.table);
            seq.restart();
            self.waiting.insert(id, seq);
            self.preemptions += 1;
        }
    }

    /// Takes all blocks away: what they hold cannot be trusted any more.
    pub(crate) fn preempt_all(&mut self) {
        while let Some(id) = self.running.keys().next_back().copied() {
            self.preempt(id);
        }
        self.forget();
    }

    pub(crate) fn get(&self, id: SeqId) -> Option<&Sequence> {
        self.running.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SeqId) -> Option<&mut Sequence> {
        self.running.get_mut(&id)
    }

    /// All continuations of a request, given what the first was pushed as.
    pub(crate) fn of_request(&mut self, first: SeqId) -> impl Iterator<Item = &mut Sequence> {
        let rank = match self.raised.contains(&first.request) {
            true => Rank::First,
            false => first.rank,
        };
        let ids = of_request(SeqId { rank, ..first });
        let waiting = self.waiting.range_mut(ids.clone());
        waiting
            .chain(self.running.range_mut(ids))
            .map(|(_, seq)| seq)
    }

    /// Removes the sequences that have ended; their blocks are free.
    pub(crate) fn take_finished(&mut self) -> Vec<Sequence> {
        let mut finished = Vec::new();
        for sequences in [&mut self.waiting, &mut self.running] {
            finished.extend(
                sequences
                    .extract_if(.., |_, s| s.is_finished())
                    .map(|(_, s)| s),
            );
        }
        for seq in &mut finished {
            self.blocks.release(&mut seq.table);
        }
        let is_left = |request: u64| {
            let ids = of_request(SeqId {
                rank: Rank::First,
                request,
                choice: 0,
            });
            let mut left = self
                .waiting
                .range(ids.clone())
                .chain(self.running.range(ids));
            left.next().is_some()
        };
        self.raised.retain(|&request| is_left(request));
        finished
    }

    /// Whether no sequence is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Sequences that wait, and that run.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.waiting.len(), self.running.len()]
    }

    /// How often a sequence gave way.
    pub(crate) fn preemptions(&self) -> u64 {
        self.preemptions
    }

    pub(crate) fn prefix_counts(&self) -> PrefixCounts {
        self.prefix
    }

    pub(crate) fn blocks(&self) -> &BlockManager {
        &self.blocks
    }

    pub(crate) fn kv_groups(&self) -> usize {
        self.blocks.groups()
    }
}

/// The ids of all continuations of the request that `id` is one of.
fn of_request(id: SeqId) -> RangeInclusive<SeqId> {
    let at = |choice| SeqId { choice, ..id };
    at(0)..=at(u32::MAX)
}

/// The sequence whose prompt the other continuations of a request share.
fn leader(id: SeqId) -> SeqId {
    SeqId { choice: 0, ..id }
}
