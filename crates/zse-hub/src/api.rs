//! The hub's API: what a repository holds, and which repositories there are.
//!
//! <https://huggingface.co/docs/hub/api>

use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderName, LAST_MODIFIED};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cache::is_object_id;
use crate::digest::sha256;
use crate::http::{Attempts, Client, Failure, shown};
use crate::name::is_relative_path;
use crate::{Choice, HubError, ModelRef, RepoId};

/// Most files of a repository that are looked at.
const MAX_FILES: usize = 100_000;

/// A repository at a commit.
#[derive(Clone, Debug)]
pub struct RepoInfo {
    /// The repository.
    pub repo: RepoId,
    /// The commit that the revision stands for.
    pub commit: String,
    /// Its files.
    pub files: Vec<RepoFile>,
    /// What it is for, such as `text-generation`.
    pub task: Option<String>,
    /// Tags, among them `license:...`.
    pub tags: Vec<String>,
    /// Where its only file is, if not at the hub.
    pub(crate) address: Option<Url>,
    /// Whether [`commit`](Self::commit) changes with the files: not where a server outside the hub says
    /// nothing that does.
    pub(crate) is_versioned: bool,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoFile {
    /// Path in the repository: relative, without `..`.
    pub path: String,
    /// Bytes; `None` where the hub does not say.
    pub size: Option<u64>,
    /// What the hub calls its contents: the SHA-256 of large files, the git object id of small ones;
    /// `None` where it does not say.
    pub etag: Option<String>,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Found {
    /// `org/name`.
    pub id: String,
    /// Downloads of the last month.
    pub downloads: u64,
    /// Likes.
    pub likes: u64,
    /// What it is for, such as `text-generation`.
    pub task: Option<String>,
    /// Whether it has GGUF files.
    pub gguf: bool,
    /// Whether its licence must be accepted first.
    pub gated: bool,
}

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Part of a name.
    pub text: Option<&'a str>,
    /// Only repositories with GGUF files.
    pub gguf_only: bool,
    /// Which come first.
    pub order: Order,
    /// Most results.
    pub limit: usize,
}

/// Which repositories come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Those that most people fetched last month.
    #[default]
    Downloads,
    /// Those that most people like.
    Likes,
    /// Those that have become popular of late.
    Trending,
    /// Those that were made last.
    Newest,
}

impl Order {
    /// What the hub calls it.
    fn key(self) -> &'static str {
        match self {
            Self::Downloads => "downloads",
            Self::Likes => "likes",
            Self::Trending => "trendingScore",
            Self::Newest => "createdAt",
        }
    }
}

#[derive(Deserialize)]
struct ModelAnswer {
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    pipeline_tag: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct SearchAnswer {
    id: String,
    #[serde(default)]
    downloads: u64,
    #[serde(default)]
    likes: u64,
    #[serde(default)]
    pipeline_tag: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    /// `false`, or how access is given.
    #[serde(default)]
    gated: serde_json::Value,
}

impl RepoFile {
    /// A file by what the API says; `None` for a path that could leave the cache.
    fn new(sibling: Sibling) -> Option<Self> {
        let Sibling {
            rfilename,
            size,
            blob_id,
            lfs,
        } = sibling;
        let (etag, size) = match lfs {
            Some(lfs) => (Some(lfs.sha256), lfs.size.or(size)),
            None => (blob_id, size),
        };
        is_relative_path(&rfilename).then(|| Self {
            path: rfilename,
            size,
            etag: etag.filter(|etag| is_object_id(etag)),
        })
    }
}

impl Client {
    /// What `repo` holds at `revision`.
    pub(crate) async fn repo(&self, repo: &RepoId, revision: &str) -> Result<RepoInfo, HubError> {
        let mut url = self.endpoint(
            ["api", "models"]
                .into_iter()
                .chain(repo.as_str().split('/'))
                .chain(["revision", revision]),
        );
        url.set_query(Some("blobs=true"));
        let what = match revision {
            ModelRef::MAIN => format!("model {repo}"),
            _ => format!("model {repo} at {revision}"),
        };
        let answer: ModelAnswer = self.json(&url, &what).await?;
        let wrong = |why: &str| HubError::Answer {
            url: shown(&url),
            why: why.to_owned(),
        };
        let commit = answer
            .sha
            .filter(|sha| is_object_id(sha))
            .ok_or_else(|| wrong("it names no commit"))?;
        if answer.siblings.len() > MAX_FILES {
            return Err(wrong("it names too many files"));
        }
        Ok(RepoInfo {
            repo: repo.clone(),
            commit,
            files: answer
                .siblings
                .into_iter()
                .filter_map(RepoFile::new)
                .collect(),
            task: answer.pipeline_tag,
            tags: answer.tags,
            address: None,
            is_versioned: true,
        })
    }

    /// What `model` is a part of.
    pub(crate) async fn info(&self, model: &ModelRef) -> Result<RepoInfo, HubError> {
        let (Some(address), Choice::File(file)) = (&model.address, &model.choice) else {
            return self.repo(&model.repo, model.revision()).await;
        };
        self.refuse_offline(address.as_str())?;
        let mut attempts = Attempts::new(&self.config().patience, address);
        let (size, version) = loop {
            match self.look(address).await {
                Ok(found) => break found,
                Err(failure) => attempts.wait(failure).await?,
            }
        };
        Ok(RepoInfo {
            repo: model.repo.clone(),
            // As long as a commit: what changes with the file stands for its version.
            commit: sha256(&format!("{address} {size} {version}"))[..40].to_owned(),
            files: vec![RepoFile {
                path: file.clone(),
                size: Some(size),
                etag: None,
            }],
            task: None,
            tags: Vec::new(),
            address: Some(address.clone()),
            is_versioned: !version.is_empty(),
        })
    }

    /// How long a file outside the hub is, and what its server says that changes with it.
    async fn look(&self, address: &Url) -> Result<(u64, String), Failure> {
        let (response, last) = self.send(&Method::HEAD, address, None).await?;
        self.check_status(&response, &shown(address), &last)?;
        let header = |name: &HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
        let size = header(&CONTENT_LENGTH).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| {
            Failure::Final(HubError::Answer {
                url: shown(&last),
                why: "it does not say how long the file is".to_owned(),
            })
        })?;
        let version = header(&ETAG)
            .or_else(|| header(&LAST_MODIFIED))
            .unwrap_or_default();
        Ok((size, version.to_owned()))
    }

    /// What the hub says of a file by itself: mirrors may leave it out of the list.
    pub(crate) async fn file(
        &self,
        repo: &RepoId,
        commit: &str,
        path: &str,
    ) -> Result<(u64, String), HubError> {
        let url = self.file_url(repo, commit, path);
        self.refuse_offline(path)?;
        let mut attempts = Attempts::new(&self.config().patience, &url);
        loop {
            let failure = match self.file_once(&url, path).await {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            attempts.wait(failure).await?;
        }
    }

    async fn file_once(&self, url: &Url, path: &str) -> Result<(u64, String), Failure> {
        // Not beyond the hub: what it calls the file is in its own answer, redirect or not.
        let response = self.send_once(&Method::HEAD, url, None).await?;
        if !response.status().is_redirection() {
            self.check_status(&response, path, url)?;
        }
        let header = |names: &[&str]| {
            let value = names
                .iter()
                .find_map(|name| response.headers().get(*name))?;
            Some(
                value
                    .to_str()
                    .ok()?
                    .trim_start_matches("W/")
                    .trim_matches('"')
                    .to_owned(),
            )
        };
        let size =
            header(&["x-linked-size", CONTENT_LENGTH.as_str()]).and_then(|size| size.parse().ok());
        let etag = header(&["x-linked-etag", ETAG.as_str()]).filter(|etag| is_object_id(etag));
        match (size, etag) {
            (Some(size), Some(etag)) => Ok((size, etag)),
            _ => Err(Failure::Final(HubError::Answer {
                url: shown(url),
                why: "it gives no size and hash of the file".to_owned(),
            })),
        }
    }

    /// Where the contents of a repository's file are asked for.
    pub(crate) fn contents_url(&self, info: &RepoInfo, path: &str) -> Url {
        match &info.address {
            Some(address) => address.clone(),
            None => self.file_url(&info.repo, &info.commit, path),
        }
    }

    fn file_url(&self, repo: &RepoId, commit: &str, path: &str) -> Url {
        self.endpoint(
            repo.as_str()
                .split('/')
                .chain(["resolve", commit])
                .chain(path.split('/')),
        )
    }

    /// Repositories that `search` asks for.
    pub(crate) async fn search(&self, search: &Search<'_>) -> Result<Vec<Found>, HubError> {
        let limit = search.limit;
        let mut url = self.endpoint(["api", "models"]);
        {
            let mut query = url.query_pairs_mut();
            if let Some(text) = search.text {
                query.append_pair("search", text);
            }
            query
                .append_pair("sort", search.order.key())
                .append_pair("direction", "-1")
                .append_pair("limit", &limit.to_string());
            if search.gguf_only {
                query.append_pair("filter", "gguf");
            }
        }
        let answers: Vec<SearchAnswer> = self.json(&url, "list of models").await?;
        let found = answers.into_iter().take(limit).filter_map(|answer| {
            // Names are shown, and given back to be fetched: only sound ones.
            let repo = RepoId::new(&answer.id).ok()?;
            Some(Found {
                id: repo.as_str().to_owned(),
                downloads: answer.downloads,
                likes: answer.likes,
                task: answer
                    .pipeline_tag
                    .filter(|task| !task.contains(char::is_control)),
                gguf: answer.tags.iter().any(|tag| tag == "gguf"),
                gated: !matches!(
                    answer.gated,
                    serde_json::Value::Null | serde_json::Value::Bool(false)
                ),
            })
        });
        Ok(found.collect())
    }
}
