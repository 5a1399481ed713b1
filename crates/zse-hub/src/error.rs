//! What can go wrong between the hub and a file, with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be found, fetched or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A variable of the environment, or a file of it, that cannot be used.
    #[error("{name} cannot be used: {why}")]
    Config {
        /// The variable or the file.
        name: String,
        /// Why.
        why: String,
    },
    /// A text that names no model.
    #[error("'{name}' names no model: {why}")]
    Name {
        /// What was given.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A value that is none of those that there are.
    #[error("there is no {what} '{given}': give one of {known}")]
    Unknown {
        /// What it should be.
        what: &'static str,
        /// What was given.
        given: String,
        /// What there is.
        known: String,
    },
    /// The hub has no such repository, revision or file (or hides it from who may not see it).
    #[error("there is no {what} at {endpoint}{}", if *.with_token { "" } else {
        "; if it is private, set HF_TOKEN or log in with `huggingface-cli login`" })]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where.
        endpoint: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The hub shows this only to some.
    #[error("{what} is not open to {}: {}", if *.with_token { "this token" } else { "everyone" },
        if *.with_token { "accept its licence on its page, or use another token" } else {
        "accept its licence on its page, then set HF_TOKEN or log in with `huggingface-cli login`" })]
    Denied {
        /// What was asked for.
        what: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The hub knows no such token.
    #[error(
        "{endpoint} refuses the token: log in again with `huggingface-cli login`, or unset HF_TOKEN"
    )]
    Token {
        /// The hub.
        endpoint: String,
    },
    /// The network is not to be used.
    #[error("{what} is not on this machine, and offline mode is on (--offline or HF_HUB_OFFLINE)")]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// No answer after all attempts.
    #[error("no answer from {url}: {why}; what was fetched is kept, try again later")]
    Network {
        /// The address, without its query.
        url: String,
        /// What the last attempt met.
        why: String,
    },
    /// An answer that the hub's API does not give.
    #[error("{url} gave an answer that is not understood: {why}")]
    Answer {
        /// The address, without its query.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file changed on the server while it was fetched.
    #[error("{file} changed while it was fetched; what was fetched is dropped, pull it again")]
    Changed {
        /// The file.
        file: String,
    },
    /// The bytes are not those that the hub names.
    #[error(
        "{file} came with the wrong contents ({expected} was promised, {found} came) and was \
         dropped; pull it again"
    )]
    Contents {
        /// The file.
        file: String,
        /// The hash that the hub names.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// The disk is too full.
    #[error(
        "{} has {available} bytes free, {needed} are needed: make room, or set HF_HUB_CACHE to a \
         folder on another disk", folder.display()
    )]
    NoSpace {
        /// Where the files would go.
        folder: PathBuf,
        /// Bytes to be fetched.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The repository has nothing that can be run, or not what was asked for.
    #[error("{repo} has no {wanted}; it has {offered}")]
    Nothing {
        /// The repository.
        repo: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// Files that are no model.
    #[error("{model} cannot be read")]
    Unreadable {
        /// Whose files.
        model: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another program is at it.
    #[error("another program is fetching {file}; wait for it, or end it")]
    Busy {
        /// The file.
        file: String,
    },
    /// The caller stopped it.
    #[error("interrupted; what was fetched is kept")]
    Interrupted,
    /// A file or folder of the cache.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl HubError {
    /// For `map_err` of what the file system refuses.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
