//! Where the bytes of swapped blocks are: in memory, and what is older in a file.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;

use zse_model::executor::{BlockBytes, KvOp, KvType};

use super::compact::Compaction;
use super::swap_file::SwapFile;
use super::{BlockOp, Slot};

/// Where keys and values of earlier requests go when their blocks are needed, to be found again: the
/// least recently used go first, and are forgotten first where there is no more room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapConfig {
    /// Bytes of memory for them, between steps.
    pub memory: u64,
    /// A file for those that memory has no room for.
    pub disk: Option<SwapDisk>,
    /// What they are rounded to, so that more have room: then what comes back is not exact, and a
    /// request's tokens may depend on what else was asked.
    pub compact: Option<KvType>,
}

/// A file for keys and values. On Unix it has no name and is gone with the process, however that
/// ends; elsewhere its name goes when the engine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapDisk {
    /// The folder that it is made in, on a disk that is fast.
    pub folder: PathBuf,
    /// Most bytes.
    pub bytes: u64,
}

/// Bytes that one step may copy out, and as many in, however little memory there is for them.
const LEAST_AT_ONCE: u64 = 64 << 20;

impl SwapConfig {
    /// Bytes that one step copies out at most, and as many in; at least one block. What would be
    /// more is forgotten, or computed again.
    fn at_once(&self) -> u64 {
        self.memory.max(LEAST_AT_ONCE)
    }

    /// Most bytes of memory in use while a step runs: what is kept, what is on its way out and what
    /// is on its way in. (A block may be longer than all that; it is swapped nevertheless.) Blocks on
    /// their way are not compacted.
    pub fn peak_memory(&self) -> u64 {
        let each = match self.disk {
            Some(_) => self.at_once(),
            // There is no more than this.
            None => self.memory,
        };
        // What leaves takes the room of what is kept, unless it is larger.
        each.saturating_mul(if self.compact.is_some() { 3 } else { 2 })
    }
}

/// The bytes of swapped blocks, all of one size.
#[derive(Debug, Default)]
pub(crate) struct SwapStore {
    memory: BTreeMap<Slot, BlockBytes>,
    /// Blocks that may stay in memory.
    memory_blocks: usize,
    /// Blocks that a step may copy out, and as many in.
    at_once: usize,
    /// Most bytes of a block on its way.
    block_bytes: usize,
    compaction: Option<Compaction>,
    /// What is on its way out, to be compacted.
    leaving: Vec<Slot>,
    file: Option<SwapFile>,
    /// Since a failure: what was lost by it.
    lost: Option<Vec<Slot>>,
}

impl SwapStore {
    /// Room for blocks of at most `block_bytes`, which are numbers of type `ty` if that is known.
    ///
    /// # Errors
    /// If the file cannot be made, or blocks cannot be compacted as asked for.
    pub(crate) fn new(
        config: &SwapConfig,
        block_bytes: usize,
        ty: Option<KvType>,
    ) -> io::Result<Self> {
        let compaction = config.compact.map(|kept| Compaction::new(ty, kept));
        let mut store = Self {
            block_bytes,
            compaction: compaction.transpose()?,
            file: config.disk.as_ref().map(SwapFile::new).transpose()?,
            ..Self::default()
        };
        store.memory_blocks = blocks(config.memory, store.kept_bytes());
        store.at_once = blocks(config.at_once(), block_bytes).max(1);
        Ok(store)
    }

    /// Most bytes of a block that is kept.
    fn kept_bytes(&self) -> usize {
        let compaction = self.compaction;
        compaction.map_or(self.block_bytes, |c| c.kept_bytes(self.block_bytes))
    }

    /// Blocks that it has room for.
    pub(crate) fn slots(&self) -> usize {
        let file = self.file.as_ref().map_or(0, SwapFile::bytes);
        let in_file = blocks(file, self.kept_bytes());
        self.memory_blocks.saturating_add(in_file)
    }

    /// Blocks that a step may copy out, and as many in.
    pub(crate) fn at_once(&self) -> usize {
        self.at_once
    }

    /// What an executor has to do for `ops` in each of `groups` groups; its bytes come from here and
    /// go here. Slots are brought back that earlier steps swapped out.
    ///
    /// # Errors
    /// If bytes of the file cannot be read, or are not those that were written: then it is given up,
    /// with all that was in it.
    pub(crate) fn kv_ops(&mut self, ops: &[BlockOp], groups: usize) -> io::Result<Vec<KvOp>> {
        // What leaves makes room for what comes.
        let mut restored = VecDeque::new();
        let mut leaving = 0;
        for op in ops {
            match *op {
                BlockOp::Copy { .. } => {}
                BlockOp::SwapOut { .. } => leaving += 1,
                BlockOp::SwapIn { from, .. } => restored.push_back(self.take(from)?),
                BlockOp::Drop(slot) => self.remove(slot),
            }
        }
        self.keep(self.memory_blocks.saturating_sub(leaving));
        let mut kv_ops = Vec::with_capacity(ops.len());
        for &op in ops {
            match op {
                BlockOp::Copy { from, to } => {
                    kv_ops.extend((0..groups).map(|group| KvOp::Copy { group, from, to }));
                }
                BlockOp::SwapOut { from, to: slot } => {
                    let mut bytes = Vec::new();
                    if bytes.try_reserve_exact(self.block_bytes).is_ok() {
                        let to = BlockBytes::new(bytes);
                        self.memory.insert(slot, to.clone());
                        self.leaving.push(slot);
                        kv_ops.push(KvOp::SwapOut { from, to });
                    } else {
                        self.lost.get_or_insert_default().push(slot);
                    }
                }
                BlockOp::SwapIn { to, .. } => {
                    kv_ops.extend(restored.pop_front().map(|from| KvOp::SwapIn { from, to }));
                }
                BlockOp::Drop(_) => {}
            }
        }
        Ok(kv_ops)
    }

    fn take(&mut self, slot: Slot) -> io::Result<BlockBytes> {
        let lost = || io::Error::new(io::ErrorKind::NotFound, "a swapped block is lost");
        let bytes = match (self.memory.remove(&slot), &mut self.file) {
            (Some(bytes), _) => bytes,
            (None, Some(file)) => {
                let bytes = file.read(slot).map(BlockBytes::new);
                bytes.inspect_err(|_| self.give_up())?
            }
            (None, None) => return Err(lost()),
        };
        match self.compaction {
            None => Ok(bytes),
            Some(compaction) => {
                let block = compaction.expand(&bytes.lock());
                block.map(BlockBytes::new).ok_or_else(lost)
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.memory.remove(&slot);
        if let Some(file) = &mut self.file {
            file.free(slot);
        }
    }

    /// Forgets the blocks in `slots`.
    pub(crate) fn drop_slots(&mut self, slots: impl IntoIterator<Item = Slot>) {
        slots.into_iter().for_each(|slot| self.remove(slot));
        if self.file.as_ref().is_some_and(SwapFile::is_empty) {
            self.clear_file();
        }
    }

    /// Compacts what came, and moves what is too much for the memory to the file, once the executor
    /// has filled the bytes.
    pub(crate) fn settle(&mut self) {
        let leaving = std::mem::take(&mut self.leaving);
        if let Some(compaction) = self.compaction {
            for slot in leaving {
                self.compact(compaction, slot);
            }
        }
        self.keep(self.memory_blocks);
    }

    /// Compacts what is in `slot`, or loses it if that cannot be: it is no keys and values.
    fn compact(&mut self, compaction: Compaction, slot: Slot) {
        if let Some(bytes) = self.memory.remove(&slot) {
            match compaction.compact(&bytes.lock()) {
                Some(kept) => _ = self.memory.insert(slot, BlockBytes::new(kept)),
                None => self.lost.get_or_insert_default().push(slot),
            }
        }
    }

    /// Moves all but the newest `blocks` to the file.
    fn keep(&mut self, blocks: usize) {
        while self.memory.len() > blocks
            && let Some(file) = &mut self.file
            && let Some((slot, bytes)) = self.memory.pop_first()
        {
            if file.write(slot, &bytes.lock()).is_err() {
                self.give_up();
                self.lost.get_or_insert_default().push(slot);
            }
        }
    }

    /// Does without the file, which failed.
    fn give_up(&mut self) {
        let slots = self.file.take().into_iter();
        let slots = slots.flat_map(|file| file.slots().collect::<Vec<_>>());
        self.lost.get_or_insert_default().extend(slots);
    }

    /// If something failed since this was asked last: the slots that were lost by it.
    pub(crate) fn take_lost(&mut self) -> Option<Vec<Slot>> {
        self.lost.take()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.memory.clear();
        self.clear_file();
    }

    fn clear_file(&mut self) {
        if let Some(file) = &mut self.file
            && file.clear().is_err()
        {
            // Closed, it is gone.
            self.give_up();
        }
    }
}

/// Whole blocks of `each` bytes among so many.
fn blocks(bytes: u64, each: usize) -> usize {
    let blocks = bytes.checked_div(each as u64).unwrap_or(0);
    usize::try_from(blocks).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 100;

    fn store(memory: usize, disk: usize) -> SwapStore {
        let config = SwapConfig {
            memory: (memory * LEN + 1) as u64,
            disk: (disk > 0).then(|| SwapDisk {
                folder: std::env::temp_dir(),
                bytes: (disk * LEN) as u64,
            }),
            compact: None,
        };
        SwapStore::new(&config, LEN, None).unwrap()
    }

    fn block(n: u64) -> Vec<u8> {
        (0..LEN as u64).map(|i| (i * n) as u8).collect()
    }

    /// Swaps block `n` out to slot `n`, as an executor does.
    fn put(store: &mut SwapStore, n: u64) {
        let op = BlockOp::SwapOut {
            from: 0,
            to: Slot(n),
        };
        let ops = store.kv_ops(&[op], 2).unwrap();
        let [KvOp::SwapOut { to, .. }] = &ops[..] else {
            panic!("{ops:?}")
        };
        *to.lock() = block(n);
    }

    fn take(store: &mut SwapStore, n: u64) -> io::Result<Vec<u8>> {
        let op = BlockOp::SwapIn {
            from: Slot(n),
            to: 0,
        };
        let ops = store.kv_ops(&[op], 2)?;
        let [KvOp::SwapIn { from, .. }] = &ops[..] else {
            panic!("{ops:?}")
        };
        let bytes = from.lock().clone();
        Ok(bytes)
    }

    #[test]
    fn what_memory_has_no_room_for_is_in_the_file_and_comes_back() {
        let mut store = store(2, 5);
        assert_eq!(store.slots(), 7);
        for round in 0..3 {
            for n in 1..=7 {
                put(&mut store, round * 10 + n);
                store.settle();
            }
            assert_eq!(store.memory.len(), 2);
            for n in [3, 7, 1, 2] {
                assert_eq!(
                    take(&mut store, round * 10 + n).unwrap(),
                    block(round * 10 + n)
                );
            }
            let rest = [4, 5, 6].map(|n| BlockOp::Drop(Slot(round * 10 + n)));
            store.kv_ops(&rest, 2).unwrap();
            assert!(store.memory.is_empty() && store.file.as_ref().unwrap().is_empty());
            assert_eq!(store.take_lost(), None);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_given_up_with_what_was_in_it() {
        let mut store = store(1, 5);
        for n in 1..=3 {
            put(&mut store, n);
        }
        store.settle();
        assert_eq!(store.take_lost(), None);
        // What no executor filled stands for a disk that is full.
        let op = BlockOp::SwapOut {
            from: 0,
            to: Slot(4),
        };
        store.kv_ops(&[op], 2).unwrap();
        put(&mut store, 5);
        let mut lost = store.take_lost().unwrap();
        lost.sort_unstable();
        assert_eq!(lost, [1, 2, 3, 4].map(Slot));
        assert_eq!(store.slots(), 1);
        assert_eq!(take(&mut store, 5).unwrap(), block(5));
        assert!(take(&mut store, 1).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_given_up_with_what_was_in_it() {
        let mut store = store(0, 5);
        for n in 1..=3 {
            put(&mut store, n);
        }
        store.settle();
        assert!(take(&mut store, 4).is_err());
        let mut lost = store.take_lost().unwrap();
        lost.sort_unstable();
        assert_eq!(lost, [1, 2, 3].map(Slot));
        assert_eq!(store.slots(), 0);
    }

    #[test]
    fn what_is_forgotten_makes_room_before_anything_is_written() {
        let mut store = store(1, 2);
        for n in 1..=3 {
            put(&mut store, n);
        }
        store.settle();
        let ops = [
            BlockOp::SwapOut {
                from: 0,
                to: Slot(4),
            },
            BlockOp::Drop(Slot(1)),
        ];
        let ops = store.kv_ops(&ops, 2).unwrap();
        let [KvOp::SwapOut { to, .. }] = &ops[..] else {
            panic!("{ops:?}")
        };
        *to.lock() = block(4);
        assert_eq!(store.memory.len(), 1, "what was there went first");
        store.drop_slots([Slot(4)]);
        store.settle();
        assert_eq!(store.take_lost(), None);
        for n in [2, 3] {
            assert_eq!(take(&mut store, n).unwrap(), block(n));
        }
    }

    #[test]
    fn blocks_that_are_shorter_than_was_thought_are_kept_as_they_are() {
        let mut store = store(0, 5);
        store.block_bytes += 1;
        for n in 1..=3 {
            put(&mut store, n);
            store.settle();
        }
        for n in 1..=3 {
            assert_eq!(take(&mut store, n).unwrap(), block(n));
        }
    }

    #[test]
    fn memory_that_is_on_its_way_counts() {
        let mut config = SwapConfig::default();
        assert_eq!(config.peak_memory(), 0);
        config.memory = 1 << 20;
        assert_eq!(config.peak_memory(), 2 << 20);
        config.disk = Some(SwapDisk {
            folder: std::env::temp_dir(),
            bytes: 1 << 30,
        });
        assert_eq!(config.peak_memory(), 2 * LEAST_AT_ONCE);
        config.memory = 1 << 30;
        assert_eq!(config.peak_memory(), 2 << 30);
        let blocks = |len| SwapStore::new(&config, len, None).unwrap().at_once();
        assert_eq!(blocks(1 << 20), 1 << 10);
        assert_eq!(blocks(1 << 31), 1);
        config.compact = Some(KvType::Q8_0);
        assert_eq!(config.peak_memory(), 3 << 30);
    }

    #[test]
    fn compacted_blocks_have_room_for_nearly_twice_as_many() {
        let config = SwapConfig {
            memory: 10 * 64,
            disk: Some(SwapDisk {
                folder: std::env::temp_dir(),
                bytes: 10 * 64,
            }),
            compact: Some(KvType::Q8_0),
        };
        let mut store = SwapStore::new(&config, 64, Some(KvType::F16)).unwrap();
        assert_eq!(store.slots(), 2 * (640 / 34));
        // Numbers that are not rounded: 127 is the largest.
        let block = |n: u8| {
            let numbers = (0..32).map(|i| if i == n { 127.0 } else { f32::from(i) });
            let numbers: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
            KvType::F32.recode(KvType::F16, &numbers).unwrap()
        };
        for n in 0..32 {
            let op = BlockOp::SwapOut {
                from: 0,
                to: Slot(n.into()),
            };
            match &store.kv_ops(&[op], 1).unwrap()[..] {
                [KvOp::SwapOut { to, .. }] => *to.lock() = block(n),
                other => panic!("{other:?}"),
            }
            store.settle();
        }
        let kept = store.memory.values().map(|bytes| bytes.lock().len());
        assert_eq!(kept.collect::<Vec<_>>(), [34; 640 / 34]);
        for n in 0..32 {
            assert_eq!(take(&mut store, n.into()).unwrap(), block(n));
        }
        assert_eq!(store.take_lost(), None);
    }
}
