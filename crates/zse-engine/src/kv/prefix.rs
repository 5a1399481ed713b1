//! The prefix tree: which blocks hold which tokens behind which others.
//!
//! A block in the tree is full and never written again. It is found by its parent and its own
//! tokens, compared one by one: no two contents can be taken for each other, whatever they hash to.
//! The parent of the first block of a sequence is the salt of its tenant, so that one tenant's
//! blocks are not reached, not even to measure whether they are there, from another's. The model,
//! the KV type and the program are those of the engine, which has one tree.
//!
//! Whoever holds a block holds its parent as well. So a block that nobody holds has no child that
//! somebody does, and, as the last block of a sequence is let go first, it was let go after its
//! children. Evicting what was let go first therefore never cuts a branch from its root.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zse_model::executor::BlockId;

/// What a block is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    parent: Parent,
    tokens: Arc<[u32]>,
}

/// What is before a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Parent {
    /// Nothing; the tenant's salt.
    Root(Arc<str>),
    Block(BlockId),
}

#[derive(Clone, Debug)]
pub(super) struct PrefixTree {
    children: HashMap<Key, BlockId>,
    /// By block: its key, if it is in the tree.
    keys: Vec<Option<Key>>,
    /// By block: when it was let go last.
    let_go: Vec<u64>,
    /// Blocks of the tree that nobody holds, by when they were let go.
    unheld: BTreeMap<u64, BlockId>,
    /// Counts how often a block was let go.
    clock: u64,
}

impl PrefixTree {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            children: HashMap::new(),
            keys: vec![None; blocks],
            let_go: vec![0; blocks],
            unheld: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The block with `tokens` behind `parent`.
    pub(super) fn find(&self, parent: Parent, tokens: &[u32]) -> Option<BlockId> {
        let tokens = tokens.into();
        self.children.get(&Key { parent, tokens }).copied()
    }

    /// Takes `block`, which somebody holds, in.
    pub(super) fn insert(&mut self, block: BlockId, parent: Parent, tokens: &[u32]) {
        let tokens = tokens.into();
        let key = Key { parent, tokens };
        self.children.insert(key.clone(), block);
        self.keys[block as usize] = Some(key);
    }

    pub(super) fn contains(&self, block: BlockId) -> bool {
        self.keys[block as usize].is_some()
    }

    /// Somebody holds a block again that nobody held.
    pub(super) fn hold(&mut self, block: BlockId) {
        self.unheld.remove(&self.let_go[block as usize]);
    }

    /// Nobody holds a block of the tree any more.
    pub(super) fn let_go(&mut self, block: BlockId) {
        self.clock += 1;
        self.let_go[block as usize] = self.clock;
        self.unheld.insert(self.clock, block);
    }

    /// Takes out the block that was let go first, for another use.
    pub(super) fn evict(&mut self) -> Option<BlockId> {
        let (_, block) = self.unheld.pop_first()?;
        if let Some(key) = self.keys[block as usize].take() {
            self.children.remove(&key);
        }
        Some(block)
    }

    /// How many blocks of the tree nobody holds.
    pub(super) fn unheld(&self) -> usize {
        self.unheld.len()
    }

    /// Forgets everything; the blocks that nobody held.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = BlockId> + use<> {
        self.children.clear();
        self.keys.fill(None);
        std::mem::take(&mut self.unheld).into_values()
    }
}
