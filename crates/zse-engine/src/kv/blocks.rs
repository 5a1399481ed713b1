//! Blocks: handed out, shared, counted, given back, found again.

use std::sync::Arc;

use zse_model::executor::{BlockId, KvOp};

use super::prefix::{Parent, PrefixTree};

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
/// be found again, until it is needed for something else, or *free*.
#[derive(Clone, Debug)]
pub struct BlockManager {
    groups: usize,
    block_len: usize,
    /// By block: how many tables hold it.
    pub(super) holders: Vec<u32>,
    pub(super) free: Vec<BlockId>,
    pub(super) tree: PrefixTree,
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
        }
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
        let needed = tokens.div_ceil(self.block_len);
        if self.unheld() < needed.saturating_sub(table.0.len()) {
            return false;
        }
        while table.0.len() < needed {
            table.0.extend(self.take());
        }
        true
    }

    /// Gives all blocks of `table` back; those that other tables hold as well stay in use.
    pub fn release(&mut self, table: &mut BlockTable) {
        // The last blocks are handed out last, and of what is cached they go first.
        while let Some(id) = table.0.pop() {
            self.give_back(id);
        }
    }

    /// A table that holds the first `tokens` tokens of `parent`: full blocks are shared, the rows of
    /// a block that is not full are copied by the operations that are added to `ops`. `None`, and
    /// nothing changed, where too few blocks can be had.
    ///
    /// # Panics
    /// If `parent` does not hold `tokens` tokens.
    pub fn fork(
        &mut self,
        parent: &BlockTable,
        tokens: usize,
        ops: &mut Vec<KvOp>,
    ) -> Option<BlockTable> {
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
            ops.extend((0..self.groups).map(|group| KvOp::Copy { group, from, to }));
            table.0.push(to);
        }
        Some(table)
    }

    /// A table of the blocks that are known to hold the beginning of `tokens`, as far as they do;
    /// only whole blocks.
    pub fn find(&mut self, salt: &Arc<str>, tokens: &[u32]) -> BlockTable {
        let mut table = BlockTable::default();
        for tokens in tokens.chunks_exact(self.block_len) {
            match self.tree.find(parent(&table.0, salt), tokens) {
                Some(id) => {
                    self.hold(id);
                    table.0.push(id);
                }
                None => break,
            }
        }
        table
    }

    /// Makes the blocks of `table` from index `from` on known to hold `tokens`: those of the whole
    /// sequence, each of them computed and final; the last block is left out if it is not full.
    /// Where another block is known to hold the same, the table takes that one instead. Ends at a
    /// block that somebody else holds as well, or whose parent is not known.
    pub fn keep(&mut self, table: &mut BlockTable, from: usize, salt: &Arc<str>, tokens: &[u32]) {
        let blocks = tokens.chunks_exact(self.block_len).enumerate().skip(from);
        for (i, tokens) in blocks.take(table.0.len().saturating_sub(from)) {
            let id = table.0[i];
            let parent = parent(&table.0[..i], salt);
            let is_unknown = matches!(parent, Parent::Block(b) if !self.tree.contains(b));
            // A child may be held by nobody who does not hold its parent.
            if is_unknown || self.holders[id as usize] != 1 || self.tree.contains(id) {
                return;
            }
            match self.tree.find(parent.clone(), tokens) {
                Some(same) => {
                    self.hold(same);
                    table.0[i] = same;
                    self.give_back(id);
                }
                None => self.tree.insert(id, parent, tokens),
            }
        }
    }

    /// Forgets what blocks hold: it cannot be trusted any more. Tables keep theirs.
    pub fn forget(&mut self) {
        self.free.extend(self.tree.clear());
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

    /// All blocks.
    pub fn blocks(&self) -> usize {
        self.holders.len()
    }

    fn unheld(&self) -> usize {
        self.free.len() + self.tree.unheld()
    }

    /// A block for a new use, held once.
    fn take(&mut self) -> Option<BlockId> {
        let id = self.free.pop().or_else(|| self.tree.evict())?;
        self.holders[id as usize] = 1;
        Some(id)
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
}

/// What is before the block that follows `blocks`.
fn parent(blocks: &[BlockId], salt: &Arc<str>) -> Parent {
    match blocks.last() {
        Some(&id) => Parent::Block(id),
        None => Parent::Root(Arc::clone(salt)),
    }
}
