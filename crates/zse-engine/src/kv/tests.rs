//! Blocks by example and by random actions.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use zse_model::executor::BlockId;

use super::{BlockManager, BlockOp, BlockTable, Slot};

const BLOCKS: usize = 12;
const BLOCK_LEN: usize = 4;

fn salt(name: &str) -> Arc<str> {
    name.into()
}

/// A sequence as the engine has it: its table, its tokens, and how many of them are computed.
#[derive(Default)]
struct Seq {
    table: BlockTable,
    tokens: Vec<u32>,
    computed: usize,
    salt: usize,
}

#[derive(Clone, Debug)]
enum Action {
    /// Ends a sequence and starts another, with as much as is known.
    Start {
        at: usize,
        family: u32,
        salt: usize,
        tokens: usize,
    },
    /// Computes so many tokens more.
    Compute(usize, usize),
    /// Computes without a word of what it holds.
    Quietly(usize, usize),
    Fork(usize, usize, usize),
    Release(usize),
    Forget,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..5usize, 0..3u32, 0..2usize, 1..30usize).prop_map(|(at, family, salt, tokens)| {
            Action::Start { at, family, salt, tokens }
        }),
        6 => (0..5usize, 1..12usize).prop_map(|(i, n)| Action::Compute(i, n)),
        1 => (0..5usize, 1..12usize).prop_map(|(i, n)| Action::Quietly(i, n)),
        2 => (0..5usize, 0..5usize, 0..30usize).prop_map(|(i, j, n)| Action::Fork(i, j, n)),
        3 => (0..5usize).prop_map(Action::Release),
        1 => Just(Action::Forget),
    ]
}

/// Families of sequences that begin alike: the first three tokens tell nobody apart.
fn token(family: u32, i: usize) -> u32 {
    if i < 3 || i.is_multiple_of(5) {
        7
    } else {
        family * 100 + i as u32 / 9
    }
}

/// Every block is held, cached or free, one of them, and counted once for each table that holds it.
fn check(manager: &BlockManager, seqs: &[Seq]) {
    let mut held = [0; BLOCKS];
    for id in seqs.iter().flat_map(|s| s.table.as_slice()) {
        held[*id as usize] += 1;
    }
    assert_eq!(manager.holders, held);
    let mut free = manager.free.clone();
    free.sort_unstable();
    let unheld = (0..BLOCKS as BlockId).filter(|&b| held[b as usize] == 0);
    let (cached, others): (Vec<_>, Vec<_>) = unheld.partition(|&b| manager.tree.contains(b));
    assert_eq!(free, others);
    assert_eq!(manager.cached_blocks(), cached.len());
    let used = held.iter().filter(|&&n| n > 0).count();
    assert_eq!(manager.free_blocks(), Some(BLOCKS - used));
}

/// What the rows of each block hold, as the tokens and the tenant of everything up to there.
type Memory = Vec<Rows>;
type Slots = BTreeMap<Slot, Rows>;
type Rows = Vec<Option<(usize, Vec<u32>)>>;

/// Does what has to be done to blocks, as an executor does it: what is brought back is at hand
/// before anything else.
fn carry_out(manager: &mut BlockManager, at_once: usize, memory: &mut Memory, slots: &mut Slots) {
    let ops = manager.take_ops();
    let swaps = |swap: fn(&BlockOp) -> bool| ops.iter().filter(|op| swap(op)).count();
    assert!(swaps(|op| matches!(op, BlockOp::SwapOut { .. })) <= at_once);
    assert!(swaps(|op| matches!(op, BlockOp::SwapIn { .. })) <= at_once);
    for op in &ops {
        if let BlockOp::SwapIn { from: slot, .. } | BlockOp::Drop(slot) = op {
            assert!(slots.contains_key(slot), "an earlier step swapped it out");
        }
    }
    for op in ops {
        match op {
            BlockOp::Copy { from, to } => memory[to as usize] = memory[from as usize].clone(),
            BlockOp::SwapOut { from, to } => {
                let before = slots.insert(to, memory[from as usize].clone());
                assert_eq!(before, None, "a slot is used once");
            }
            BlockOp::SwapIn { from, to } => {
                memory[to as usize] = slots.remove(&from).expect("it was swapped out");
            }
            BlockOp::Drop(slot) => assert!(slots.remove(&slot).is_some()),
        }
    }
}

fn compute(memory: &mut Memory, seq: &mut Seq, until: usize) {
    for i in seq.computed..until {
        let row = &mut memory[seq.table.as_slice()[i / BLOCK_LEN] as usize][i % BLOCK_LEN];
        *row = Some((seq.salt, seq.tokens[..=i].to_vec()));
    }
    seq.computed = until;
}

/// Every row that a sequence has is what it would have computed itself, for its own tenant.
fn check_rows(memory: &Memory, seqs: &[Seq]) {
    for seq in seqs {
        for i in 0..seq.computed {
            let row = &memory[seq.table.as_slice()[i / BLOCK_LEN] as usize][i % BLOCK_LEN];
            assert_eq!(row.as_ref(), Some(&(seq.salt, seq.tokens[..=i].to_vec())));
        }
    }
}

proptest! {
    #[test]
    fn no_block_leaks_or_holds_what_is_not_asked_for(
        actions in prop::collection::vec(action(), 0..120),
        room in prop_oneof![Just(0), 1..8usize, Just(100)],
        at_once in 1..15usize,
    ) {
        let salts = [salt("one"), salt("another")];
        let mut manager = BlockManager::new(2, BLOCKS, BLOCK_LEN);
        manager.set_slots(room, at_once);
        let mut slots = Slots::new();
        let mut memory: Memory = vec![vec![None; BLOCK_LEN]; BLOCKS];
        let mut seqs: Vec<Seq> = (0..5).map(|_| Seq::default()).collect();
        for action in actions {
            match action {
                Action::Start { at, family, salt, tokens } => {
                    let tokens: Vec<u32> = (0..tokens).map(|i| token(family, i)).collect();
                    manager.release(&mut seqs[at].table);
                    let findable = &tokens[..tokens.len() - 1];
                    let mut table = manager.find(&salts[salt], findable);
                    manager.swap_in(&mut table, &salts[salt], findable);
                    let computed = table.as_slice().len() * BLOCK_LEN;
                    prop_assert!(computed < tokens.len(), "the last token is always computed");
                    seqs[at] = Seq { table, tokens, computed, salt };
                }
                Action::Compute(i, n) | Action::Quietly(i, n) => {
                    let seq = &mut seqs[i];
                    let until = (seq.computed + n).min(seq.tokens.len());
                    let before = seq.table.as_slice().len();
                    let lacking = until.div_ceil(BLOCK_LEN).saturating_sub(before);
                    let free = manager.free_blocks().unwrap();
                    let grown = manager.grow(&mut seq.table, until);
                    prop_assert_eq!(grown, lacking <= free);
                    if grown {
                        let first = seq.computed / BLOCK_LEN;
                        carry_out(&mut manager, at_once, &mut memory, &mut slots);
                        compute(&mut memory, seq, until);
                        if let Action::Compute(..) = action {
                            let tokens = &seq.tokens[..until];
                            manager.keep(&mut seq.table, first, &salts[seq.salt], tokens);
                        }
                    }
                    let after = seq.table.as_slice().len();
                    prop_assert_eq!(after, before + if grown { lacking } else { 0 });
                }
                Action::Fork(i, j, tokens) if i != j => {
                    let computed = tokens.min(seqs[i].computed);
                    if let Some(table) = manager.fork(&seqs[i].table, computed) {
                        manager.release(&mut seqs[j].table);
                        let (tokens, salt) = (seqs[i].tokens.clone(), seqs[i].salt);
                        seqs[j] = Seq { table, tokens, computed, salt };
                    } else {
                        prop_assert_eq!(manager.free_blocks(), Some(0));
                    }
                }
                Action::Fork(..) => {}
                Action::Release(i) => {
                    manager.release(&mut seqs[i].table);
                    seqs[i] = Seq::default();
                }
                Action::Forget => manager.forget(),
            }
            check(&manager, &seqs);
            carry_out(&mut manager, at_once, &mut memory, &mut slots);
            check_rows(&memory, &seqs);
            prop_assert!(manager.swapped_blocks() <= room);
            prop_assert_eq!(manager.swapped_blocks(), slots.len());
        }
        seqs.iter_mut().for_each(|s| manager.release(&mut s.table));
        prop_assert_eq!(manager.free_blocks(), Some(BLOCKS));
        manager.forget();
        prop_assert_eq!(manager.cached_blocks(), 0);
        prop_assert_eq!(manager.free.len(), BLOCKS);
        carry_out(&mut manager, at_once, &mut memory, &mut slots);
        prop_assert!(slots.is_empty());
    }
}

/// A manager that has computed `tokens` for `salt`, and nobody holds them any more.
fn after(manager: &mut BlockManager, name: &str, tokens: &[u32]) {
    let mut table = manager.find(&salt(name), tokens);
    let found = table.as_slice().len();
    assert!(manager.grow(&mut table, tokens.len()));
    manager.keep(&mut table, found, &salt(name), tokens);
    manager.release(&mut table);
}

/// How many blocks of `tokens` are known.
fn known(manager: &mut BlockManager, name: &str, tokens: &[u32]) -> usize {
    let mut table = manager.find(&salt(name), tokens);
    let known = table.as_slice().len();
    manager.release(&mut table);
    known
}

#[test]
fn what_begins_alike_is_found_as_far_as_it_does() {
    let mut manager = BlockManager::new(1, 10, 4);
    after(&mut manager, "", &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(manager.cached_blocks(), 2, "full blocks only");
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6, 7, 8]), 2);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6, 7]), 1);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6, 7, 0]), 1);
    assert_eq!(known(&mut manager, "", &[5, 6, 7, 8]), 0, "elsewhere");
}

#[test]
fn tenants_do_not_find_what_is_anothers() {
    let mut manager = BlockManager::new(1, 10, 4);
    let tokens = [1, 2, 3, 4, 5, 6, 7, 8];
    after(&mut manager, "one", &tokens);
    assert_eq!(known(&mut manager, "another", &tokens), 0);
    after(&mut manager, "another", &tokens);
    assert_eq!(manager.cached_blocks(), 4);
    assert_eq!(known(&mut manager, "one", &tokens), 2);
}

#[test]
fn the_least_recently_used_branch_goes_first_and_from_its_end() {
    let mut manager = BlockManager::new(1, 6, 2);
    after(&mut manager, "", &[1, 2, 3, 4, 5, 6]);
    after(&mut manager, "", &[7, 8, 9, 10]);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6]), 3);
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 4));
    assert_eq!(
        known(&mut manager, "", &[7, 8, 9, 10]),
        1,
        "its end is gone"
    );
    assert!(manager.grow(&mut table, 6));
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6]), 2);
    assert!(!manager.grow(&mut table, 14), "6 blocks hold 12 tokens");
    assert!(manager.grow(&mut table, 12));
    assert_eq!(manager.cached_blocks(), 0);
}

#[test]
fn what_gives_way_is_swapped_from_its_end_and_comes_back_from_its_beginning() {
    let mut manager = BlockManager::new(1, 3, 2);
    manager.set_slots(2, 9);
    after(&mut manager, "", &[1, 2, 3, 4, 5, 6]);
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 6));
    let ops = manager.take_ops();
    // There are two slots: the third block is not copied only to be dropped.
    let [
        BlockOp::SwapOut {
            from: 1,
            to: second,
        },
        BlockOp::SwapOut { from: 0, to: first },
    ] = ops[..]
    else {
        panic!("{ops:?}")
    };
    assert_eq!(manager.swapped_blocks(), 2);
    manager.release(&mut table);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6]), 0);
    let mut table = manager.find(&salt(""), &[1, 2, 3, 4, 5, 6]);
    manager.swap_in(&mut table, &salt(""), &[1, 2, 3, 4, 5, 6]);
    let [a, b] = table.as_slice() else {
        panic!("{table:?}")
    };
    let ops = [(first, *a), (second, *b)].map(|(from, to)| BlockOp::SwapIn { from, to });
    assert_eq!(manager.take_ops(), ops);
    assert_eq!(manager.swapped_blocks(), 0);
    manager.release(&mut table);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4, 5, 6]), 2);
}

#[test]
fn so_much_at_once_is_swapped_and_no_more() {
    let mut manager = BlockManager::new(1, 5, 2);
    manager.set_slots(100, 2);
    let tokens: Vec<u32> = (0..10).collect();
    after(&mut manager, "", &tokens);
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 10));
    // What is still to be copied is not brought back.
    manager.release(&mut table);
    let mut table = manager.find(&salt(""), &tokens);
    manager.swap_in(&mut table, &salt(""), &tokens);
    assert!(table.as_slice().is_empty());
    let ops = manager.take_ops();
    let beginning = [1, 0].map(|id| {
        ops.iter()
            .any(|op| matches!(op, BlockOp::SwapOut { from, .. } if *from == id))
    });
    assert_eq!(
        (beginning, ops.len()),
        ([true; 2], 2),
        "the beginning is worth most"
    );
    assert_eq!(manager.swapped_blocks(), 2);
    manager.set_slots(100, 1);
    manager.swap_in(&mut table, &salt(""), &tokens);
    assert_eq!(table.as_slice().len(), 1);
    assert!(matches!(manager.take_ops()[..], [BlockOp::SwapIn { .. }]));
    manager.swap_in(&mut table, &salt(""), &tokens);
    assert_eq!(table.as_slice().len(), 2, "in the next step");
}

#[test]
fn what_is_lost_is_not_found() {
    let mut manager = BlockManager::new(1, 2, 2);
    manager.set_slots(9, 9);
    after(&mut manager, "", &[1, 2, 3, 4]);
    after(&mut manager, "", &[5, 6, 7, 8]);
    let ops = manager.take_ops();
    let [BlockOp::SwapOut { to: second, .. }, BlockOp::SwapOut { .. }] = ops[..] else {
        panic!("{ops:?}")
    };
    manager.lose(&[second]);
    assert_eq!(manager.swapped_blocks(), 1);
    let mut table = BlockTable::default();
    manager.swap_in(&mut table, &salt(""), &[1, 2, 3, 4]);
    assert_eq!(table.as_slice().len(), 1);
}

#[test]
fn drops_can_be_had_before_the_rest() {
    let mut manager = BlockManager::new(1, 2, 2);
    manager.set_slots(9, 9);
    after(&mut manager, "", &[1, 2, 3, 4]);
    after(&mut manager, "", &[5, 6, 7, 8]);
    assert_eq!(manager.take_drops(), []);
    let swapped = manager.take_ops().len();
    assert_eq!(swapped, 2);
    after(&mut manager, "", &[9, 10]);
    manager.forget();
    assert_eq!(manager.take_drops().len(), 2, "one was never copied");
    assert_eq!(manager.take_ops(), []);
}

#[test]
fn what_is_computed_again_needs_no_slot() {
    let mut manager = BlockManager::new(1, 2, 2);
    manager.set_slots(9, 9);
    after(&mut manager, "", &[1, 2, 3, 4]);
    after(&mut manager, "", &[7, 8, 9, 10]);
    assert_eq!(manager.swapped_blocks(), 2);
    // As one does for whom nothing is looked up.
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 4));
    assert_eq!(manager.swapped_blocks(), 4);
    manager.take_ops();
    manager.keep(&mut table, 0, &salt(""), &[1, 2, 3, 4]);
    assert_eq!(manager.swapped_blocks(), 2);
    let ops = manager.take_ops();
    assert!(matches!(ops[..], [BlockOp::Drop(_), BlockOp::Drop(_)]));
    manager.release(&mut table);
    assert_eq!(known(&mut manager, "", &[1, 2, 3, 4]), 2);
}

#[test]
fn what_two_have_computed_is_kept_once() {
    let mut manager = BlockManager::new(1, 10, 2);
    let tokens = [1, 2, 3, 4, 5];
    let mut tables = [BlockTable::default(), BlockTable::default()];
    for table in &mut tables {
        assert!(manager.grow(table, tokens.len()));
    }
    assert_eq!(manager.free_blocks(), Some(4));
    for table in &mut tables {
        manager.keep(table, 0, &salt(""), &tokens);
    }
    assert_eq!(tables[0].as_slice(), [0, 1, 2]);
    assert_eq!(tables[1].as_slice(), [0, 1, 5]);
    assert_eq!(manager.free_blocks(), Some(6));
}

#[test]
fn a_fork_shares_full_blocks_and_copies_the_last() {
    let mut manager = BlockManager::new(1, 10, 4);
    let mut parent = BlockTable::default();
    assert!(manager.grow(&mut parent, 11));
    let fork = manager.fork(&parent, 10).unwrap();
    assert_eq!(parent.as_slice(), [0, 1, 2]);
    assert_eq!(fork.as_slice(), [0, 1, 3]);
    assert_eq!(manager.take_ops(), [BlockOp::Copy { from: 2, to: 3 }]);
    manager.release(&mut parent);
    assert_eq!(manager.free_blocks(), Some(7), "shared blocks stay");
}

#[test]
fn a_model_without_keys_and_values_needs_no_blocks() {
    let mut manager = BlockManager::new(0, 0, 16);
    let mut table = BlockTable::default();
    assert!(manager.grow(&mut table, 1000));
    manager.keep(&mut table, 0, &salt(""), &[1; 1000]);
    assert_eq!(known(&mut manager, "", &[1; 1000]), 0);
    assert_eq!(manager.free_blocks(), None);
    manager.release(&mut table);
}
