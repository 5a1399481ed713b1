//! One file from the hub to the disk.
//!
//! Ranges are fetched by several connections and written in order, so that `<etag>.incomplete` always
//! holds the beginning of the file: its length says all that is needed to go on. The hash is computed
//! on the way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::task::JoinSet;

use crate::HubError;
use crate::cache::{INCOMPLETE, is_object_id};
use crate::digest::Digest;
use crate::http::{Attempts, Client, Failure};
use crate::progress::Meter;

/// Bytes hashed at a time of what is there already.
const HASHED_AT_ONCE: usize = 1 << 20;

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
    meter: Arc<Meter>,
    place: Mutex<Option<Place>>,
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
    let source = Arc::new(Source {
        client: client.clone(),
        contents: contents.clone(),
        meter: Arc::clone(meter),
        place: Mutex::new(None),
    });
    let mut target = Target::open(blob, contents, meter).await?;
    match parallel(&source, &mut target, connections).await {
        Ok(()) => {}
        Err(Broken::NoRanges) => in_one(&source, &mut target).await?,
        Err(Broken::Failed(error @ HubError::Changed { .. })) => {
            target.drop_all()?;
            return Err(error);
        }
        Err(Broken::Failed(error)) => return Err(error),
    }
    target.finish(blob)
}

/// The file that grows from its beginning.
struct Target<'a> {
    contents: &'a Contents,
    path: PathBuf,
    file: File,
    written: u64,
    digest: Digest,
}

impl<'a> Target<'a> {
    /// Opens what an earlier attempt has left, or a new file.
    async fn open(blob: &Path, contents: &'a Contents, meter: &Meter) -> Result<Self, HubError> {
        let path = incomplete(blob);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HubError::io("open", &path))?;
        let mut digest = Digest::new(&contents.etag, contents.size);
        let mut written = 0;
        let mut buffer = vec![0; HASHED_AT_ONCE];
        loop {
            let n = file
                .read(&mut buffer)
                .map_err(HubError::io("read", &path))?;
            written += n as u64;
            if n == 0 || written > contents.size {
                break;
            }
            digest.update(&buffer[..n]);
            meter.set_of_file(written);
            // Long files take long: let the caller look whether this is still wanted.
            tokio::task::yield_now().await;
        }
        if written > contents.size {
            // Not the beginning of these contents.
            file.set_len(0)
                .and_then(|()| file.rewind())
                .map_err(HubError::io("empty", &path))?;
            digest = Digest::new(&contents.etag, contents.size);
            meter.set_of_file(0);
            written = 0;
        }
        Ok(Self {
            contents,
            path,
            file,
            written,
            digest,
        })
    }

    /// Writes behind what is written, whatever another program may have put at the file's end.
    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(HubError::io("write", &self.path))?;
        self.digest.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn drop_all(self) -> Result<(), HubError> {
        fs::remove_file(&self.path).map_err(HubError::io("remove", &self.path))
    }

    /// Checks the contents and gives them their name.
    fn finish(self, blob: &Path) -> Result<(), HubError> {
        let found = self.digest.clone().finish();
        if self.contents.is_hashed && found != self.contents.etag {
            let (file, expected) = (self.contents.path.clone(), self.contents.etag.clone());
            self.drop_all()?;
            return Err(HubError::Contents {
                file,
                expected,
                found,
            });
        }
        self.file
            .sync_all()
            .map_err(HubError::io("write", &self.path))?;
        let length = self.file.metadata();
        if length.map_err(HubError::io("read", &self.path))?.len() != self.contents.size {
            // Another program writes without the lock: this is not what was hashed.
            return Err(HubError::Busy {
                file: self.contents.path.clone(),
            });
        }
        fs::rename(&self.path, blob).map_err(HubError::io("rename", &self.path))?;
        sync_folder(blob)
    }
}

/// The name of a blob that is not whole yet.
pub(crate) fn incomplete(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(INCOMPLETE);
    PathBuf::from(name)
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

/// What came of a part.
type Part = Arc<Mutex<Vec<u8>>>;

/// Parts that follow what is written. When it is dropped, because one of them failed or because nobody
/// waits for the file any more, what came without a gap is written.
struct Window<'w, 'c> {
    target: &'w mut Target<'c>,
    parts: BTreeMap<u64, Part>,
}

impl Window<'_, '_> {
    /// The bytes of the part behind what is written.
    fn first(&self) -> Option<usize> {
        let part = self.parts.get(&self.target.written)?;
        Some(lock(part).len())
    }

    /// Writes the part behind what is written, as far as it came.
    fn write_first(&mut self) -> Result<(), HubError> {
        match self.parts.remove(&self.target.written) {
            Some(part) => self.target.append(&lock(&part)),
            None => Ok(()),
        }
    }
}

impl Drop for Window<'_, '_> {
    fn drop(&mut self) {
        while self.first().is_some() {
            // What cannot be written is fetched again by who goes on.
            if self.write_first().is_err() {
                return;
            }
        }
    }
}

/// Fetches what is missing by ranges. At most twice as many parts as connections are in memory.
async fn parallel(
    source: &Arc<Source>,
    target: &mut Target<'_>,
    connections: usize,
) -> Result<(), Broken> {
    let size = source.contents.size;
    let chunk = source.client.config().chunk.max(1);
    let ahead = 2 * connections.max(1) as u64 * chunk;
    let mut next = target.written;
    let mut window = Window {
        target,
        parts: BTreeMap::new(),
    };
    // Parts that are on their way are given up when this is dropped.
    let mut coming = JoinSet::new();
    while window.target.written < size {
        let limit = size.min(window.target.written.saturating_add(ahead));
        while next < limit && coming.len() < connections.max(1) {
            let range = next..size.min(next.saturating_add(chunk));
            next = range.end;
            let room = Vec::with_capacity((range.end - range.start) as usize);
            let (source, part) = (Arc::clone(source), Part::new(Mutex::new(room)));
            window.parts.insert(range.start, Arc::clone(&part));
            coming.spawn(async move { source.part(range, &part).await });
        }
        let joined = coming
            .join_next()
            .await
            .expect("something is missing, so something is coming");
        joined.expect("a part that is fetched neither panics nor is aborted here")?;
        let whole = |written: u64| (size - written).min(chunk);
        while window
            .first()
            .is_some_and(|came| came as u64 == whole(window.target.written))
        {
            window.write_first()?;
        }
    }
    Ok(())
}

/// Fetches the whole file in one answer, from a server that gives no ranges. What is there already
/// is skipped.
async fn in_one(source: &Arc<Source>, target: &mut Target<'_>) -> Result<(), HubError> {
    let config = source.client.config();
    let mut attempts = Attempts::new(&config.patience, &source.contents.url);
    loop {
        let before = target.written;
        source.meter.set_of_file(before);
        let failure = match source.whole(target).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if target.written > before {
            attempts.reset();
        }
        attempts.wait(failure).await?;
    }
}

impl Source {
    /// Puts the bytes of a range into `part`. What came before a connection broke is kept, and the
    /// next goes on behind it.
    async fn part(&self, range: Range<u64>, part: &Part) -> Result<(), Broken> {
        let patience = self.client.config().patience;
        let mut attempts = Attempts::new(&patience, &self.contents.url);
        loop {
            let before = lock(part).len() as u64;
            match self.part_once(range.start + before..range.end, part).await {
                Ok(Came::All) => return Ok(()),
                Ok(Came::WholeFile) => return Err(Broken::NoRanges),
                Err(failure) => {
                    if lock(part).len() as u64 > before {
                        attempts.reset();
                    }
                    attempts.wait(failure).await?;
                }
            }
        }
    }

    async fn part_once(&self, range: Range<u64>, part: &Part) -> Result<Came, Failure> {
        let mut response = self.open(Some(&range)).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_range(response.headers(), &range)?,
            StatusCode::OK if range == (0..self.contents.size) => {}
            StatusCode::OK => return Ok(Came::WholeFile),
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(self.changed()),
            _ => self
                .client
                .check_status(&response, &self.contents.path, &self.contents.url)?,
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
            lock(part).extend_from_slice(&came[..wanted]);
            self.meter.came(wanted as u64);
            missing -= wanted as u64;
        }
        Ok(Came::All)
    }

    async fn whole(&self, target: &mut Target<'_>) -> Result<(), Failure> {
        let mut response = self.open(None).await?;
        self.client
            .check_status(&response, &self.contents.path, &self.contents.url)?;
        let mut skip = target.written;
        while target.written < self.contents.size {
            let came = response.chunk().await.map_err(Failure::of_connection)?;
            let Some(came) = came else {
                return Err(Failure::again("the answer ended too early"));
            };
            let known = skip.min(came.len() as u64);
            skip -= known;
            let new = &came[known as usize..];
            let room = usize::try_from(self.contents.size - target.written).unwrap_or(usize::MAX);
            let new = &new[..new.len().min(room)];
            target.append(new)?;
            self.meter.came(new.len() as u64);
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
                self.check_etag(&place, &response)?;
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
        if response.status().is_success() {
            self.place().get_or_insert(Place { url, etag });
        }
        Ok(response)
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        lock(&self.place)
    }

    /// Parts of two versions of a file make none. Where the hash of the whole is known, tags that are
    /// no hashes do not count: each server of a mirror may give its own.
    fn check_etag(&self, place: &Place, response: &Response) -> Result<(), Failure> {
        match (&place.etag, etag(response.headers())) {
            (Some(first), Some(now))
                if response.status().is_success()
                    && *first != now
                    && (!self.contents.is_hashed || is_object_id(&now)) =>
            {
                Err(self.changed())
            }
            _ => Ok(()),
        }
    }

    fn check_range(&self, headers: &HeaderMap, range: &Range<u64>) -> Result<(), Failure> {
        match range_of(headers, range.start)? {
            Some(total) if total != self.contents.size => Err(self.changed()),
            _ => Ok(()),
        }
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
    use crate::digest::sha256;

    /// The whole or nothing, though another program writes to the same file.
    #[test]
    fn what_others_write_never_gets_the_name_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let whole = vec![b'a'; 1000];
        let contents = Contents {
            path: "m.gguf".to_owned(),
            url: Url::parse("http://localhost/").unwrap(),
            size: 1000,
            etag: sha256(&"a".repeat(1000)),
            is_hashed: true,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for (foreign, is_whole) in [(400, true), (2000, false)] {
            let blob = folder.path().join(foreign.to_string());
            let meter = Meter::default();
            let open = Target::open(&blob, &contents, &meter);
            let mut target = runtime.block_on(open).unwrap();
            target.append(&whole[..500]).unwrap();
            let mut other = File::options().append(true).open(&target.path).unwrap();
            other.write_all(&vec![1; foreign]).unwrap();
            target.append(&whole[500..]).unwrap();
            let finished = target.finish(&blob);
            assert_eq!(finished.is_ok(), is_whole, "{finished:?}");
            assert_eq!(fs::read(&blob).ok(), is_whole.then(|| whole.clone()));
        }
    }

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
