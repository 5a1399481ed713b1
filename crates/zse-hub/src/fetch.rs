//! One file from the hub to the disk.
//!
//! Chunks are fetched by several connections; what comes is written at its place at once, and noted
//! ([`Partial`]), so that who goes on fetches what did not come and nothing else. The hash is computed on
//! the way.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::task::JoinSet;

use crate::HubError;
use crate::cache::is_object_id;
use crate::http::{Attempts, Client, Failure, shown};
use crate::partial::{Partial, present};
use crate::progress::Meter;

/// Contents that are to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// The file's path in its repository, for messages.
    pub(crate) path: String,
    /// Where the hub gives it.
    pub(crate) url: Url,
    pub(crate) size: u64,
    /// What the hub calls the contents: their SHA-256 or git's object id.
    pub(crate) etag: String,
    /// Whether it is that; otherwise it only names the version.
    pub(crate) is_hashed: bool,
    /// Whether `etag` changes with the contents, so that what is left under it is a part of these.
    pub(crate) is_versioned: bool,
}

/// Where the contents of a file are, found by following the hub's redirect, and what is known of them
/// there.
#[derive(Clone, Debug)]
struct Place {
    url: Url,
    etag: Option<String>,
}

/// What all connections to a file share.
struct Source {
    client: Client,
    contents: Contents,
    partial: Partial,
    meter: Arc<Meter>,
    place: Mutex<Option<Place>>,
    /// The tag of the first answer, where nobody knows the hash.
    tag: Mutex<Option<String>>,
}

/// Notes what came when it is dropped: at an error, and when nobody waits for the file any more.
struct Notes(Arc<Source>);

impl Drop for Notes {
    fn drop(&mut self) {
        self.0.partial.note_all();
    }
}

/// Why a part did not come.
enum Broken {
    /// The server sends whole files only.
    NoRanges,
    Failed(HubError),
}

impl From<HubError> for Broken {
    fn from(error: HubError) -> Self {
        Self::Failed(error)
    }
}

/// Fetches contents to `blob`, going on where an earlier attempt has stopped. Under the name `blob`
/// they appear when they are whole, as the hub names them, and on the disk.
pub(crate) async fn fetch(
    client: &Client,
    contents: &Contents,
    blob: &Path,
    connections: usize,
    meter: &Arc<Meter>,
) -> Result<(), HubError> {
    let is_begun = present(blob, contents) > 0;
    match fetch_rest(client, contents, blob, connections, meter).await {
        // What was here before may be what was wrong. It is dropped: now all comes from the server.
        Err(HubError::Contents { .. }) if is_begun => {
            fetch_rest(client, contents, blob, connections, meter).await
        }
        fetched => fetched,
    }
}

/// Fetches what is missing of contents.
async fn fetch_rest(
    client: &Client,
    contents: &Contents,
    blob: &Path,
    connections: usize,
    meter: &Arc<Meter>,
) -> Result<(), HubError> {
    let chunk = client.config().chunk;
    let source = Arc::new(Source {
        client: client.clone(),
        contents: contents.clone(),
        partial: Partial::open(blob, contents, chunk, meter).await?,
        meter: Arc::clone(meter),
        place: Mutex::new(None),
        tag: Mutex::new(None),
    });
    let notes = Notes(Arc::clone(&source));
    let fetched = match parallel(&source, connections).await {
        Ok(()) => Ok(()),
        Err(Broken::NoRanges) => in_one(&source).await,
        Err(Broken::Failed(error)) => Err(error),
    };
    if let Err(HubError::Changed { .. }) = fetched {
        source.partial.drop_all()?;
    }
    fetched?;
    drop(notes);
    source.partial.finish(blob)
}

/// Fetches the chunks that are missing.
async fn parallel(source: &Arc<Source>, connections: usize) -> Result<(), Broken> {
    let mut missing = source.partial.missing().into_iter();
    // Chunks that are on their way are given up when this is dropped.
    let mut coming = JoinSet::new();
    loop {
        while coming.len() < connections.max(1)
            && let Some(i) = missing.next()
        {
            let source = Arc::clone(source);
            coming.spawn(async move { source.chunk(i).await });
        }
        let Some(joined) = coming.join_next().await else {
            return Ok(());
        };
        joined.expect("a chunk that is fetched neither panics nor is aborted here")?;
        source.partial.hash().await?;
    }
}

/// Fetches the whole file in one answer, from a server that gives no ranges. What is there already
/// is skipped.
async fn in_one(source: &Arc<Source>) -> Result<(), HubError> {
    let config = source.client.config();
    let mut attempts = Attempts::new(&config.patience, &source.contents.url);
    loop {
        let before = source.partial.present();
        let failure = match source.whole().await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if source.partial.present() > before {
            attempts.reset();
        }
        attempts.wait(failure).await?;
    }
}

impl Source {
    /// Fetches what is missing of chunk `i`. What came before a connection broke is kept, and the next
    /// goes on behind it.
    async fn chunk(&self, i: usize) -> Result<(), Broken> {
        let patience = self.client.config().patience;
        let mut attempts = Attempts::new(&patience, &self.contents.url);
        let range = self.partial.range(i);
        loop {
            let before = self.partial.came(i);
            match self.chunk_once(i, range.start + before..range.end).await {
                Ok(Came::All) => return Ok(()),
                Ok(Came::WholeFile) => return Err(Broken::NoRanges),
                Err(failure) => {
                    if self.partial.came(i) > before {
                        attempts.reset();
                    }
                    attempts.wait(failure).await?;
                }
            }
        }
    }

    /// Fetches the bytes `range`, the last of chunk `i`.
    async fn chunk_once(&self, i: usize, range: Range<u64>) -> Result<Came, Failure> {
        let mut response = self.open(Some(&range)).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_range(response.headers(), &range)?,
            StatusCode::OK => {
                self.check_length(response.headers())?;
                if range != (0..self.contents.size) {
                    return Ok(Came::WholeFile);
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(self.changed()),
            _ => return Err(self.no_contents(&response)),
        }
        let mut missing = range.end - range.start;
        while missing > 0 {
            let came = response.chunk().await.map_err(Failure::of_connection)?;
            let Some(came) = came else {
                return Err(Failure::again("the answer ended too early"));
            };
            let wanted = came
                .len()
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            self.partial.put(i, &came[..wanted])?;
            self.meter.came(wanted as u64);
            missing -= wanted as u64;
        }
        Ok(Came::All)
    }

    async fn whole(&self) -> Result<(), Failure> {
        let mut response = self.open(None).await?;
        match response.status() {
            StatusCode::OK => self.check_length(response.headers())?,
            _ => return Err(self.no_contents(&response)),
        }
        let mut at = 0;
        while at < self.contents.size {
            let came = response.chunk().await.map_err(Failure::of_connection)?;
            let Some(came) = came else {
                return Err(Failure::again("the answer ended too early"));
            };
            self.meter.came(self.partial.put_at(at, &came)?);
            at += came.len() as u64;
            self.partial.hash().await?;
        }
        Ok(())
    }

    /// An answer with contents: from where the last one came, or, where that is no longer open to
    /// us (signed addresses run out), from where the hub now says.
    async fn open(&self, range: Option<&Range<u64>>) -> Result<Response, Failure> {
        let bounds = range.map(|r| (r.start, r.end - 1));
        let known = self.place().clone();
        if let Some(place) = known {
            let (response, _) = self.client.send(&Method::GET, &place.url, bounds).await?;
            let is_closed = matches!(
                response.status(),
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
                    | StatusCode::GONE
            );
            if !is_closed {
                self.check_etag(Some(&place), &response)?;
                return Ok(response);
            }
            *self.place() = None;
        }
        let (response, url) = self
            .client
            .send(&Method::GET, &self.contents.url, bounds)
            .await?;
        let etag = etag(response.headers());
        // Only the hub itself calls contents by the names that it lists.
        let is_hub = self.contents.is_hashed && url.origin() == self.contents.url.origin();
        if is_hub
            && etag.as_ref().is_some_and(|etag| {
                // A hash of the same kind: other tags say nothing of the contents.
                is_object_id(etag)
                    && etag.len() == self.contents.etag.len()
                    && *etag != self.contents.etag
            })
            && response.status().is_success()
        {
            return Err(self.changed());
        }
        self.check_etag(None, &response)?;
        if response.status().is_success() {
            self.place().get_or_insert(Place { url, etag });
        }
        Ok(response)
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        lock(&self.place)
    }

    /// Parts of two versions of a file make none. Where nobody knows the hash, all answers have the tag
    /// of the first. Where it is known, only hashes that one `place` gives count: each server of a mirror
    /// may have tags of its own.
    fn check_etag(&self, place: Option<&Place>, response: &Response) -> Result<(), Failure> {
        let Some(now) = etag(response.headers()).filter(|_| response.status().is_success()) else {
            return Ok(());
        };
        let is_other = match self.contents.is_hashed {
            true => {
                let first = place.and_then(|place| place.etag.as_ref());
                is_object_id(&now) && first.is_some_and(|first| *first != now)
            }
            false => *lock(&self.tag).get_or_insert_with(|| now.clone()) != now,
        };
        match is_other {
            true => Err(self.changed()),
            false => Ok(()),
        }
    }

    /// The length of an answer with the whole file, if it says one.
    fn check_length(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        match length {
            Some(length) if length != self.contents.size => Err(self.changed()),
            _ => Ok(()),
        }
    }

    fn check_range(&self, headers: &HeaderMap, range: &Range<u64>) -> Result<(), Failure> {
        match range_of(headers, range.start)? {
            Some(total) if total != self.contents.size => Err(self.changed()),
            _ => Ok(()),
        }
    }

    /// Why an answer has no contents: what its status says, or that nobody asked for an answer of this kind.
    fn no_contents(&self, response: &Response) -> Failure {
        let (path, url) = (&self.contents.path, &self.contents.url);
        let checked = self.client.check_status(response, path, url);
        Failure::Final(checked.err().unwrap_or_else(|| HubError::Answer {
            url: shown(url),
            why: format!("status {}", response.status()),
        }))
    }

    fn changed(&self) -> Failure {
        Failure::Final(HubError::Changed {
            file: self.contents.path.clone(),
        })
    }
}

/// Nothing under these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer held.
enum Came {
    All,
    WholeFile,
}

/// The strong or weak tag of an answer, without its quotes.
fn etag(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-linked-etag").or_else(|| headers.get(ETAG))?;
    Some(
        value
            .to_str()
            .ok()?
            .trim_start_matches("W/")
            .trim_matches('"')
            .to_owned(),
    )
}

/// The size of a file by an answer with a part of it, if the answer says it. A part that does not
/// begin at `start` would put bytes in the wrong place.
pub(crate) fn range_of(headers: &HeaderMap, start: u64) -> Result<Option<u64>, Failure> {
    let value = headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    match value.and_then(content_range) {
        Some((first, total)) if first == start => Ok(total),
        Some(_) => Err(Failure::again(
            "another part of the file came than was asked for",
        )),
        None => Err(Failure::again(
            "an answer with part of a file does not say which",
        )),
    }
}

/// Start and total of `bytes 0-99/1000`; the total may be `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((start, None)),
        total => Some((start, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes */100",
            "items 5-9/100",
            "bytes 5/100",
            "bytes -9/100",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
