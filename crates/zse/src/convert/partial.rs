//! The file that a conversion writes: it keeps what is finished over an interruption, and gets its
//! name when it is whole.
//!
//! Behind the place of the file's last byte stands a journal: a line for the conversion, and a line
//! for each tensor that is finished. Whoever goes on reads the journal, and compares what it says
//! with what the file holds: so nothing need be flushed in a certain order, and no crash can make
//! a damaged tensor pass for a finished one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use zse_format::{Checksum, Checksummer, FilePlan};

use super::ConvertError;

/// What is known of a finished tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// Of its bytes in this file.
    pub(super) written: Checksum,
    /// Of its bytes in the source.
    pub(super) read: Checksum,
}

/// A file in the making.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    plan: FilePlan,
    identity: Checksum,
    /// Of each tensor.
    finished: Vec<Option<Finished>>,
    /// Where the next line of the journal goes.
    journal_end: u64,
    /// Bytes that come before `written_to` and are not in the file yet, at most [`PIECE`].
    waiting: Vec<u8>,
    /// Where the last byte of the tensor that is being written went.
    written_to: u64,
}

/// Bytes that are written at once, from a multiple of them on. A filesystem that has large pages caches
/// the file in pages of this size then: whoever maps a file that was just written has 2,000 of
/// them to find for 4 GB instead of 30,000 or more.
const PIECE: usize = 2 << 20;

/// Longest line of a journal, in bytes.
const MAX_LINE: usize = 64;

/// The name under which a file grows.
pub(super) fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

impl Partial {
    /// Opens the file that is to become `path`, and finds what a conversion of the same `identity` left
    /// in it. Nothing is written until [`begin`](Self::begin).
    pub(super) fn open(
        path: &Path,
        plan: FilePlan,
        identity: Checksum,
    ) -> Result<Self, ConvertError> {
        let partial = partial_path(path);
        let file = loop {
            let file = open_or_create(&partial).map_err(failed(&partial, "create"))?;
            if let Some(file) = claim(file, &partial)? {
                break file;
            }
        };
        let mut this = Self {
            file,
            path: path.to_owned(),
            partial,
            finished: vec![None; plan.tensors.len()],
            journal_end: plan.bytes,
            waiting: Vec::with_capacity(PIECE),
            written_to: 0,
            plan,
            identity,
        };
        this.resume().map_err(failed(&this.partial, "read"))?;
        Ok(this)
    }

    /// Gives the file its size, and its journal what is finished.
    pub(super) fn begin(&mut self) -> Result<(), ConvertError> {
        let lines = self.finished.iter().enumerate();
        let lines = lines.filter_map(|(i, what)| Some(line_of(i, (*what)?)));
        let journal: String = std::iter::once(first_line(self.identity))
            .chain(lines)
            .collect();
        self.file
            .set_len(self.plan.bytes)
            .and_then(|()| self.note(&journal))
            .map_err(failed(&self.partial, "write"))
    }

    /// Leaves what can be gone on with, and no file where nothing can.
    pub(super) fn leave(self) {
        if self.count() == 0 {
            // It is empty; what is wrong with the disk is told already.
            let _ = fs::remove_file(&self.partial);
        }
    }

    /// What is known of tensor `i` if it is finished.
    pub(super) fn finished(&self, i: usize) -> Option<Finished> {
        self.finished[i]
    }

    /// Number of finished tensors.
    pub(super) fn count(&self) -> usize {
        self.finished.iter().flatten().count()
    }

    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    pub(super) fn plan(&self) -> &FilePlan {
        &self.plan
    }

    /// Bytes of the disk that the file has taken.
    pub(super) fn taken(&self) -> u64 {
        #[cfg(unix)]
        let taken = {
            use std::os::unix::fs::MetadataExt;
            self.file.metadata().map(|m| m.blocks() * 512)
        };
        #[cfg(not(unix))]
        let taken = self.file.metadata().map(|m| m.len());
        taken.unwrap_or(0)
    }

    /// Writes tensor `i` from its beginning on, by [`append`](Self::append).
    pub(super) fn begin_tensor(&mut self, i: usize) {
        self.waiting.clear();
        self.written_to = self.plan.tensors[i].start;
    }

    /// Writes the next bytes of the tensor: now, or with those behind them.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), ConvertError> {
        while !bytes.is_empty() {
            let room = PIECE - (self.written_to % PIECE as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.waiting.extend_from_slice(now);
            self.written_to += now.len() as u64;
            if now.len() == room {
                self.flush().map_err(failed(&self.partial, "write"))?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Remembers that all of tensor `i` is written.
    pub(super) fn finish_tensor(&mut self, i: usize, what: Finished) -> Result<(), ConvertError> {
        self.finished[i] = Some(what);
        self.flush()
            .and_then(|()| self.note(&line_of(i, what)))
            .map_err(failed(&self.partial, "write"))
    }

    fn flush(&mut self) -> io::Result<()> {
        let at = self.written_to - self.waiting.len() as u64;
        put(&self.file, at, &self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Gives the file its first bytes, makes it durable, and gives it its name.
    pub(super) fn finish(self, header: &[u8]) -> Result<(), ConvertError> {
        // The journal goes once what it speaks of is durable: that takes long, and may be cut short.
        put(&self.file, 0, header)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| self.file.set_len(self.plan.bytes))
            .and_then(|()| self.file.sync_all())
            .map_err(failed(&self.partial, "write"))?;
        fs::rename(&self.partial, &self.path)
            .map_err(failed(&self.path, "rename the finished file to"))?;
        sync_folder(&self.path).map_err(failed(&self.path, "make durable the name of"))
    }

    /// Finds what an earlier conversion finished; empties the file if it was another one.
    fn resume(&mut self) -> io::Result<()> {
        let journal = self.journal()?;
        match journal.strip_prefix(&first_line(self.identity)) {
            Some(lines) => {
                for (i, what) in lines.split_inclusive('\n').filter_map(parse) {
                    if i < self.finished.len() && self.holds(i, what.written)? {
                        self.finished[i] = Some(what);
                    }
                }
            }
            None => self.file.set_len(0)?,
        }
        Ok(())
    }

    /// The text of the journal; empty if there is none.
    fn journal(&mut self) -> io::Result<String> {
        let most = MAX_LINE * (self.finished.len() + 2);
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.plan.bytes))?;
        (&self.file).take(most as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    /// Whether the file has bytes of this checksum at the place of tensor `i`.
    fn holds(&mut self, i: usize, checksum: Checksum) -> io::Result<bool> {
        let place = self.plan.tensors[i].clone();
        self.file.seek(SeekFrom::Start(place.start))?;
        let mut rest = (&self.file).take(place.end - place.start);
        let mut found = Checksummer::default();
        let mut piece = vec![0; 1 << 20];
        loop {
            match rest.read(&mut piece)? {
                0 => return Ok(found.finish() == checksum),
                n => found.write(&piece[..n]),
            }
        }
    }

    fn note(&mut self, line: &str) -> io::Result<()> {
        put(&self.file, self.journal_end, line.as_bytes())?;
        self.journal_end += line.len() as u64;
        Ok(())
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Locks `file`, which was opened as `partial`. `None` if it is not there any more: another conversion has
/// given it its name, then it is whole, or has removed it.
fn claim(file: File, partial: &Path) -> Result<Option<File>, ConvertError> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(ConvertError::InUse {
                partial: partial.to_owned(),
            });
        }
        // Not every filesystem has locks; one conversion at a time works on those as well.
        Err(TryLockError::Error(_)) => {}
    }
    Ok(is_at(&file, partial).then_some(file))
}

fn put(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Whether `path` is this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(this), Ok(there)) => place(this) == place(there),
        _ => false,
    }
}

/// See the other one: a file that is open is not renamed there.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn first_line(identity: Checksum) -> String {
    format!("zse-convert {:016x}\n", identity.0)
}

fn line_of(i: usize, what: Finished) -> String {
    format!("{i} {:016x} {:016x}\n", what.written.0, what.read.0)
}

/// The tensor's number and what is known of it; `None` for a line that was not written whole.
fn parse(line: &str) -> Option<(usize, Finished)> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let i = words.next()?.parse().ok()?;
    let mut checksum = || Some(Checksum(u64::from_str_radix(words.next()?, 16).ok()?));
    let (written, read) = (checksum()?, checksum()?);
    Some((i, Finished { written, read }))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ConvertError {
    let path = path.to_owned();
    move |source| ConvertError::Io {
        path,
        action,
        source,
    }
}

/// Makes a new name in a folder survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path; // folders cannot be opened there
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"header..";

    /// A file of two tensors of 8 bytes.
    fn open(path: &Path, identity: u64) -> Result<Partial, ConvertError> {
        let plan = FilePlan {
            header: HEADER.to_vec(),
            tensors: vec![8..16, 16..24],
            bytes: 24,
        };
        Partial::open(path, plan, Checksum(identity))
    }

    fn write(partial: &mut Partial, i: usize, bytes: &[u8; 8]) {
        partial.begin_tensor(i);
        partial.append(bytes).unwrap();
        let mut written = Checksummer::default();
        written.write(bytes);
        let written = written.finish();
        let read = Checksum(7);
        let what = Finished { written, read };
        partial.finish_tensor(i, what).unwrap();
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.zse");
        (folder, path)
    }

    #[test]
    fn two_conversions_to_one_name_are_refused() {
        let (_folder, path) = folder();
        let first = open(&path, 1).unwrap();
        let error = open(&path, 1).unwrap_err();
        assert!(matches!(error, ConvertError::InUse { .. }), "{error}");
        drop(first);
        open(&path, 1).unwrap();
    }

    /// The other conversion ends between this one's opening of the file and its lock.
    #[test]
    #[cfg(unix)]
    fn a_file_that_was_given_its_name_meanwhile_is_left_alone() {
        let (_folder, path) = folder();
        let mut first = open(&path, 1).unwrap();
        first.begin().unwrap();
        write(&mut first, 0, b"one.....");
        write(&mut first, 1, b"two.....");
        let late = open_or_create(first.partial()).unwrap();
        first.finish(HEADER).unwrap();
        assert!(claim(late, &partial_path(&path)).unwrap().is_none());

        let whole = fs::read(&path).unwrap();
        assert_eq!(whole, b"header..one.....two.....");
        let mut second = open(&path, 1).unwrap();
        second.begin().unwrap();
        write(&mut second, 0, b"other...");
        assert_eq!(fs::read(&path).unwrap(), whole);

        // The same where the other has removed its file.
        let late = open_or_create(second.partial()).unwrap();
        second.finished = vec![None; 2];
        second.leave();
        assert!(claim(late, &partial_path(&path)).unwrap().is_none());
    }

    #[test]
    fn what_can_be_gone_on_with_is_left_and_nothing_else() {
        let (_folder, path) = folder();
        let partial = partial_path(&path);
        open(&path, 1).unwrap().leave();
        assert!(!partial.exists());

        let mut first = open(&path, 1).unwrap();
        first.begin().unwrap();
        write(&mut first, 1, b"two.....");
        first.leave();
        assert!(partial.exists());
        let again = open(&path, 1).unwrap();
        assert_eq!((again.count(), again.finished(0)), (1, None));
        drop(again);
        assert_eq!(open(&path, 2).unwrap().count(), 0);
    }

    #[test]
    fn tensors_lie_where_they_are_planned_however_they_come() {
        let (_folder, path) = folder();
        let bytes: Vec<u8> = (0..3 * PIECE as u32 + 17)
            .map(|i| (i * 7 / 64) as u8)
            .collect();
        let end = 8 + bytes.len() as u64;
        let plan = FilePlan {
            header: HEADER.to_vec(),
            tensors: vec![8..end, end..end + 3],
            bytes: end + 3,
        };
        let mut file = Partial::open(&path, plan, Checksum(1)).unwrap();
        file.begin().unwrap();
        for (i, tensor) in [&bytes[..], b"end"].into_iter().enumerate() {
            // One that is stopped, and goes on from its beginning.
            file.begin_tensor(i);
            file.append(b"abc").unwrap();
            file.begin_tensor(i);
            for piece in tensor.chunks(700_000) {
                file.append(piece).unwrap();
            }
            let (written, read) = (Checksum::of(tensor), Checksum(7));
            file.finish_tensor(i, Finished { written, read }).unwrap();
        }
        file.finish(HEADER).unwrap();
        assert!(fs::read(&path).unwrap() == [HEADER, &bytes, b"end"].concat());
    }

    #[test]
    fn no_name_and_no_first_bytes_before_the_end() {
        let (_folder, path) = folder();
        let mut file = open(&path, 1).unwrap();
        file.begin().unwrap();
        write(&mut file, 0, b"one.....");
        write(&mut file, 1, b"two.....");
        // Who reads the file before its time finds no magic.
        assert_eq!(fs::read(file.partial()).unwrap()[..8], [0; 8]);
        assert!(!path.exists());
        let partial = file.partial().to_owned();
        file.finish(HEADER).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"header..one.....two.....");
        assert!(!partial.exists());
    }
}
