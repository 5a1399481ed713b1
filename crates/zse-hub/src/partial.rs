//! A file on its way: what came of it, each chunk at its place, and how much came of which.
//!
//! ```text
//! <etag>.zse.incomplete        the bytes, with holes where nothing came yet
//! <etag>.zse-map.incomplete    MAGIC, the file's size, a chunk's, and of each chunk the bytes from
//!                              its start on that came; all u64, little-endian
//! ```
//!
//! An entry of the map is written behind the bytes that it speaks of, so that a program that is killed
//! loses what it was about to write and nothing else. Contents with a hash are believed to be what the
//! map says until they are whole: then the hash decides. Chunks of others are noted when they are whole
//! and on the disk; when an attempt ends, so is what came of the rest.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::HubError;
use crate::cache::INCOMPLETE;
use crate::digest::Digest;
use crate::fetch::Contents;
use crate::progress::Meter;

const MAGIC: [u8; 8] = *b"zsemap1\n";
/// Bytes of the map before its entries, and of an entry.
const HEADER: u64 = 24;
const ENTRY: u64 = 8;
/// Most entries that are read: those of 128 TiB in chunks of the usual size.
const MAX_ENTRIES: u64 = 1 << 24;
/// Bytes hashed at a time.
const HASHED_AT_ONCE: u64 = 1 << 20;

/// A file that is not whole yet.
pub(crate) struct Partial {
    contents: Contents,
    bytes: PathBuf,
    map: PathBuf,
    chunk: u64,
    state: Mutex<State>,
}

struct State {
    bytes: File,
    map: File,
    /// Of each chunk, the bytes from its start on that came.
    came: Vec<u64>,
    /// Bytes from the file's start on that are in `digest`.
    hashed: u64,
    digest: Digest,
}

impl Partial {
    /// Opens what an earlier attempt, or another program, has left of `contents`, or a new file, and
    /// hashes what it begins with.
    pub(crate) async fn open(
        blob: &Path,
        contents: &Contents,
        chunk: u64,
        meter: &Meter,
    ) -> Result<Self, HubError> {
        let (bytes, map) = (bytes_of(blob), map_of(blob));
        let size = contents.size;
        let chunk = chunk.max(size.div_ceil(MAX_ENTRIES)).max(1);
        let came = match read_map(blob, size).filter(|_| contents.is_versioned) {
            Some((old, came)) if old == chunk => came,
            // Chunks of another size: what came before the first gap.
            Some((old, came)) => spread(beginning(&came, old, size), chunk, size),
            None => {
                let _ = fs::remove_file(&bytes);
                // What another program has left of the file is its beginning; it is taken over where the
                // hash will tell whether it is.
                let begun = incomplete(blob);
                match length(&begun) {
                    Some(came) if came <= size && contents.is_hashed => {
                        let came = spread(came, chunk, size);
                        write_map(blob, size, chunk, &came)?;
                        fs::rename(&begun, &bytes).map_err(HubError::io("rename", &begun))?;
                        came
                    }
                    Some(_) => {
                        // Not the beginning of these contents.
                        fs::remove_file(&begun).map_err(HubError::io("remove", &begun))?;
                        spread(0, chunk, size)
                    }
                    None => spread(0, chunk, size),
                }
            }
        };
        write_map(blob, size, chunk, &came)?;
        let open = |path: &Path| {
            let mut options = File::options();
            options.create(true).truncate(false).read(true).write(true);
            options.open(path).map_err(HubError::io("open", path))
        };
        let mut state = State {
            bytes: open(&bytes)?,
            map: open(&map)?,
            came,
            hashed: 0,
            digest: Digest::new(&contents.etag, size),
        };
        // Bytes behind the end are not of these contents.
        let is_longer = length(&bytes).is_some_and(|length| length > size);
        if is_longer {
            let cut = state.bytes.set_len(size);
            cut.map_err(HubError::io("cut", &bytes))?;
        }
        meter.set_of_file(state.came.iter().sum());
        state.bytes.rewind().map_err(HubError::io("read", &bytes))?;
        let partial = Self {
            contents: contents.clone(),
            bytes,
            map,
            chunk,
            state: Mutex::new(state),
        };
        partial.hash().await?;
        Ok(partial)
    }

    /// The chunks of which something is missing.
    pub(crate) fn missing(&self) -> Vec<usize> {
        let state = self.state();
        let chunks = (0..).zip(&state.came);
        let missing = chunks.filter(|&(i, &came)| came < self.range(i).end - self.range(i).start);
        missing.map(|(i, _)| i).collect()
    }

    /// The bytes that are chunk `i`.
    pub(crate) fn range(&self, i: usize) -> Range<u64> {
        range(i, self.chunk, self.contents.size)
    }

    /// Bytes of chunk `i`, from its start on, that came.
    pub(crate) fn came(&self, i: usize) -> u64 {
        self.state().came[i]
    }

    /// Bytes that came of all chunks.
    pub(crate) fn present(&self) -> u64 {
        self.state().came.iter().sum()
    }

    /// Writes `bytes` of chunk `i`, behind what came of it.
    pub(crate) fn put(&self, i: usize, bytes: &[u8]) -> Result<(), HubError> {
        let mut state = self.state();
        let range = self.range(i);
        let at = range.start + state.came[i];
        let fits = at + bytes.len() as u64 <= range.end;
        assert!(fits, "no more comes of a chunk than was asked for");
        let file = &mut state.bytes;
        let written = file.seek(SeekFrom::Start(at));
        let written = written.and_then(|_| file.write_all(bytes));
        written.map_err(HubError::io("write", &self.bytes))?;
        state.came[i] += bytes.len() as u64;
        let is_whole = state.came[i] == range.end - range.start;
        let noted = match self.contents.is_hashed {
            true => state.note(i),
            // Nothing will tell these contents from others: they are on the disk first.
            false if is_whole => state.bytes.sync_data().and_then(|()| state.note(i)),
            false => Ok(()),
        };
        noted.map_err(HubError::io("write", &self.map))
    }

    /// Writes what is missing of `bytes`, which begin at `at`, behind bytes that are all there: a file
    /// that comes in its order. Returns how many were missing.
    pub(crate) fn put_at(&self, mut at: u64, mut bytes: &[u8]) -> Result<u64, HubError> {
        let mut new = 0;
        while !bytes.is_empty() && at < self.contents.size {
            let i = (at / self.chunk) as usize;
            let range = self.range(i);
            let of_chunk = bytes.len().min((range.end - at) as usize);
            let (now, later) = bytes.split_at(of_chunk);
            let known = (range.start + self.came(i)).saturating_sub(at);
            let missing = &now[now.len().min(known as usize)..];
            if !missing.is_empty() {
                self.put(i, missing)?;
                new += missing.len() as u64;
            }
            (at, bytes) = (at + of_chunk as u64, later);
        }
        Ok(new)
    }

    /// Hashes what is there from the file's start on and is not hashed yet.
    pub(crate) async fn hash(&self) -> Result<(), HubError> {
        let mut buffer = Vec::new();
        loop {
            {
                let state = &mut *self.state();
                let end = beginning(&state.came, self.chunk, self.contents.size);
                // A chunk of which more will come waits until it is whole.
                let end = match end < self.contents.size {
                    true => end / self.chunk * self.chunk,
                    false => end,
                };
                if state.hashed >= end {
                    return Ok(());
                }
                buffer.resize((end - state.hashed).min(HASHED_AT_ONCE) as usize, 0);
                let read = state.bytes.seek(SeekFrom::Start(state.hashed));
                let read = read.and_then(|_| state.bytes.read_exact(&mut buffer));
                read.map_err(HubError::io("read", &self.bytes))?;
                state.digest.update(&buffer);
                state.hashed += buffer.len() as u64;
            }
            // Long files take long: let the caller look whether this is still wanted.
            tokio::task::yield_now().await;
        }
    }

    /// Forgets all that came.
    pub(crate) fn drop_all(&self) -> Result<(), HubError> {
        remove(&self.map)?;
        remove(&self.bytes)
    }

    /// Checks the contents, of which all came and is hashed, and gives them their name.
    pub(crate) fn finish(&self, blob: &Path) -> Result<(), HubError> {
        let state = self.state();
        let found = state.digest.clone().finish();
        if self.contents.is_hashed && found != self.contents.etag {
            let (file, expected) = (self.contents.path.clone(), self.contents.etag.clone());
            self.drop_all()?;
            return Err(HubError::Contents {
                file,
                expected,
                found,
            });
        }
        let synced = state.bytes.sync_all();
        synced.map_err(HubError::io("write", &self.bytes))?;
        let length = state.bytes.metadata();
        let length = length.map_err(HubError::io("read", &self.bytes))?.len();
        if length != self.contents.size || state.hashed != length {
            // Another program writes without the lock: this is not what was hashed.
            return Err(HubError::Busy {
                file: self.contents.path.clone(),
            });
        }
        fs::rename(&self.bytes, blob).map_err(HubError::io("rename", &self.bytes))?;
        // What is left of it says nothing, for the file it speaks of is gone.
        let _ = fs::remove_file(&self.map);
        sync_folder(blob)
    }

    /// Notes what came of chunks that are not whole, where that was not done as they came.
    pub(crate) fn note_all(&self) {
        let mut state = self.state();
        if self.contents.is_hashed || state.bytes.sync_data().is_err() {
            return;
        }
        for i in 0..state.came.len() {
            // What is not noted is fetched again.
            let _ = state.note(i);
        }
    }

    /// Nothing under this lock is left half done by a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes the entry of chunk `i`.
    fn note(&mut self, i: usize) -> io::Result<()> {
        let came = self.came[i];
        self.map.seek(SeekFrom::Start(HEADER + i as u64 * ENTRY))?;
        self.map.write_all(&came.to_le_bytes())
    }
}

/// What is here of contents that are not whole.
pub(crate) fn present(blob: &Path, contents: &Contents) -> u64 {
    let size = contents.size;
    match read_map(blob, size).filter(|_| contents.is_versioned) {
        Some((_, came)) => came.iter().sum(),
        None => length(&incomplete(blob))
            .filter(|&n| n <= size && contents.is_hashed)
            .unwrap_or(0),
    }
}

/// The name under which other programs, and earlier versions of this one, keep the beginning of a file.
fn incomplete(blob: &Path) -> PathBuf {
    with_ending(blob, "")
}

fn bytes_of(blob: &Path) -> PathBuf {
    with_ending(blob, ".zse")
}

fn map_of(blob: &Path) -> PathBuf {
    with_ending(blob, ".zse-map")
}

fn with_ending(blob: &Path, word: &str) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(word);
    name.push(INCOMPLETE);
    PathBuf::from(name)
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HubError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|facts| facts.len())
}

fn range(i: usize, chunk: u64, size: u64) -> Range<u64> {
    let start = i as u64 * chunk;
    start..size.min(start.saturating_add(chunk))
}

/// Bytes before the first gap.
fn beginning(came: &[u64], chunk: u64, size: u64) -> u64 {
    let ranges = (0..).map(|i| range(i, chunk, size));
    let mut chunks = came.iter().zip(ranges);
    let first_gap = chunks.find(|(came, range)| **came < range.end - range.start);
    first_gap.map_or(size, |(came, range)| range.start + came)
}

/// The entries of a file that begins with so many bytes and has nothing else.
fn spread(beginning: u64, chunk: u64, size: u64) -> Vec<u64> {
    let ranges = (0..size.div_ceil(chunk) as usize).map(|i| range(i, chunk, size));
    ranges
        .map(|range| beginning.clamp(range.start, range.end) - range.start)
        .collect()
}

/// The bytes of a chunk, and what came of each, if a map of a file of `size` bytes says so and the file
/// has bytes there.
fn read_map(blob: &Path, size: u64) -> Option<(u64, Vec<u64>)> {
    let length_of_bytes = length(&bytes_of(blob))?;
    let mut file = File::open(map_of(blob)).ok()?;
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header).ok()?;
    let (numbers, _) = header.as_chunks::<8>();
    let [magic, stated, chunk] = *<&[[u8; 8]; 3]>::try_from(numbers).ok()?;
    let (stated, chunk) = (u64::from_le_bytes(stated), u64::from_le_bytes(chunk));
    if magic != MAGIC || stated != size || chunk == 0 {
        return None;
    }
    let entries = size.div_ceil(chunk);
    let length = file.metadata().ok()?.len();
    if entries > MAX_ENTRIES || length != HEADER + entries * ENTRY {
        return None;
    }
    let mut bytes = vec![0; (entries * ENTRY) as usize];
    file.read_exact(&mut bytes).ok()?;
    let noted = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&b| u64::from_le_bytes(b));
    let ranges = (0..).map(|i| range(i, chunk, size));
    let came = noted.zip(ranges).map(|(noted, range)| {
        let there = length_of_bytes.clamp(range.start, range.end) - range.start;
        noted.min(there)
    });
    Some((chunk, came.collect()))
}

/// Writes the map of a file; where one is, it is replaced at once.
fn write_map(blob: &Path, size: u64, chunk: u64, came: &[u64]) -> Result<(), HubError> {
    let numbers = [&[size, chunk], came].concat();
    let numbers = numbers.iter().flat_map(|n| n.to_le_bytes());
    let all: Vec<u8> = MAGIC.into_iter().chain(numbers).collect();
    let (new, map) = (with_ending(blob, ".zse-map-new"), map_of(blob));
    fs::write(&new, all).map_err(HubError::io("write", &new))?;
    fs::rename(&new, &map).map_err(HubError::io("rename", &new))
}

/// Makes a rename last: the folder's entry is on the disk before anyone is told of it.
fn sync_folder(blob: &Path) -> Result<(), HubError> {
    #[cfg(unix)]
    if let Some(folder) = blob.parent() {
        let opened = File::open(folder).map_err(HubError::io("open", folder))?;
        opened.sync_all().map_err(HubError::io("write", folder))?;
    }
    #[cfg(not(unix))]
    let _ = blob;
    Ok(())
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;
    use crate::digest::sha256;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.build().unwrap().block_on(future)
    }

    /// 1000 times the letter `a`.
    fn contents() -> Contents {
        Contents {
            path: "m.gguf".to_owned(),
            url: Url::parse("http://localhost/").unwrap(),
            size: 1000,
            etag: sha256(&"a".repeat(1000)),
            is_hashed: true,
            is_versioned: true,
        }
    }

    fn open(blob: &Path) -> Partial {
        open_as(blob, &contents())
    }

    fn open_as(blob: &Path, contents: &Contents) -> Partial {
        block_on(Partial::open(blob, contents, 300, &Meter::default())).unwrap()
    }

    /// The whole or nothing, though another program writes to the same file.
    #[test]
    fn what_others_write_never_gets_the_name_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (foreign, is_whole) in [(400, true), (2000, false)] {
            let blob = folder.path().join(foreign.to_string());
            let partial = open(&blob);
            assert_eq!(partial.put_at(0, &[b'a'; 500]).unwrap(), 500);
            let mut other = File::options().append(true).open(&partial.bytes).unwrap();
            other.write_all(&vec![1; foreign]).unwrap();
            assert_eq!(partial.put_at(400, &[b'a'; 600]).unwrap(), 500);
            block_on(partial.hash()).unwrap();
            let finished = partial.finish(&blob);
            assert_eq!(finished.is_ok(), is_whole, "{finished:?}");
            assert_eq!(fs::read(&blob).ok(), is_whole.then(|| vec![b'a'; 1000]));
        }
    }

    #[test]
    fn chunks_come_in_any_order_and_are_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blob");
        let partial = open(&blob);
        assert_eq!(partial.missing(), [0, 1, 2, 3]);
        for (i, n) in [(3, 100), (1, 300), (2, 10), (0, 299)] {
            partial.put(i, &vec![b'a'; n]).unwrap();
        }
        drop(partial);
        assert_eq!(present(&blob, &contents()), 709);
        let partial = open(&blob);
        assert_eq!(partial.missing(), [0, 2]);
        assert_eq!((partial.came(0), partial.came(2)), (299, 10));
        for (i, n) in [(2, 290), (0, 1)] {
            partial.put(i, &vec![b'a'; n]).unwrap();
        }
        block_on(partial.hash()).unwrap();
        partial.finish(&blob).unwrap();
        assert_eq!(fs::read(&blob).unwrap(), vec![b'a'; 1000]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_nothing_can_tell_from_others_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blob");
        let unhashed = Contents {
            is_hashed: false,
            ..contents()
        };
        let unversioned = Contents {
            is_versioned: false,
            ..unhashed.clone()
        };
        for (contents, begun, mapped) in [
            (contents(), 500, 300),
            (unhashed, 0, 300),
            (unversioned, 0, 0),
        ] {
            fs::write(incomplete(&blob), [b'a'; 500]).unwrap();
            assert_eq!(present(&blob, &contents), begun);
            let partial = open_as(&blob, &contents);
            assert_eq!(partial.present(), begun);
            assert!(!incomplete(&blob).exists());
            // A map that is gone already is no error.
            fs::remove_file(map_of(&blob)).unwrap();
            partial.drop_all().unwrap();

            open_as(&blob, &contents).put(0, &[b'a'; 300]).unwrap();
            assert_eq!(present(&blob, &contents), mapped);
            let partial = open_as(&blob, &contents);
            assert_eq!(partial.present(), mapped);
            partial.drop_all().unwrap();
        }
    }

    #[test]
    fn maps_are_believed_as_far_as_there_are_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blob");
        let believed = |map: &[u64], bytes: usize| {
            let map = map.iter().flat_map(|n| n.to_le_bytes());
            let map: Vec<u8> = MAGIC.into_iter().chain(map).collect();
            fs::write(map_of(&blob), map).unwrap();
            fs::write(bytes_of(&blob), vec![0; bytes]).unwrap();
            present(&blob, &contents())
        };
        assert_eq!(believed(&[1000, 300, 300, 7, 300, 100], 1000), 707);
        assert_eq!(believed(&[1000, 300, 300, 300, 300, 300], 650), 650);
        assert_eq!(believed(&[1000, u64::MAX, u64::MAX], 1000), 1000);
        for wrong in [
            &[1000, 0, 300, 300, 300, 100][..],
            &[999, 300, 300, 300, 300, 100],
            &[1000, 300, 300, 300, 300],
            &[1000, 300, 300, 300, 300, 100, 0],
            &[1000],
        ] {
            assert_eq!(believed(wrong, 1000), 0, "{wrong:?}");
        }
    }
}
