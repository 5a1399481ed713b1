//! How far a download is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The file that is fetched; empty before the first.
    pub file: String,
    /// Bytes of all files that are here, those that were here before among them.
    pub done: u64,
    /// Bytes of all files; 0 until they are known.
    pub total: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// Counts while connections work.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    file: Mutex<String>,
    total: AtomicU64,
    /// Bytes of the files before the one that is fetched.
    before: AtomicU64,
    /// Bytes of the file that is fetched.
    of_file: AtomicU64,
    fetched: AtomicU64,
}

impl Meter {
    pub(crate) fn now(&self) -> Progress {
        Progress {
            file: self
                .file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            done: self
                .before
                .load(Relaxed)
                .saturating_add(self.of_file.load(Relaxed)),
            total: self.total.load(Relaxed),
            fetched: self.fetched.load(Relaxed),
        }
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    pub(crate) fn begin(&self, file: &str) {
        file.clone_into(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The file is whole: it has this many bytes.
    pub(crate) fn end(&self, bytes: u64) {
        self.of_file.store(0, Relaxed);
        self.before.fetch_add(bytes, Relaxed);
    }

    /// Bytes came over the network.
    pub(crate) fn came(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Relaxed);
        self.of_file.fetch_add(bytes, Relaxed);
    }

    /// So many bytes of the file are here.
    pub(crate) fn set_of_file(&self, bytes: u64) {
        self.of_file.store(bytes, Relaxed);
    }
}
