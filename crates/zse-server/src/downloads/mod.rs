//! Models on their way from the hub: two at a time, the others wait in their order.
//!
//! Each has a task, which fetches it, serves it by its name and loads it where that is asked for.
//! Whoever watches is told that something has changed and then looks: who is behind misses steps in
//! between, and never the end.

mod obtain;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;
use zse_hub::{ModelRef, Progress};

use crate::error::ApiError;
use crate::models::Keep;
use crate::state::now;

/// How many are fetched at the same time, each over several connections.
const AT_ONCE: usize = 2;
/// Most that are on their way or wait.
const MAX_ACTIVE: usize = 16;
/// Most that have ended and are remembered.
const REMEMBERED: usize = 100;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What it will be served as.
    pub(crate) name: String,
    pub(crate) model: ModelRef,
    pub(crate) then: Then,
}

/// What is done with a model once it is here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Then {
    pub(crate) load: bool,
    pub(crate) pin: bool,
    pub(crate) keep: Option<Keep>,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// It waits for others.
    Queued,
    Downloading,
    /// It is here, and being loaded.
    Loading,
    /// It is here and served.
    Done,
    Failed,
    /// What came is kept: the next download of it goes on from there.
    Cancelled,
}

impl Phase {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A download as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Download {
    pub(crate) id: u64,
    /// What the model is served as once it is here.
    pub(crate) model: String,
    /// What the hub calls it.
    pub(crate) source: String,
    /// The quant, once it is here, where the file's name says it.
    pub(crate) quant: Option<String>,
    pub(crate) state: Phase,
    /// The file that is fetched.
    pub(crate) file: Option<String>,
    /// Bytes that are here, those that were here before among them.
    pub(crate) done: u64,
    /// Bytes of all files; 0 until they are known.
    pub(crate) total: u64,
    /// Bytes that came over the network.
    pub(crate) fetched: u64,
    pub(crate) bytes_per_second: Option<f64>,
    pub(crate) seconds_left: Option<f64>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds since 1970.
    pub(crate) ended: Option<u64>,
}

/// All downloads.
pub(crate) struct Downloads {
    list: Mutex<List>,
    /// The number of the last change.
    changes: watch::Sender<u64>,
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct List {
    /// The oldest first.
    items: Vec<Item>,
    last_id: u64,
}

struct Item {
    download: Download,
    model: ModelRef,
    then: Then,
    /// When it was last changed.
    change: u64,
    /// Since when it is fetched.
    began: Option<Instant>,
    /// Whether it is to end.
    stop: watch::Sender<bool>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            list: Mutex::default(),
            changes: watch::Sender::new(0),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Downloads {
    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Download> {
        self.since(0).1
    }

    /// Those that have changed since the change of this number, and the number of the last one.
    pub(crate) fn since(&self, change: u64) -> (u64, Vec<Download>) {
        let list = self.list();
        let last = list.items.iter().map(|item| item.change).max();
        let changed = list.items.iter().filter(|item| item.change > change);
        let changed = changed.map(|item| item.download.clone()).collect();
        (last.unwrap_or(change), changed)
    }

    /// One of them.
    ///
    /// # Errors
    /// If there is no such download, or it is forgotten.
    pub(crate) fn get(&self, id: u64) -> Result<Download, ApiError> {
        let list = self.list();
        let found = list.items.iter().find(|item| item.download.id == id);
        let found = found.map(|item| item.download.clone());
        found.ok_or_else(|| ApiError::no_download(id))
    }

    /// Tells when something has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends one that waits or is fetched; what is being loaded, or has ended, stays as it is.
    ///
    /// # Errors
    /// If there is no such download.
    pub(crate) fn cancel(&self, id: u64) -> Result<(), ApiError> {
        let list = self.list();
        let found = list.items.iter().find(|item| item.download.id == id);
        let item = found.ok_or_else(|| ApiError::no_download(id))?;
        item.stop.send_replace(true);
        Ok(())
    }

    /// Ends all of them.
    pub(crate) fn stop(&self) {
        for item in &self.list().items {
            item.stop.send_replace(true);
        }
    }

    /// Whether a model of this name is on its way.
    fn is_coming(&self, name: &str) -> bool {
        let list = self.list();
        let mut active = list.items.iter().map(|item| &item.download);
        active.any(|download| !download.state.is_over() && download.model == name)
    }

    /// Adds one, unless it is on its way already. Gives it, and for a new one what tells it to end.
    fn add(&self, wanted: Wanted) -> Result<(Download, Option<watch::Receiver<bool>>), ApiError> {
        let mut list = self.list();
        let active = |item: &&mut Item| !item.download.state.is_over();
        let mut coming = list.items.iter_mut().filter(active);
        if let Some(item) = coming.find(|item| item.download.model == wanted.name) {
            if item.model != wanted.model {
                return Err(ApiError::name_is_taken(&wanted.name));
            }
            item.then.load |= wanted.then.load;
            item.then.pin |= wanted.then.pin;
            item.then.keep = wanted.then.keep.or(item.then.keep);
            return Ok((item.download.clone(), None));
        }
        if list.items.iter_mut().filter(active).count() >= MAX_ACTIVE {
            return Err(ApiError::overloaded());
        }
        let over = |item: &Item| item.download.state.is_over();
        if list.items.iter().filter(|item| over(item)).count() >= REMEMBERED
            && let Some(oldest) = list.items.iter().position(over)
        {
            list.items.remove(oldest);
        }
        list.last_id += 1;
        let download = Download {
            id: list.last_id,
            model: wanted.name,
            source: wanted.model.to_string(),
            quant: None,
            state: Phase::Queued,
            file: None,
            done: 0,
            total: 0,
            fetched: 0,
            bytes_per_second: None,
            seconds_left: None,
            error: None,
            created: now(),
            ended: None,
        };
        let (stop, stopped) = watch::channel(false);
        list.items.push(Item {
            download: download.clone(),
            model: wanted.model,
            then: wanted.then,
            change: 0,
            began: None,
            stop,
        });
        drop(list);
        self.update(download.id, |_| {});
        Ok((download, Some(stopped)))
    }

    /// Changes one that has not ended, and tells of it.
    fn update(&self, id: u64, change: impl FnOnce(&mut Item)) {
        let mut list = self.list();
        if let Some(item) = list.items.iter_mut().find(|item| item.download.id == id) {
            change(item);
            // Within the lock, so that who looks for a change of this number finds it.
            self.changes.send_modify(|last| {
                *last += 1;
                item.change = *last;
            });
        }
    }

    fn enter(&self, id: u64, state: Phase) {
        self.update(id, |item| {
            let download = &mut item.download;
            download.state = state;
            (download.bytes_per_second, download.seconds_left) = (None, None);
            download.ended = state.is_over().then(now);
            item.began = Some(Instant::now());
        });
    }

    fn advance(&self, id: u64, progress: &Progress) {
        self.update(id, |item| {
            let download = &mut item.download;
            download.file = Some(progress.file.clone()).filter(|file| !file.is_empty());
            download.done = progress.done;
            download.total = progress.total;
            download.fetched = progress.fetched;
            let seconds = item
                .began
                .map_or(0.0, |began| began.elapsed().as_secs_f64());
            if progress.fetched > 0 && seconds > 0.0 {
                let rate = progress.fetched as f64 / seconds;
                let left = progress.total.saturating_sub(progress.done) as f64;
                download.bytes_per_second = Some(rate);
                download.seconds_left = Some(left / rate);
            }
        });
    }

    fn then(&self, id: u64) -> Then {
        let list = self.list();
        let found = list.items.iter().find(|item| item.download.id == id);
        found.map_or_else(Then::default, |item| item.then)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, model: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            model: model.parse().expect("a name"),
            then: Then::default(),
        }
    }

    #[test]
    fn a_name_is_on_its_way_once() {
        let downloads = Downloads::default();
        let (first, stopped) = downloads.add(wanted("a", "org/a")).unwrap();
        assert!(stopped.is_some());
        let (again, stopped) = downloads.add(wanted("a", "org/a")).unwrap();
        assert!(again.id == first.id && stopped.is_none());
        assert!(downloads.add(wanted("a", "org/b")).is_err());
        downloads.enter(first.id, Phase::Failed);
        assert!(downloads.add(wanted("a", "org/b")).unwrap().1.is_some());
    }

    #[test]
    fn only_so_many_wait_and_are_remembered() {
        let downloads = Downloads::default();
        let add = |i: usize| downloads.add(wanted(&format!("m{i}"), "org/a"));
        for i in 0..MAX_ACTIVE {
            assert!(add(i).is_ok());
        }
        assert_eq!(add(MAX_ACTIVE).unwrap_err(), ApiError::overloaded());
        for download in downloads.all() {
            downloads.enter(download.id, Phase::Done);
        }
        for i in 0..2 * REMEMBERED {
            let (download, _) = add(i).unwrap();
            downloads.enter(download.id, Phase::Cancelled);
        }
        assert_eq!(downloads.all().len(), REMEMBERED);
    }

    #[test]
    fn who_looks_late_sees_what_has_changed_last() {
        let downloads = Downloads::default();
        let (a, _) = downloads.add(wanted("a", "org/a")).unwrap();
        let (b, _) = downloads.add(wanted("b", "org/b")).unwrap();
        let (seen, all) = downloads.since(0);
        assert_eq!(all.len(), 2);
        assert_eq!(downloads.since(seen), (seen, Vec::new()));
        downloads.enter(a.id, Phase::Downloading);
        let progress = Progress {
            file: "m.gguf".to_owned(),
            done: 30,
            total: 50,
            fetched: 10,
        };
        downloads.advance(a.id, &progress);
        let (_, changed) = downloads.since(seen);
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].id, changed[0].done), (a.id, 30));
        assert_eq!(downloads.get(b.id).unwrap().state, Phase::Queued);
    }
}
