//! Where the bytes of swapped blocks are: in memory, and what is older in a file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zse_model::executor::{BlockBytes, KvOp};

use super::{BlockOp, Slot};

/// Where keys and values of earlier requests go when their blocks are needed, to be found again: the
/// least recently used go first, and are forgotten first where there is no more room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapConfig {
    /// Bytes of memory for them.
    pub memory: u64,
    /// A file for those that memory has no room for.
    pub disk: Option<SwapDisk>,
}

/// A file for keys and values. It has no name and is gone with the process, however that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapDisk {
    /// The folder that it is made in, on a disk that is fast.
    pub folder: PathBuf,
    /// Most bytes.
    pub bytes: u64,
}

/// The bytes of swapped blocks, all of one size.
#[derive(Debug, Default)]
pub(crate) struct SwapStore {
    memory: BTreeMap<Slot, BlockBytes>,
    /// Blocks that may stay in memory.
    memory_blocks: usize,
    file: Option<SwapFile>,
}

impl SwapStore {
    /// Room for blocks of `block_bytes`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn new(config: &SwapConfig, block_bytes: usize) -> io::Result<Self> {
        let blocks = |bytes: u64| match block_bytes {
            0 => 0,
            _ => usize::try_from(bytes / block_bytes as u64).unwrap_or(usize::MAX),
        };
        let file = match &config.disk {
            Some(disk) => Some(SwapFile::new(
                &disk.folder,
                block_bytes,
                blocks(disk.bytes),
            )?),
            None => None,
        };
        Ok(Self {
            memory: BTreeMap::new(),
            memory_blocks: blocks(config.memory),
            file,
        })
    }

    /// Blocks that it has room for.
    pub(crate) fn slots(&self) -> usize {
        let file = self.file.as_ref().map_or(0, |file| file.blocks);
        self.memory_blocks.saturating_add(file)
    }

    /// What an executor has to do for `ops` in each of `groups` groups; its bytes come from here and
    /// go here.
    ///
    /// # Errors
    /// If bytes of the file cannot be read, or are not those that were written.
    pub(crate) fn kv_ops(&mut self, ops: &[BlockOp], groups: usize) -> io::Result<Vec<KvOp>> {
        let mut kv_ops = Vec::with_capacity(ops.len());
        for &op in ops {
            match op {
                BlockOp::Copy { from, to } => {
                    kv_ops.extend((0..groups).map(|group| KvOp::Copy { group, from, to }));
                }
                BlockOp::SwapOut { from, to: slot } => {
                    let to = BlockBytes::default();
                    self.memory.insert(slot, to.clone());
                    kv_ops.push(KvOp::SwapOut { from, to });
                }
                BlockOp::SwapIn { from: slot, to } => {
                    let from = self.take(slot)?;
                    kv_ops.push(KvOp::SwapIn { from, to });
                }
                BlockOp::Drop(slot) => {
                    self.memory.remove(&slot);
                    if let Some(file) = &mut self.file {
                        file.free(slot);
                    }
                }
            }
        }
        Ok(kv_ops)
    }

    fn take(&mut self, slot: Slot) -> io::Result<BlockBytes> {
        if let Some(bytes) = self.memory.remove(&slot) {
            return Ok(bytes);
        }
        let lost = || io::Error::new(io::ErrorKind::NotFound, "a swapped block is lost");
        let bytes = self.file.as_mut().ok_or_else(lost)?.read(slot)?;
        Ok(BlockBytes::new(bytes))
    }

    /// Moves what is too much for the memory to the file, once the executor has filled the bytes.
    ///
    /// # Errors
    /// If the file cannot be written: then it is given up, with all that was in it.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        while self.memory.len() > self.memory_blocks
            && let Some(file) = &mut self.file
            && let Some((slot, bytes)) = self.memory.pop_first()
        {
            let written = file.write(slot, &bytes.lock());
            if written.is_err() {
                self.file = None;
                return written;
            }
        }
        Ok(())
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.memory.clear();
        if let Some(file) = &mut self.file {
            file.clear();
        }
    }
}

/// A file of blocks, which nobody else can open.
#[derive(Debug)]
struct SwapFile {
    file: File,
    /// Its name, where the system keeps the names of open files.
    path: Option<PathBuf>,
    block_bytes: usize,
    /// Most blocks.
    blocks: usize,
    records: HashMap<Slot, Record>,
    /// Places in the file that are not used any more.
    free: Vec<u64>,
    /// Places in the file, in blocks.
    len: u64,
}

/// A block in the file.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Its place, in blocks.
    place: u64,
    checksum: u64,
}

impl SwapFile {
    fn new(folder: &Path, block_bytes: usize, blocks: usize) -> io::Result<Self> {
        let (file, path) = create(folder)?;
        // An open file needs no name, and without one nothing is left, however the process ends.
        let path = fs::remove_file(&path).is_err().then_some(path);
        Ok(Self {
            file,
            path,
            block_bytes,
            blocks,
            records: HashMap::new(),
            free: Vec::new(),
            len: 0,
        })
    }

    fn write(&mut self, slot: Slot, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() != self.block_bytes {
            return Err(damaged());
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        });
        let checksum = checksum(bytes);
        self.records.insert(slot, Record { place, checksum });
        self.seek(place)?;
        self.file.write_all(bytes)
    }

    /// Takes a block out.
    fn read(&mut self, slot: Slot) -> io::Result<Vec<u8>> {
        let record = self.records.get(&slot).copied().ok_or_else(damaged)?;
        self.free(slot);
        let mut bytes = vec![0; self.block_bytes];
        self.seek(record.place)?;
        self.file.read_exact(&mut bytes)?;
        match checksum(&bytes) == record.checksum {
            true => Ok(bytes),
            false => Err(damaged()),
        }
    }

    fn seek(&mut self, place: u64) -> io::Result<()> {
        let at = place.checked_mul(self.block_bytes as u64);
        let at = at.ok_or_else(damaged)?;
        self.file.seek(SeekFrom::Start(at)).map(|_| ())
    }

    fn free(&mut self, slot: Slot) {
        if let Some(record) = self.records.remove(&slot) {
            self.free.push(record.place);
        }
    }

    fn clear(&mut self) {
        self.records.clear();
        self.free.clear();
        self.len = 0;
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nobody is left to tell.
            let _ = fs::remove_file(path);
        }
    }
}

/// A new file that only this user may open.
fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    // What is there already, a link included, is not opened.
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    loop {
        let count = COUNT.fetch_add(1, Relaxed);
        let path = folder.join(format!("zse-kv-{}-{count}.swap", std::process::id()));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (file, path)),
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    // Read by the process that wrote it: that this may be another function tomorrow is no harm.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a swapped block is damaged")
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
        };
        SwapStore::new(&config, LEN).unwrap()
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
                store.settle().unwrap();
            }
            assert_eq!(store.memory.len(), 2);
            assert_eq!(store.file.as_ref().unwrap().len, 5, "places are used again");
            for n in [3, 7, 1, 2] {
                assert_eq!(
                    take(&mut store, round * 10 + n).unwrap(),
                    block(round * 10 + n)
                );
            }
            let rest = [4, 5, 6].map(|n| BlockOp::Drop(Slot(round * 10 + n)));
            store.kv_ops(&rest, 2).unwrap();
            assert!(store.memory.is_empty() && store.file.as_ref().unwrap().records.is_empty());
        }
    }

    #[test]
    fn damage_is_noticed() {
        for cut in [false, true] {
            let mut store = store(0, 5);
            for n in 1..=3 {
                put(&mut store, n);
            }
            store.settle().unwrap();
            let mut file = &store.file.as_ref().unwrap().file;
            if cut {
                file.set_len(2 * LEN as u64 + 50).unwrap();
            } else {
                file.seek(SeekFrom::Start(2 * LEN as u64 + 7)).unwrap();
                file.write_all(&[255]).unwrap();
            }
            assert!(take(&mut store, 3).is_err());
            assert_eq!(take(&mut store, 2).unwrap(), block(2));
            assert!(take(&mut store, 4).is_err(), "never written");
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_open_the_file_and_nothing_is_left_of_it() {
        use std::os::unix::fs::MetadataExt;
        let store = store(0, 5);
        let metadata = store.file.as_ref().unwrap().file.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(metadata.nlink(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_given_up() {
        let mut store = store(1, 5);
        for n in 1..=3 {
            put(&mut store, n);
        }
        // Blocks of another size stand for a disk that is full.
        store.file.as_mut().unwrap().block_bytes = 1;
        assert!(store.settle().is_err());
        assert_eq!(store.slots(), 1);
        assert_eq!(take(&mut store, 3).unwrap(), block(3));
        assert!(take(&mut store, 1).is_err());
    }
}
