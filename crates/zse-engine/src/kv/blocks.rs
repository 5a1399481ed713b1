//! Blocks of each KV group: handed out, shared, counted, given back.

use zse_model::executor::{BlockId, KvOp};

/// The blocks of one sequence, a table for each KV group. Token `i` of the sequence is row
/// `i % block_len` of block `i / block_len` of each table.
///
/// Only [`BlockManager`] fills and empties tables, so that a block cannot be given back twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockTables(Vec<Vec<BlockId>>);

impl BlockTables {
    /// Table by KV group; none while no block is held.
    pub fn as_slice(&self) -> &[Vec<BlockId>] {
        &self.0
    }
}

/// The free blocks of one group, and how many tables hold each of its blocks.
#[derive(Clone, Debug)]
struct Pool {
    holders: Vec<u32>,
    free: Vec<BlockId>,
}

impl Pool {
    fn new(blocks: usize) -> Self {
        // Low numbers are handed out first.
        Self {
            holders: vec![0; blocks],
            free: (0..blocks as BlockId).rev().collect(),
        }
    }

    fn take(&mut self) -> Option<BlockId> {
        let id = self.free.pop()?;
        self.holders[id as usize] = 1;
        Some(id)
    }

    fn share(&mut self, id: BlockId) -> BlockId {
        self.holders[id as usize] += 1;
        id
    }

    fn give_back(&mut self, id: BlockId) {
        let holders = &mut self.holders[id as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(id);
        }
    }
}

/// Hands out the blocks of every KV group.
#[derive(Clone, Debug)]
pub struct BlockManager {
    block_len: usize,
    pools: Vec<Pool>,
}

impl BlockManager {
    /// `groups` groups of `blocks` blocks that hold `block_len` tokens each.
    pub fn new(groups: usize, blocks: usize, block_len: usize) -> Self {
        Self {
            block_len,
            pools: vec![Pool::new(blocks); groups],
        }
    }

    /// Makes `tables` long enough for `tokens` tokens, or changes nothing and returns false where
    /// too few blocks are free.
    pub fn grow(&mut self, tables: &mut BlockTables, tokens: usize) -> bool {
        let needed = tokens.div_ceil(self.block_len);
        tables.0.resize_with(self.pools.len(), Vec::new);
        let fits = |(pool, table): (&Pool, &Vec<BlockId>)| {
            pool.free.len() >= needed.saturating_sub(table.len())
        };
        if !self.pools.iter().zip(&tables.0).all(fits) {
            return false;
        }
        for (pool, table) in self.pools.iter_mut().zip(&mut tables.0) {
            while table.len() < needed {
                table.extend(pool.take());
            }
        }
        true
    }

    /// Gives all blocks of `tables` back; those that other tables hold as well stay in use.
    pub fn release(&mut self, tables: &mut BlockTables) {
        for (pool, table) in self.pools.iter_mut().zip(tables.0.drain(..)) {
            // The last blocks are handed out last.
            table.into_iter().rev().for_each(|id| pool.give_back(id));
        }
    }

    /// Tables that hold the first `tokens` tokens of `parent`: full blocks are shared, the rows of
    /// a block that is not full are copied by the operations that are added to `ops`. `None`, and
    /// nothing changed, where too few blocks are free.
    ///
    /// # Panics
    /// If `parent` does not hold `tokens` tokens.
    pub fn fork(
        &mut self,
        parent: &BlockTables,
        tokens: usize,
        ops: &mut Vec<KvOp>,
    ) -> Option<BlockTables> {
        let (full, rest) = (tokens / self.block_len, tokens % self.block_len);
        if rest > 0 && self.pools.iter().any(|pool| pool.free.is_empty()) {
            return None;
        }
        let tables =
            self.pools
                .iter_mut()
                .zip(&parent.0)
                .enumerate()
                .map(|(group, (pool, table))| {
                    let mut fork: Vec<BlockId> =
                        table[..full].iter().map(|&id| pool.share(id)).collect();
                    if rest > 0
                        && let Some(to) = pool.take()
                    {
                        ops.push(KvOp::Copy {
                            group,
                            from: table[full],
                            to,
                        });
                        fork.push(to);
                    }
                    fork
                });
        Some(BlockTables(tables.collect()))
    }

    /// Free blocks of the group that has fewest; `None` for a model that keeps no keys and values.
    pub fn free_blocks(&self) -> Option<usize> {
        self.pools.iter().map(|pool| pool.free.len()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: usize = 12;
    const BLOCK_LEN: usize = 4;

    #[derive(Clone, Debug)]
    enum Action {
        Grow(usize, usize),
        Fork(usize, usize, usize),
        Release(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..5usize, 0..40usize).prop_map(|(i, n)| Action::Grow(i, n)),
            (0..5usize, 0..5usize, 0..40usize).prop_map(|(i, j, n)| Action::Fork(i, j, n)),
            (0..5usize).prop_map(Action::Release),
        ]
    }

    /// Every block is free or held, never both, and is counted once for each table that holds it.
    fn check(manager: &BlockManager, tables: &[BlockTables]) {
        for (group, pool) in manager.pools.iter().enumerate() {
            let mut held = [0; BLOCKS];
            for id in tables.iter().filter_map(|t| t.0.get(group)).flatten() {
                held[*id as usize] += 1;
            }
            assert_eq!(pool.holders, held);
            let mut free = pool.free.clone();
            free.sort_unstable();
            let unheld: Vec<BlockId> = (0..BLOCKS as u32)
                .filter(|&b| held[b as usize] == 0)
                .collect();
            assert_eq!(free, unheld);
        }
    }

    proptest! {
        #[test]
        fn no_block_leaks_or_is_held_twice(actions in prop::collection::vec(action(), 0..80)) {
            let mut manager = BlockManager::new(2, BLOCKS, BLOCK_LEN);
            let mut tables: Vec<BlockTables> = (0..5).map(|_| BlockTables::default()).collect();
            for action in actions {
                match action {
                    Action::Grow(i, tokens) => {
                        let before = tables[i].0.first().map_or(0, Vec::len);
                        let needed = tokens.div_ceil(BLOCK_LEN);
                        let free = manager.free_blocks().unwrap();
                        let grown = manager.grow(&mut tables[i], tokens);
                        prop_assert_eq!(grown, needed.saturating_sub(before) <= free);
                        let after = tables[i].0[0].len();
                        prop_assert_eq!(after, if grown { before.max(needed) } else { before });
                    }
                    Action::Fork(i, j, tokens) if i != j => {
                        let held = tables[i].0.first().map_or(0, Vec::len) * BLOCK_LEN;
                        let tokens = tokens.min(held);
                        let mut ops = Vec::new();
                        let parent = std::mem::take(&mut tables[i]);
                        let fork = manager.fork(&parent, tokens, &mut ops);
                        if let Some(fork) = fork {
                            for (table, from) in fork.0.iter().zip(&parent.0) {
                                prop_assert_eq!(table.len(), tokens.div_ceil(BLOCK_LEN));
                                prop_assert_eq!(&table[..tokens / BLOCK_LEN], &from[..tokens / BLOCK_LEN]);
                            }
                            let copies = if tokens % BLOCK_LEN > 0 { parent.0.len() } else { 0 };
                            prop_assert_eq!(ops.len(), copies);
                            manager.release(&mut tables[j]);
                            tables[j] = fork;
                        } else {
                            prop_assert_eq!(manager.free_blocks(), Some(0));
                        }
                        tables[i] = parent;
                    }
                    Action::Fork(..) => {}
                    Action::Release(i) => manager.release(&mut tables[i]),
                }
                check(&manager, &tables);
            }
            tables.iter_mut().for_each(|t| manager.release(t));
            prop_assert_eq!(manager.free_blocks(), Some(BLOCKS));
        }
    }

    #[test]
    fn a_fork_shares_full_blocks_and_copies_the_last() {
        let mut manager = BlockManager::new(1, 10, 4);
        let mut parent = BlockTables::default();
        assert!(manager.grow(&mut parent, 11));
        let mut ops = Vec::new();
        let fork = manager.fork(&parent, 10, &mut ops).unwrap();
        assert_eq!(parent.as_slice(), [[0, 1, 2]]);
        assert_eq!(fork.as_slice(), [[0, 1, 3]]);
        assert_eq!(
            ops,
            [KvOp::Copy {
                group: 0,
                from: 2,
                to: 3
            }]
        );
        manager.release(&mut parent);
        assert_eq!(manager.free_blocks(), Some(7), "shared blocks stay");
    }

    #[test]
    fn a_model_without_keys_and_values_needs_no_blocks() {
        let mut manager = BlockManager::new(0, 0, 16);
        let mut tables = BlockTables::default();
        assert!(manager.grow(&mut tables, 1000));
        assert_eq!(manager.free_blocks(), None);
        manager.release(&mut tables);
    }
}
