//! Blocks: handed out, shared, counted, given back, found again.

use std::collections::HashSet;
use std::sync::Arc;

use zse_model::executor::BlockId;

use super::prefix::{Parent, Place, PrefixTree};

/// Where a block's bytes are kept outside the executor. Numbers rise, and are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

/// What has to be done to blocks, of all groups, before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOp {
    /// Copy a block.
    Copy {
        /// Source.
        from: BlockId,
        /// Destination.
        to: BlockId,
    },
    /// Copy a block to a new slot.
    SwapOut {
        /// Source.
        from: BlockId,
        /// Destination.
        to: Slot,
    },
    /// Copy a slot to a block; the slot is not needed any more.
    SwapIn {
        /// Source.
        from: Slot,
        /// Destination.
        to: BlockId,
    },
    /// A slot is not needed any more.
    Drop(Slot),
}

/// The blocks of one sequence. Token `i` of the sequence is row `i % block_len` of block
/// `i / block_len`, in every KV group: all groups have as many blocks, and hold the same tokens.
///
/// Only [`BlockManager`] fills and empties tables, so that a block cannot be given back twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockTable(pub(super) Vec<BlockId>);

impl BlockTable {
    /// The blocks, in order.
    pub fn as_slice(&self) -> &[BlockId] {
        &self.0
    }
}

/// Hands out the blocks of a model's KV groups.
///
/// A block is *held* by the tables that name it, or *cached*: nobody holds it, but what it holds can
/// be found again, until it is needed for something else, or *free*. With [`set_slots`], what a
/// cached block holds is *swapped* when the block is needed: copied out, to be copied back when it
/// is asked for. The copies are to be done in the order of [`take_ops`].
///
/// [`set_slots`]: Self::set_slots
/// [`take_ops`]: Self::take_ops
#[derive(Clone, Debug)]
pub struct BlockManager {
    groups: usize,
    block_len: usize,
    /// By block: how many tables hold it.
    pub(super) holders: Vec<u32>,
    pub(super) free: Vec<BlockId>,
    pub(super) tree: PrefixTree,
    ops: Vec<BlockOp>,
    /// Most blocks that are swapped out, and in, between one `take_ops` and the next.
    at_once: usize,
    /// How many of `ops` swap in.
    swapping_in: usize,
    /// What was swapped out later than this is still to be copied.
    copied: Slot,
}

impl BlockManager {
    /// `blocks` blocks, of `block_len` tokens each (at least 1), in each of `groups` groups.
    pub fn new(groups: usize, blocks: usize, block_len: usize) -> Self {
        let blocks = if groups == 0 { 0 } else { blocks };
        Self {
            groups,
            block_len: block_len.max(1),
            holders: vec![0; blocks],
            // Low numbers are handed out first.
            free: (0..blocks as BlockId).rev().collect(),
            tree: PrefixTree::new(blocks),
            ops: Vec::new(),
            at_once: 0,
            swapping_in: 0,
            copied: Slot(0),
        }
    }

    /// Lets `slots` blocks be swapped; what was swapped out first is forgotten where more are. Of
    /// those of one [`take_ops`](Self::take_ops), at most `at_once` are swapped out, and as many in.
    pub fn set_slots(&mut self, slots: usize, at_once: usize) {
        self.at_once = at_once;
        self.tree.set_slots(slots);
        self.drop_swapped();
    }

    /// What has to be done to blocks before they are computed with, in this order. Where more would
    /// be swapped out than may be at once, what was used last is, and the rest is forgotten.
    pub fn take_ops(&mut self) -> Vec<BlockOp> {
        let excess = self.tree.drop_excess(self.copied, self.at_once);
        self.ops.extend(excess.into_iter().map(BlockOp::Drop));
        self.prune();
        self.copied = self.tree.newest_slot();
        self.swapping_in = 0;
        std::mem::take(&mut self.ops)
    }

    /// Those slots that are not needed any more of what [`take_ops`](Self::take_ops) would give;
    /// it will not give them again.
    pub fn take_drops(&mut self) -> Vec<Slot> {
        self.prune();
        let drops = self.ops.extract_if(.., |op| matches!(op, BlockOp::Drop(_)));
        let slot = |op| match op {
            BlockOp::Drop(slot) => Some(slot),
            _ => None,
        };
        drops.filter_map(slot).collect()
    }

    /// Leaves out what would be swapped out only to be dropped.
    fn prune(&mut self) {
        let dropped = self.ops.iter().filter_map(|op| match *op {
            BlockOp::Drop(slot) if slot > self.copied => Some(slot),
            _ => None,
        });
        let dropped: HashSet<Slot> = dropped.collect();
        self.ops.retain(|op| match op {
            BlockOp::SwapOut { to: slot, .. } | BlockOp::Drop(slot) => !dropped.contains(slot),
            BlockOp::Copy { .. } | BlockOp::SwapIn { .. } => true,
        });
    }

    /// Forgets what `slots` held: it was lost.
    pub fn lose(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|&slot| self.tree.lose(slot));
    }

    /// KV groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Tokens in a block.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Makes `table` long enough for `tokens` tokens, or changes nothing and returns false where
    /// too few blocks can be had.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        if self.groups == 0 {
            return true;
        }
        if !self.has_room(table.0.len(), tokens) {
            return false;
        }
        let needed = tokens.div_ceil(self.block_len);
        while table.0.len() < needed {
            table.0.extend(self.take());
        }
        true
    }

    /// Whether a table of `blocks` blocks can be made long enough for `tokens` tokens.
    pub fn has_room(&self, blocks: usize, tokens: usize) -> bool {
        let needed = tokens.div_ceil(self.block_len);
        self.groups == 0 || needed.saturating_sub(blocks) <= self.unheld()
    }

    /// Gives all blocks of `table` back; those that other tables hold as well stay in use.
    pub fn release(&mut self, table: &mut BlockTable) {
        // The last blocks are handed out last, and of what is cached they go first.
        while let Some(id) = table.0.pop() {
            self.give_back(id);
        }
    }

    /// A table that holds the first `tokens` tokens of `parent`: full blocks are shared, one that is
    /// not full is copied. `None`, and nothing changed, where too few blocks can be had.
    ///
    /// # Panics
    /// If `parent` does not hold `tokens` tokens.
    pub fn fork(&mut self, parent: &BlockTable, tokens: usize) -> Option<BlockTable> {
        if self.groups == 0 {
            return Some(BlockTable::default());
        }
        let (full, rest) = (tokens / self.block_len, tokens % self.block_len);
        let last = match rest {
            0 => None,
            _ => Some((parent.0[full], self.take()?)),
        };
        let mut table = BlockTable(parent.0[..full].to_vec());
        table.0.iter().for_each(|&id| self.hold(id));
        if let Some((from, to)) = last {
            self.ops.push(BlockOp::Copy { from, to });
            table.0.push(to);
        }
        Some(table)
    }

    /// A table of the blocks that are known to hold the beginning of `tokens`, as far as they do;
    /// only whole blocks, and none that is swapped.
    pub fn find(&mut self, salt: &Arc<str>, tokens: &[u32]) -> BlockTable {
        let mut table = BlockTable::default();
        for tokens in tokens.chunks_exact(self.block_len) {
            let parent = self.parent(&table.0, salt);
            match parent.and_then(|parent| self.tree.find(parent, tokens)) {
                Some(Place::Block(id)) => {
                    self.hold(id);
                    table.0.push(id);
                }
                Some(Place::Swapped(_)) | None => break,
            }
        }
        table
    }

    /// Goes on where [`find`](Self::find) ended, with what is swapped, as far as blocks can be had
    /// and as many may be swapped in at once. What is still to be copied out stays swapped.
    pub fn swap_in(&mut self, table: &mut BlockTable, salt: &Arc<str>, tokens: &[u32]) {
        let blocks = tokens.chunks_exact(self.block_len).skip(table.0.len());
        for tokens in blocks {
            let Some(parent) = self.parent(&table.0, salt) else {
                return;
            };
            let Some(Place::Swapped(from)) = self.tree.find(parent.clone(), tokens) else {
                return;
            };
            if from > self.copied || self.swapping_in >= self.at_once {
                return;
            }
            // For this block the very slot may be dropped that was to be brought back.
            let Some(to) = self.take() else {
                return;
            };
            match self.tree.find(parent.clone(), tokens) {
                Some(Place::Swapped(from)) => {
                    self.tree.insert(to, parent, tokens);
                    self.ops.push(BlockOp::SwapIn { from, to });
                    self.swapping_in += 1;
                    table.0.push(to);
                }
                _ => return self.give_back(to),
            }
        }
    }

    /// Makes the blocks of `table` from index `from` on known to hold `tokens`: those of the whole
    /// sequence, each of them computed and final; the last block is left out if it is not full.
    /// Where another block is known to hold the same, the table takes that one instead. Ends at a
    /// block that somebody else holds as well, or whose parent is not known.
    pub fn keep(&mut self, table: &mut BlockTable, from: usize, salt: &Arc<str>, tokens: &[u32]) {
        let blocks = tokens.chunks_exact(self.block_len).enumerate().skip(from);
        for (i, tokens) in blocks.take(table.0.len().saturating_sub(from)) {
            let id = table.0[i];
            // A child may be held by nobody who does not hold its parent.
            let Some(parent) = self.parent(&table.0[..i], salt) else {
                return;
            };
            if self.holders[id as usize] != 1 || self.tree.contains(id) {
                return;
            }
            match self.tree.find(parent.clone(), tokens) {
                Some(Place::Block(same)) => {
                    self.hold(same);
                    table.0[i] = same;
                    self.give_back(id);
                }
                Some(Place::Swapped(_)) | None => {
                    let slot = self.tree.insert(id, parent, tokens);
                    self.ops.extend(slot.map(BlockOp::Drop));
                }
            }
        }
    }

    /// Forgets what blocks hold: it cannot be trusted any more. Tables keep theirs.
    pub fn forget(&mut self) {
        let found = self.tree.clear();
        self.drop_from_tree(found);
    }

    /// The same of what is behind `salt`.
    pub fn forget_of(&mut self, salt: &str) {
        let found = self.tree.clear_of(salt);
        self.drop_from_tree(found);
    }

    fn drop_from_tree(&mut self, (blocks, slots): (Vec<BlockId>, Vec<Slot>)) {
        self.free.extend(blocks);
        self.ops.extend(slots.into_iter().map(BlockOp::Drop));
    }

    /// Blocks that no table holds: they can be had. `None` for a model that keeps no keys and
    /// values.
    pub fn free_blocks(&self) -> Option<usize> {
        (self.groups > 0).then(|| self.unheld())
    }

    /// Those of [`free_blocks`](Self::free_blocks) that are known to hold something.
    pub fn cached_blocks(&self) -> usize {
        self.tree.unheld()
    }

    /// Blocks that are swapped.
    pub fn swapped_blocks(&self) -> usize {
        self.tree.swapped()
    }

    /// All blocks.
    pub fn blocks(&self) -> usize {
        self.holders.len()
    }

    fn unheld(&self) -> usize {
        self.free.len() + self.tree.unheld()
    }

    /// A block for a new use, held once.
    fn take(&mut self) -> Option<BlockId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let (from, slot) = self.tree.evict()?;
                self.ops
                    .extend(slot.map(|to| BlockOp::SwapOut { from, to }));
                self.drop_swapped();
                from
            }
        };
        self.holders[id as usize] = 1;
        Some(id)
    }

    /// Forgets what is swapped beyond what may be.
    fn drop_swapped(&mut self) {
        while let Some(slot) = self.tree.drop_swapped() {
            self.ops.push(BlockOp::Drop(slot));
        }
    }

    /// Holds a block that is held or in the tree once more.
    fn hold(&mut self, id: BlockId) {
        if self.holders[id as usize] == 0 {
            self.tree.hold(id);
        }
        self.holders[id as usize] += 1;
    }

    fn give_back(&mut self, id: BlockId) {
        let holders = &mut self.holders[id as usize];
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        match self.tree.contains(id) {
            true => self.tree.let_go(id),
            false => self.free.push(id),
        }
    }

    /// What is before the block that follows `blocks`; `None` if that is not in the tree.
    fn parent(&self, blocks: &[BlockId], salt: &Arc<str>) -> Option<Parent> {
        match blocks.last() {
            Some(&id) => self.tree.parent(id),
            None => Some(Parent::Root(Arc::clone(salt))),
        }
    }
}
