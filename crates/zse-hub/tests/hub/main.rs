//! Pulling from a hub that misbehaves.

mod api;
mod check;
mod pull;
mod remove;
mod resume;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use zse_hub::{Config, Hub, HubError, ModelRef, Patience, Pulled, Token};
use zse_hub_mock::Server;

/// Bytes of a chunk in these tests.
const CHUNK: usize = 1000;

/// A folder for a cache, and a hub that keeps its files there.
struct Client {
    folder: TempDir,
    config: Config,
}

impl Client {
    fn of(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let config = config(&server.address, folder.path());
        Self { folder, config }
    }

    fn with_token(mut self) -> Self {
        self.config.token = Some(Token::new("hf_secret").expect("a word"));
        self
    }

    fn hub(&self) -> Hub {
        Hub::new(self.config.clone()).expect("a client")
    }

    fn pull(&self, model: &str, connections: usize) -> Result<Pulled, HubError> {
        self.hub()
            .pull(&parse(model), connections, |_| ControlFlow::Continue(()))
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("models--org--name")
    }

    /// Names below the repository's folder of the cache that are final: what is not under them is
    /// not taken for a file of the hub by anyone.
    fn final_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["blobs", "refs", "snapshots"] {
            walk(&self.repo().join(folder), &mut names);
        }
        names.retain(|name| !name.ends_with(".incomplete"));
        names
    }

    /// What is kept of a file that is not whole.
    fn incomplete(&self) -> Option<Vec<u8>> {
        fs::read(self.unfinished(".zse.incomplete")?).ok()
    }

    /// The file beside contents that are not whole whose name ends so.
    fn unfinished(&self, ending: &str) -> Option<PathBuf> {
        let mut names = Vec::new();
        walk(self.folder.path(), &mut names);
        names
            .into_iter()
            .find(|name| name.ends_with(ending))
            .map(PathBuf::from)
    }
}

/// The hub at `address`, with files in `cache`.
fn config(address: &str, cache: &Path) -> Config {
    Config {
        endpoint: address.parse().expect("an address"),
        token: None,
        cache: cache.to_owned(),
        offline: false,
        patience: Patience {
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(10),
            // A machine that does much else is no stalled connection.
            connect: Duration::from_secs(3600),
            idle: Duration::from_secs(3600),
            ..Patience::default()
        },
        chunk: CHUNK as u64,
    }
}

fn walk(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => walk(&entry.path(), names),
            false => names.push(entry.path().display().to_string()),
        }
    }
}

fn parse(model: &str) -> ModelRef {
    model.parse().expect("a model's name")
}

/// Bytes without a pattern that a wrong offset could hide in.
fn contents(n: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}
