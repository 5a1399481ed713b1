//! A file of swapped blocks.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Slot;
use super::swap::SwapDisk;

/// A file of blocks, which nobody else can open.
#[derive(Debug)]
pub(super) struct SwapFile {
    file: File,
    /// Its name, where the system keeps the names of open files.
    path: Option<PathBuf>,
    /// Length of a block: that of the first one in the file.
    block_bytes: usize,
    /// Most bytes.
    bytes: u64,
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
    pub(super) fn new(disk: &SwapDisk) -> io::Result<Self> {
        let (file, path) = create(&disk.folder)?;
        // An open file needs no name, and without one nothing is left, however the process ends.
        let removed = fs::remove_file(&path);
        if cfg!(unix) {
            removed?;
            Ok(Self::over(file, None, disk.bytes))
        } else {
            Ok(Self::over(
                file,
                removed.is_err().then_some(path),
                disk.bytes,
            ))
        }
    }

    fn over(file: File, path: Option<PathBuf>, bytes: u64) -> Self {
        Self {
            file,
            path,
            block_bytes: 0,
            bytes,
            records: HashMap::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// Most bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, slot: Slot, bytes: &[u8]) -> io::Result<()> {
        if self.len == 0 {
            self.block_bytes = bytes.len();
        }
        if bytes.is_empty() || bytes.len() != self.block_bytes {
            return Err(damaged());
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.append()?,
        };
        self.seek(place)?;
        self.file.write_all(bytes)?;
        let checksum = checksum(bytes);
        self.records.insert(slot, Record { place, checksum });
        Ok(())
    }

    /// A place behind all others.
    fn append(&mut self) -> io::Result<u64> {
        let place = self.len;
        let end = (place + 1).checked_mul(self.block_bytes as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.len += 1;
        Ok(place)
    }

    /// Takes a block out.
    pub(super) fn read(&mut self, slot: Slot) -> io::Result<Vec<u8>> {
        let record = self.records.get(&slot).copied().ok_or_else(damaged)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.block_bytes)?;
        bytes.resize(self.block_bytes, 0);
        self.seek(record.place)?;
        self.file.read_exact(&mut bytes)?;
        if checksum(&bytes) != record.checksum {
            return Err(damaged());
        }
        self.free(slot);
        Ok(bytes)
    }

    fn seek(&mut self, place: u64) -> io::Result<()> {
        let at = place.checked_mul(self.block_bytes as u64);
        let at = at.ok_or_else(damaged)?;
        self.file.seek(SeekFrom::Start(at)).map(|_| ())
    }

    pub(super) fn free(&mut self, slot: Slot) {
        if let Some(record) = self.records.remove(&slot) {
            self.free.push(record.place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The slots of the blocks in it.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.records.keys().copied()
    }

    /// Forgets all: nothing is left on the disk.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.records.clear();
        self.free.clear();
        match std::mem::take(&mut self.len) {
            0 => Ok(()),
            _ => self.file.set_len(0),
        }
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

    fn file(blocks: u64) -> SwapFile {
        let disk = SwapDisk {
            folder: std::env::temp_dir(),
            bytes: blocks * LEN as u64 + 1,
        };
        SwapFile::new(&disk).unwrap()
    }

    fn block(n: u64) -> Vec<u8> {
        (0..LEN as u64).map(|i| (i * n) as u8).collect()
    }

    #[test]
    fn damage_is_noticed() {
        for cut in [false, true] {
            let mut file = file(5);
            for n in 1..=3 {
                file.write(Slot(n), &block(n)).unwrap();
            }
            if cut {
                file.file.set_len(2 * LEN as u64 + 50).unwrap();
            } else {
                let at = SeekFrom::Start(2 * LEN as u64 + 7);
                file.file.seek(at).unwrap();
                file.file.write_all(&[255]).unwrap();
            }
            assert!(file.read(Slot(3)).is_err());
            assert_eq!(file.read(Slot(2)).unwrap(), block(2));
            assert!(file.read(Slot(2)).is_err(), "taken out");
            assert!(file.read(Slot(4)).is_err(), "never written");
        }
    }

    #[test]
    fn no_more_is_written_than_may_be() {
        let mut file = file(2);
        file.write(Slot(1), &block(1)).unwrap();
        file.write(Slot(2), &block(2)).unwrap();
        assert!(file.write(Slot(3), &block(3)).is_err());
        assert_eq!(file.file.metadata().unwrap().len(), 2 * LEN as u64);
        file.free(Slot(1));
        file.write(Slot(4), &block(4)).unwrap();
        assert_eq!(file.file.metadata().unwrap().len(), 2 * LEN as u64);
        assert_eq!(file.read(Slot(4)).unwrap(), block(4));
        assert!(file.write(Slot(5), &block(5)[1..]).is_err(), "too short");
    }

    #[test]
    fn nothing_is_left_of_what_is_forgotten() {
        let mut file = file(5);
        for n in 1..=3 {
            file.write(Slot(n), &block(n)).unwrap();
        }
        file.clear().unwrap();
        assert!(file.is_empty());
        assert_eq!(file.file.metadata().unwrap().len(), 0);
        file.write(Slot(4), &block(4)).unwrap();
        assert_eq!(file.read(Slot(4)).unwrap(), block(4));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_disk_that_is_full_is_heard_of() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full");
        let mut file = SwapFile::over(full.unwrap(), None, 1000);
        let error = file.write(Slot(1), &block(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(file.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_open_the_file_and_nothing_is_left_of_it() {
        use std::os::unix::fs::MetadataExt;
        let metadata = file(5).file.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(metadata.nlink(), 0);
    }
}
