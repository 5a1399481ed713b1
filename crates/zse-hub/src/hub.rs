//! The hub as callers see it: plain calls that block, and can be stopped.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::runtime::Runtime;

use crate::cache::{free_space, make_folder};
use crate::fetch::{Contents, fetch, range_of};
use crate::http::{Attempts, Client, Failure, shown};
use crate::partial::present;
use crate::progress::{Meter, Progress};
use crate::select::select;
use crate::{
    Cache, Config, Found, HubError, LocalModel, ModelRef, RepoFile, RepoId, RepoInfo, Search,
    Selection,
};

/// How often the caller is told how far a download is, and asked whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// Bytes that are left free on the disk beside what is fetched.
const SPARE: u64 = 64 << 20;

/// Most bytes that [`Hub::read`] gives at a time.
const MAX_READ: u64 = 64 << 20;

/// A hub of models and the cache that its files are kept in. Calls block the thread, which must not
/// be one that drives asynchronous tasks.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache: Cache,
    runtime: Runtime,
}

/// A model that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Where it is.
    pub model: LocalModel,
    /// All quants that the repository has, the preferred first.
    pub quants: Vec<String>,
    /// Bytes that had to be fetched.
    pub fetched: u64,
}

impl Hub {
    /// Connections of a download where none are asked for.
    pub const CONNECTIONS: usize = 8;

    /// A client; nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`HubError::Config`] if the system's certificates or proxy cannot be used, [`HubError::Io`] if
    /// it has no room for a runtime.
    pub fn new(config: Config) -> Result<Self, HubError> {
        let cache = Cache::new(config.cache.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HubError::io("start a runtime for", cache.root()))?;
        // Name resolution and timers look for the runtime when the client is made.
        let client = {
            let _inside = runtime.enter();
            Client::new(config)?
        };
        Ok(Self {
            client,
            cache,
            runtime,
        })
    }

    /// The cache that files are kept in.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What the repository of `model` holds at its revision.
    ///
    /// # Errors
    /// [`HubError::NotFound`], [`HubError::Denied`], [`HubError::Network`], [`HubError::Answer`],
    /// [`HubError::Offline`].
    pub fn info(&self, model: &ModelRef) -> Result<RepoInfo, HubError> {
        self.runtime.block_on(self.client.info(model))
    }

    /// Repositories that `search` asks for.
    ///
    /// # Errors
    /// As [`Hub::info`].
    pub fn search(&self, search: &Search<'_>) -> Result<Vec<Found>, HubError> {
        self.runtime.block_on(self.client.search(search))
    }

    /// The files of a repository that `model` asks for.
    ///
    /// # Errors
    /// [`HubError::Nothing`] if there are none.
    pub fn select(&self, info: &RepoInfo, model: &ModelRef) -> Result<Selection, HubError> {
        let paths: Vec<&str> = info.files.iter().map(|f| f.path.as_str()).collect();
        select(info.repo.as_str(), &paths, &model.choice)
    }

    /// Some bytes of a file, for a look at its header; fewer where the file ends.
    ///
    /// # Errors
    /// As [`Hub::info`]; [`HubError::Answer`] where more than 64 MiB are asked for,
    /// [`HubError::Network`] where the server sends another range again and again.
    pub fn read(
        &self,
        info: &RepoInfo,
        path: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>, HubError> {
        self.client.refuse_offline(path)?;
        let url = self.client.contents_url(info, path);
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        if wanted > MAX_READ {
            return Err(HubError::Answer {
                url: shown(&url),
                why: format!("{wanted} bytes are more than the {MAX_READ} that are read at a time"),
            });
        }
        self.runtime.block_on(async {
            let patience = self.client.config().patience;
            let mut attempts = Attempts::new(&patience, &url);
            loop {
                match self.read_once(&url, path, range.clone()).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(failure) => attempts.wait(failure).await?,
                }
            }
        })
    }

    async fn read_once(
        &self,
        url: &reqwest::Url,
        path: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Failure> {
        let bounds = Some((range.start, range.end - 1));
        let (mut response, last) = self.client.send(&Method::GET, url, bounds).await?;
        self.client.check_status(&response, path, &last)?;
        // Without ranges the answer begins at the file's beginning.
        let mut skip = match response.status() {
            reqwest::StatusCode::PARTIAL_CONTENT => {
                range_of(response.headers(), range.start)?;
                0
            }
            _ => range.start,
        };
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        while bytes.len() < wanted {
            let Some(came) = response.chunk().await.map_err(Failure::of_connection)? else {
                break;
            };
            let known = skip.min(came.len() as u64);
            skip -= known;
            let new = &came[known as usize..];
            bytes.extend_from_slice(&new[..new.len().min(wanted - bytes.len())]);
        }
        Ok(bytes)
    }

    /// Fetches a model's files that are not here yet, over `connections` at a time. `progress` is told
    /// some ten times a second how far it is, and may stop it; what was fetched is kept, and the next
    /// pull goes on behind it. Offline, the model must be here already.
    ///
    /// # Errors
    /// Every [`HubError`]; [`HubError::Interrupted`] if `progress` says so.
    pub fn pull(
        &self,
        model: &ModelRef,
        connections: usize,
        mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Pulled, HubError> {
        if self.client.config().offline {
            let local = self.cache.find(model).ok_or_else(|| HubError::Offline {
                what: model.to_string(),
            })?;
            return Ok(Pulled {
                model: local,
                quants: Vec::new(),
                fetched: 0,
            });
        }
        let meter = Arc::new(Meter::default());
        self.runtime.block_on(async {
            let mut pull = Box::pin(self.pull_files(model, connections, &meter));
            let mut tick = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    biased;
                    done = &mut pull => {
                        // The last word, whatever its answer: everything is there.
                        let _ = progress(&meter.now());
                        return done;
                    }
                    _ = tick.tick() => if progress(&meter.now()).is_break() {
                        return Err(HubError::Interrupted);
                    }
                }
            }
        })
    }

    async fn pull_files(
        &self,
        model: &ModelRef,
        connections: usize,
        meter: &Arc<Meter>,
    ) -> Result<Pulled, HubError> {
        let repo = &model.repo;
        let info = self.client.info(model).await?;
        let chosen = self.select(&info, model)?;
        let mut contents = Vec::new();
        for path in &chosen.files {
            let file = info.files.iter().find(|f| f.path == *path);
            let file = file.expect("files are selected among those that there are");
            contents.push(self.contents(&info, file).await?);
        }
        let sizes = contents.iter().map(|c| c.size);
        meter.set_total(sizes.fold(0, u64::saturating_add));
        make_folder(&self.cache.folder(repo).join("blobs"))?;
        self.check_space(repo, &contents)?;
        for contents in &contents {
            meter.begin(&contents.path);
            self.fetch_file(&info, contents, connections, meter).await?;
            meter.end(contents.size);
        }
        self.cache.set_ref(repo, model.revision(), &info.commit)?;
        let exact = ModelRef {
            revision: Some(info.commit.clone()),
            ..model.clone()
        };
        let here = self.cache.find(&exact).ok_or_else(|| HubError::Nothing {
            repo: repo.to_string(),
            wanted: format!("{} on this disk", chosen.files[0]),
            offered: "the files that were just fetched, removed by someone else".to_owned(),
        })?;
        Ok(Pulled {
            model: here,
            quants: chosen.quants,
            fetched: meter.now().fetched,
        })
    }

    async fn contents(&self, info: &RepoInfo, file: &RepoFile) -> Result<Contents, HubError> {
        let (size, etag) = match (file.size, &file.etag, &info.address) {
            (Some(size), Some(etag), _) => (size, etag.clone()),
            // Nobody says what the contents must be: they are called by the version.
            (Some(size), None, Some(_)) => (size, info.commit.clone()),
            _ => {
                self.client
                    .file(&info.repo, &info.commit, &file.path)
                    .await?
            }
        };
        Ok(Contents {
            path: file.path.clone(),
            url: self.client.contents_url(info, &file.path),
            size,
            etag,
            is_hashed: info.address.is_none(),
            is_versioned: info.is_versioned,
        })
    }

    /// Refuses to begin what cannot end.
    fn check_space(&self, repo: &RepoId, contents: &[Contents]) -> Result<(), HubError> {
        let missing = |c: &Contents| {
            let blob = self.cache.blob(repo, &c.etag);
            match blob.exists() {
                true => 0,
                false => c.size.saturating_sub(present(&blob, c)),
            }
        };
        let needed = contents.iter().map(missing).fold(0, u64::saturating_add);
        let folder = self.cache.folder(repo);
        match free_space(&folder) {
            Some(available) if needed > 0 && needed.saturating_add(SPARE) > available => {
                Err(HubError::NoSpace {
                    folder,
                    needed: needed.saturating_add(SPARE),
                    available,
                })
            }
            _ => Ok(()),
        }
    }

    async fn fetch_file(
        &self,
        info: &RepoInfo,
        contents: &Contents,
        connections: usize,
        meter: &Arc<Meter>,
    ) -> Result<(), HubError> {
        let (repo, etag) = (&info.repo, &contents.etag);
        let blob = self.cache.blob(repo, etag);
        if !blob.exists() {
            let _lock = self.cache.lock(repo, etag, &contents.path)?;
            // Whoever held the lock before may have fetched it.
            if !blob.exists() {
                fetch(&self.client, contents, &blob, connections, meter).await?;
            }
        }
        self.cache.link(repo, &info.commit, &contents.path, etag)
    }
}
