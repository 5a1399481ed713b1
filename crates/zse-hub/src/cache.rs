//! The cache on disk, laid out as `huggingface_hub` does, so that both find each other's files:
//!
//! ```text
//! models--org--name/
//!   blobs/<etag>                     contents; `<etag>.zse.incomplete` while they come
//!   refs/<revision>                  the commit that a branch or tag stands for
//!   snapshots/<commit>/<path>        a link to ../../blobs/<etag>
//! .locks/models--org--name/<etag>.lock
//! ```
//!
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>

use std::cmp::Reverse;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::http::random;
use crate::{HubError, ModelRef, RepoId, Selection, select};

/// How the names of contents end that are not whole yet.
pub(crate) const INCOMPLETE: &str = ".incomplete";

/// Folders below a snapshot that are looked into.
const DEPTH: usize = 4;

/// The shared cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LocalModel {
    /// The repository.
    #[schema(value_type = String)]
    pub repo: RepoId,
    /// Its commit.
    pub commit: String,
    /// What to open: a GGUF file (of a split model the first), or the folder of safetensors.
    #[serde(serialize_with = "displayed")]
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Its files: paths in the repository.
    #[serde(skip)]
    pub files: Vec<String>,
    /// The quant, where the file's name says it.
    pub quant: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A path as people read it.
fn displayed<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

impl Cache {
    /// The cache in this folder, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a repository, whether it exists or not.
    pub fn folder(&self, repo: &RepoId) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// The model, if all its files are here. Where no revision is asked for, that is what `main` stands
    /// for, or else the newest snapshot that has it.
    pub fn find(&self, model: &ModelRef) -> Option<LocalModel> {
        self.commits(model).iter().find_map(|commit| {
            let snapshot = self.snapshot(&model.repo, commit);
            let files = files_of(&snapshot);
            let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
            let chosen = select::select(model.repo.as_str(), &paths, &model.choice).ok()?;
            Some(local(&model.repo, commit, &snapshot, &files, &chosen))
        })
    }

    /// Every model that is whole, by repository and quant: of several snapshots those that
    /// [`Cache::find`] finds.
    ///
    /// # Errors
    /// If the cache is there and cannot be read.
    pub fn list(&self) -> Result<Vec<LocalModel>, HubError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(HubError::io("read", &self.root)(error)),
        };
        let mut repos: Vec<RepoId> = entries
            .flatten()
            .filter_map(|entry| RepoId::of_folder(entry.file_name().to_str()?))
            .collect();
        repos.sort();
        let mut models: Vec<LocalModel> = Vec::new();
        for repo in repos {
            let first = models.len();
            let best = ModelRef::best_of(repo);
            for commit in self.commits(&best) {
                let snapshot = self.snapshot(&best.repo, &commit);
                let files = files_of(&snapshot);
                let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
                let mut all = select::all_gguf(&paths);
                if all.is_empty() {
                    all.extend(select::select(best.repo.as_str(), &paths, &best.choice));
                }
                for chosen in all {
                    if models[first..].iter().all(|m| m.files != chosen.files) {
                        models.push(local(&best.repo, &commit, &snapshot, &files, &chosen));
                    }
                }
            }
        }
        Ok(models)
    }

    /// The commits that a model may be of, those to be preferred first.
    fn commits(&self, model: &ModelRef) -> Vec<String> {
        let folder = self.folder(&model.repo);
        let revision = model.revision();
        let mut commits = Vec::new();
        let named = fs::read_to_string(folder.join("refs").join(revision)).unwrap_or_default();
        if is_object_id(named.trim()) {
            commits.push(named.trim().to_owned());
        } else if is_object_id(revision) {
            commits.push(revision.to_owned());
        }
        if model.revision.is_none() {
            let mut others = snapshots(&folder);
            let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
            others.sort_by_cached_key(|path| Reverse(age(path)));
            let names = others.iter().filter_map(|path| path.file_name()?.to_str());
            let others = names.filter(|name| is_object_id(name) && *name != named.trim());
            commits.extend(others.map(str::to_owned));
        }
        commits
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, repo: &RepoId, commit: &str) -> PathBuf {
        self.folder(repo).join("snapshots").join(commit)
    }

    /// Where contents lie that the hub calls `etag`.
    pub(crate) fn blob(&self, repo: &RepoId, etag: &str) -> PathBuf {
        self.folder(repo).join("blobs").join(etag)
    }

    /// The lock that `huggingface_hub` takes as well while it fetches a blob; held until dropped.
    ///
    /// # Errors
    /// [`HubError::Busy`] if another program holds it, [`HubError::Io`] where the file system has no
    /// locks.
    pub(crate) fn lock(&self, repo: &RepoId, etag: &str, file: &str) -> Result<File, HubError> {
        let folder = self.root.join(".locks").join(repo.folder());
        make_folder(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(HubError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(HubError::Busy {
                file: file.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(HubError::io("lock", &path)(error)),
        }
    }

    /// Puts a blob under its path in a snapshot.
    pub(crate) fn link(
        &self,
        repo: &RepoId,
        commit: &str,
        path: &str,
        etag: &str,
    ) -> Result<(), HubError> {
        let pointer = self.snapshot(repo, commit).join(path);
        let folder = pointer.parent().expect("a file of a snapshot is below it");
        make_folder(folder)?;
        // Its folder is so far below the repository's.
        #[cfg(unix)]
        let target = format!(
            "{}blobs/{etag}",
            "../".repeat(2 + path.matches('/').count())
        );
        #[cfg(unix)]
        if fs::read_link(&pointer).is_ok_and(|to| to == Path::new(&target)) {
            return Ok(());
        }
        // The link is made beside its place and renamed into it: nobody sees half of it, and other
        // programs may do the same at the same time.
        let fresh = folder.join(format!(".{:016x}.link", random()));
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, &fresh).map_err(HubError::io("link", &fresh))?;
        // Links need a privilege on Windows. A second name for the file does not.
        #[cfg(not(unix))]
        fs::hard_link(self.blob(repo, etag), &fresh).map_err(HubError::io("link", &fresh))?;
        fs::rename(&fresh, &pointer).map_err(HubError::io("rename", &fresh))
    }

    /// Notes which commit a revision stands for.
    pub(crate) fn set_ref(
        &self,
        repo: &RepoId,
        revision: &str,
        commit: &str,
    ) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder(repo).join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|there| there.trim() == commit) {
            return Ok(());
        }
        make_folder(path.parent().expect("a ref is below refs"))?;
        // Not among the refs, where every file is taken for one.
        let fresh = self.folder(repo).join(format!(".{:016x}.ref", random()));
        let written = File::create_new(&fresh)
            .and_then(|mut file| file.write_all(commit.as_bytes()).and(file.sync_all()));
        written.map_err(HubError::io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(HubError::io("rename", &fresh))
    }

    /// Removes a model: the links of its files, the blobs that nothing else links to, and with the
    /// last blob the repository's folder. What another program is fetching stays. Returns the bytes
    /// that are free now.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove(&self, model: &LocalModel) -> Result<u64, HubError> {
        let snapshot = self.snapshot(&model.repo, &model.commit);
        let gone: Vec<PathBuf> = model.files.iter().map(|path| snapshot.join(path)).collect();
        let blobs: Vec<PathBuf> = gone.iter().filter_map(|p| p.canonicalize().ok()).collect();
        for path in &gone {
            fs::remove_file(path).map_err(HubError::io("remove", path))?;
        }
        let folder = self.folder(&model.repo);
        let own = folder.join("blobs").canonicalize().ok();
        let mut freed = 0;
        let kept = linked_blobs(&folder);
        for blob in blobs {
            // Links may have been made by anyone: only blobs of this repository are removed.
            if blob.parent() == own.as_deref() && !kept.contains(&blob) {
                freed += fs::metadata(&blob).map_or(0, |m| m.len());
                fs::remove_file(&blob).map_err(HubError::io("remove", &blob))?;
            }
        }
        freed += self.clear(&model.repo)?;
        Ok(freed)
    }

    /// Removes what no model of a repository needs any more: folders without files and, where nothing
    /// else is left, beginnings that nobody is fetching. Returns the bytes that are free now.
    fn clear(&self, repo: &RepoId) -> Result<u64, HubError> {
        let folder = self.folder(repo);
        for snapshot in snapshots(&folder) {
            remove_empty(&snapshot, DEPTH);
        }
        let blobs = folder.join("blobs");
        let left = files_of(&blobs);
        let unfinished = |name: &str| name.ends_with(INCOMPLETE);
        // Where there are no links, files may be in snapshots and not among blobs.
        let is_used = snapshots(&folder).iter().any(|s| !files_of(s).is_empty());
        if is_used || left.iter().any(|(name, _)| !unfinished(name)) {
            return Ok(0);
        }
        let mut freed = 0;
        for (name, bytes) in left {
            // `huggingface_hub` puts a word between hash and ending. Its lock is that of the hash.
            let etag = name.split('.').next().unwrap_or(&name);
            let path = blobs.join(&name);
            let _lock = match self.lock(repo, etag, &name) {
                Ok(lock) => lock,
                Err(HubError::Busy { .. }) => continue,
                Err(error) => return Err(error),
            };
            match fs::remove_file(&path) {
                Ok(()) => freed += bytes,
                // It became whole before the lock was free.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(HubError::io("remove", &path)(error)),
            }
        }
        // Fails while there is something in it: then someone is fetching, and keeps the rest.
        if fs::remove_dir(&blobs).is_ok() {
            fs::remove_dir_all(&folder).map_err(HubError::io("remove", &folder))?;
        }
        Ok(freed)
    }
}

/// The model of `chosen` files.
fn local(
    repo: &RepoId,
    commit: &str,
    snapshot: &Path,
    files: &[(String, u64)],
    chosen: &Selection,
) -> LocalModel {
    let path = match chosen.is_folder() {
        true => snapshot.to_owned(),
        false => snapshot.join(&chosen.files[0]),
    };
    let bytes = files
        .iter()
        .filter(|(path, _)| chosen.files.contains(path))
        .map(|(_, bytes)| bytes);
    LocalModel {
        repo: repo.clone(),
        commit: commit.to_owned(),
        path,
        files: chosen.files.clone(),
        quant: chosen.quant.clone(),
        bytes: bytes.sum(),
    }
}

/// Files below a folder with their sizes, by path with `/`; links that lead nowhere are left out.
fn files_of(folder: &Path) -> Vec<(String, u64)> {
    fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<(String, u64)>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            // Follows links: contents are behind them.
            match fs::metadata(&path) {
                Ok(m) if m.is_file() && !name.starts_with('.') => {
                    found.push((format!("{prefix}{name}"), m.len()))
                }
                Ok(m) if m.is_dir() && depth > 0 && !path.is_symlink() => {
                    walk(&path, &format!("{prefix}{name}/"), depth - 1, found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, "", DEPTH, &mut found);
    found.sort();
    found
}

fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("snapshots"))
        .into_iter()
        .flatten()
        .flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes the folders below this one, and itself, that hold nothing.
fn remove_empty(folder: &Path, depth: usize) {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in below.filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path(), depth - 1);
        }
    }
    // Fails for those that hold something.
    let _ = fs::remove_dir(folder);
}

/// The blobs that some snapshot of a repository links to.
fn linked_blobs(folder: &Path) -> Vec<PathBuf> {
    let of_snapshot = |snapshot: PathBuf| {
        let files = files_of(&snapshot);
        files
            .into_iter()
            .filter_map(move |(path, _)| snapshot.join(path).canonicalize().ok())
    };
    snapshots(folder)
        .into_iter()
        .flat_map(of_snapshot)
        .collect()
}

/// Whether this is the name of a git commit or object, or of an LFS object, in hexadecimal.
pub(crate) fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn make_folder(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(HubError::io("make", folder))
}

/// Bytes free for this user where `folder` is or will be; `None` where the system does not say.
#[allow(
    clippy::useless_conversion,
    reason = "the types of a disk's blocks differ between systems"
)]
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|f| f.exists())?;
    #[cfg(unix)]
    {
        let disk = nix::sys::statvfs::statvfs(there).ok()?;
        let blocks: u64 = disk.blocks_available().try_into().ok()?;
        let size: u64 = disk.fragment_size().try_into().ok()?;
        Some(blocks.saturating_mul(size))
    }
    #[cfg(not(unix))]
    {
        let _ = there;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn many_may_link_the_same_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let repo = RepoId::new("org/name").unwrap();
        let blob = cache.blob(&repo, "etag");
        make_folder(blob.parent().unwrap()).unwrap();
        fs::write(&blob, b"contents").unwrap();
        let start = Barrier::new(4);
        let link_all = || {
            let linked = (0..50).map(|file| {
                start.wait();
                cache.link(&repo, "commit", &format!("folder/{file}.gguf"), "etag")
            });
            linked.collect::<Vec<_>>()
        };
        let linked: Vec<_> = thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(link_all));
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        assert!(linked.iter().all(Result::is_ok), "{linked:?}");
        let files = files_of(&cache.snapshot(&repo, "commit"));
        assert_eq!(files.len(), 50);
        assert!(files.iter().all(|(_, bytes)| *bytes == 8));
    }

    #[test]
    fn models_of_older_snapshots_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let repo = RepoId::new("org/name").unwrap();
        let (old, new) = ("0".repeat(40), "1".repeat(40));
        for (commit, file) in [
            (&old, "m-Q8_0.gguf"),
            (&old, "m-Q4_K_M.gguf"),
            (&new, "m-Q4_K_M.gguf"),
        ] {
            let snapshot = cache.snapshot(&repo, commit);
            make_folder(&snapshot).unwrap();
            fs::write(snapshot.join(file), b"contents").unwrap();
        }
        cache.set_ref(&repo, "main", &new).unwrap();
        let commit = |model: &str| cache.find(&model.parse().unwrap()).map(|m| m.commit);
        assert_eq!(commit("org/name"), Some(new.clone()));
        assert_eq!(commit("org/name:Q8_0"), Some(old.clone()));
        assert_eq!(commit("org/name:Q8_0@main"), None);
        let listed = cache.list().unwrap();
        let commits: Vec<&String> = listed.iter().map(|m| &m.commit).collect();
        assert_eq!(commits, [&new, &old]);
    }

    #[test]
    fn a_ref_changes_at_once_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let repo = RepoId::new("org/name").unwrap();
        cache.set_ref(&repo, "main", "one").unwrap();
        let path = cache.folder(&repo).join("refs/main");
        let mut old = File::open(&path).unwrap();
        cache.set_ref(&repo, "main", "two").unwrap();
        // Who has it open reads what was there, whole.
        assert_eq!(io::read_to_string(&mut old).unwrap(), "one");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(cache.folder(&repo)).unwrap().count(), 1);
    }
}
