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
//!
//! What is evicted may be swapped: it stays in the tree, in a slot outside the executor. Children
//! are swapped before their parents, and brought back after them. So dropping what was swapped out
//! first never cuts a branch either, and what is behind a swapped block is swapped as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use zse_model::executor::BlockId;

use super::Slot;

/// A block's content, wherever it is. Numbers are not used again.
type NodeId = u64;

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
    Node(NodeId),
}

/// Where what is asked for is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Block(BlockId),
    Swapped(Slot),
}

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    place: Place,
}

#[derive(Clone, Debug)]
pub(super) struct PrefixTree {
    children: HashMap<Key, NodeId>,
    nodes: HashMap<NodeId, Node>,
    /// By block: its node, if it is in the tree.
    of_block: Vec<Option<NodeId>>,
    /// By block: when it was let go last.
    let_go: Vec<u64>,
    /// Blocks of the tree that nobody holds, by when they were let go.
    unheld: BTreeMap<u64, BlockId>,
    /// What is swapped, that which was swapped out first before the rest.
    swapped: BTreeMap<Slot, NodeId>,
    /// Most nodes that may be swapped.
    slots: usize,
    /// Counts how often a block was let go, swapped or taken in.
    clock: u64,
}

impl PrefixTree {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            children: HashMap::new(),
            nodes: HashMap::new(),
            of_block: vec![None; blocks],
            let_go: vec![0; blocks],
            unheld: BTreeMap::new(),
            swapped: BTreeMap::new(),
            slots: 0,
            clock: 0,
        }
    }

    /// The node with `tokens` behind `parent`.
    pub(super) fn find(&self, parent: Parent, tokens: &[u32]) -> Option<Place> {
        let tokens = tokens.into();
        let id = self.children.get(&Key { parent, tokens })?;
        self.nodes.get(id).map(|node| node.place)
    }

    /// What is before the children of `block`, if it is in the tree.
    pub(super) fn parent(&self, block: BlockId) -> Option<Parent> {
        self.of_block[block as usize].map(Parent::Node)
    }

    /// Takes `block`, which somebody holds, in: for what is swapped, or for what was not known.
    pub(super) fn insert(
        &mut self,
        block: BlockId,
        parent: Parent,
        tokens: &[u32],
    ) -> Option<Slot> {
        let tokens = tokens.into();
        let key = Key { parent, tokens };
        let place = Place::Block(block);
        if let Some(&id) = self.children.get(&key)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            self.of_block[block as usize] = Some(id);
            return match std::mem::replace(&mut node.place, place) {
                Place::Block(_) => None,
                Place::Swapped(slot) => self.swapped.remove(&slot).map(|_| slot),
            };
        }
        let id = self.tick();
        self.of_block[block as usize] = Some(id);
        self.children.insert(key.clone(), id);
        self.nodes.insert(id, Node { key, place });
        None
    }

    pub(super) fn contains(&self, block: BlockId) -> bool {
        self.of_block[block as usize].is_some()
    }

    /// Somebody holds a block again that nobody held.
    pub(super) fn hold(&mut self, block: BlockId) {
        self.unheld.remove(&self.let_go[block as usize]);
    }

    /// Nobody holds a block of the tree any more.
    pub(super) fn let_go(&mut self, block: BlockId) {
        let now = self.tick();
        self.let_go[block as usize] = now;
        self.unheld.insert(now, block);
    }

    /// Takes out the block that was let go first, for another use. Where it is swapped, so is what
    /// it holds, to the slot that is given.
    pub(super) fn evict(&mut self) -> Option<(BlockId, Option<Slot>)> {
        let (_, block) = self.unheld.pop_first()?;
        let Some(id) = self.of_block[block as usize].take() else {
            return Some((block, None));
        };
        if self.slots == 0 {
            self.remove(id);
            return Some((block, None));
        }
        let slot = Slot(self.tick());
        if let Some(node) = self.nodes.get_mut(&id) {
            node.place = Place::Swapped(slot);
        }
        self.swapped.insert(slot, id);
        Some((block, Some(slot)))
    }

    /// Allows `slots` nodes to be swapped.
    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// Forgets what was swapped out first, as long as more is swapped than may; the slot that it was
    /// in.
    pub(super) fn drop_swapped(&mut self) -> Option<Slot> {
        if self.swapped.len() <= self.slots {
            return None;
        }
        let (slot, id) = self.swapped.pop_first()?;
        self.remove(id);
        Some(slot)
    }

    /// Forgets of what was swapped out after `since` all but the last `most`; their slots. What was
    /// behind them and swapped before is out of reach, and dropped before the rest.
    pub(super) fn drop_excess(&mut self, since: Slot, most: usize) -> Vec<Slot> {
        let new = (Bound::Excluded(since), Bound::Unbounded);
        let mut slots: Vec<Slot> = self.swapped.range(new).map(|(&slot, _)| slot).collect();
        slots.truncate(slots.len().saturating_sub(most));
        slots.iter().for_each(|&slot| self.lose(slot));
        slots
    }

    /// Forgets what is in `slot`.
    pub(super) fn lose(&mut self, slot: Slot) {
        if let Some(id) = self.swapped.remove(&slot) {
            self.remove(id);
        }
    }

    /// No slot was given that is newer than this.
    pub(super) fn newest_slot(&self) -> Slot {
        Slot(self.clock)
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            self.children.remove(&node.key);
        }
    }

    /// How many blocks of the tree nobody holds.
    pub(super) fn unheld(&self) -> usize {
        self.unheld.len()
    }

    /// How much is swapped.
    pub(super) fn swapped(&self) -> usize {
        self.swapped.len()
    }

    /// Forgets what is behind a salt; the blocks that nobody held, and the slots.
    pub(super) fn clear_of(&mut self, salt: &str) -> (Vec<BlockId>, Vec<Slot>) {
        // A node is older than its children, and its number less.
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.sort_unstable();
        let mut behind = HashSet::new();
        let (mut unheld, mut slots) = (Vec::new(), Vec::new());
        for id in ids {
            let Node { key, place } = &self.nodes[&id];
            let is_behind = match &key.parent {
                Parent::Root(root) => **root == *salt,
                Parent::Node(parent) => behind.contains(parent),
            };
            if !is_behind {
                continue;
            }
            match *place {
                Place::Block(block) => {
                    self.of_block[block as usize] = None;
                    let let_go = self.let_go[block as usize];
                    if self.unheld.get(&let_go) == Some(&block) {
                        self.unheld.remove(&let_go);
                        unheld.push(block);
                    }
                }
                Place::Swapped(slot) => {
                    self.swapped.remove(&slot);
                    slots.push(slot);
                }
            }
            behind.insert(id);
        }
        behind.into_iter().for_each(|id| self.remove(id));
        (unheld, slots)
    }

    /// Forgets everything; the blocks that nobody held, and the slots.
    pub(super) fn clear(&mut self) -> (Vec<BlockId>, Vec<Slot>) {
        self.children.clear();
        self.nodes.clear();
        self.of_block.fill(None);
        let unheld = std::mem::take(&mut self.unheld).into_values();
        let slots = std::mem::take(&mut self.swapped).into_keys();
        (unheld.collect(), slots.collect())
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}
