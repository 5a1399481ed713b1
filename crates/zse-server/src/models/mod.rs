//! The models that are served: found by name, loaded when a request first asks for one, unloaded
//! where another needs the memory or nobody has asked for long.
//!
//! A request [holds](Models::hold) its model while it runs; what is held is never unloaded. One
//! model is loaded at a time, because a load takes all cores.

mod change;
mod details;
mod served;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};
use zse::Engine;

use crate::config::{Config, ServeError};
use crate::error::ApiError;
use crate::state::now;
pub(crate) use change::Limits;
pub(crate) use details::Details;
pub(crate) use served::Origin;
pub use served::{LoadTimes, Served};
pub(crate) use table::{Keep, State, Status};
use table::{Place, Table};

/// How long a request waits for models that are in use to make room.
const PATIENCE: Duration = Duration::from_secs(30);

/// All models, loaded or not.
pub(crate) struct Models {
    entries: Vec<Entry>,
    /// Other names, and which entry they stand for.
    aliases: BTreeMap<String, usize>,
    table: Mutex<Table>,
    /// Something was given back.
    freed: Notify,
    /// Held by whoever loads.
    turn: Arc<AsyncMutex<()>>,
}

/// What never changes of a model.
struct Entry {
    name: String,
    origin: Option<Origin>,
    /// Since when it is served, in seconds since 1970.
    created: u64,
    /// Filled when first asked for.
    details: OnceLock<Arc<Details>>,
}

/// A model that is loaded, and stays so while this or a clone of it is there.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    _hold: Arc<Hold>,
}

/// Counts as a use of a model.
struct Hold {
    models: Arc<Models>,
    index: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let idle = self.models.table().release(self.index);
        drop(idle);
        self.models.freed.notify_waiters();
    }
}

impl Models {
    /// All of `served`, by the settings of `config`.
    ///
    /// # Errors
    /// If there is none, or two have one name.
    pub(crate) fn new(served: Vec<Served>, config: &Config) -> Result<Self, ServeError> {
        if served.is_empty() {
            return Err(ServeError::NoModel);
        }
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut entries = Vec::with_capacity(served.len());
        let mut places = Vec::with_capacity(served.len());
        for (i, served) in served.into_iter().enumerate() {
            if names.insert(served.name.clone(), i).is_some() {
                return Err(ServeError::SameName { name: served.name });
            }
            places.push(Place::new(&served));
            entries.push(Entry {
                name: served.name,
                origin: served.origin,
                created: now(),
                details: OnceLock::new(),
            });
        }
        let mut aliases = BTreeMap::new();
        for (alias, name) in &config.aliases {
            let Some(&index) = names.get(name) else {
                let (alias, name) = (alias.clone(), name.clone());
                return Err(ServeError::AliasOfNothing { alias, name });
            };
            if names.contains_key(alias) || aliases.insert(alias.clone(), index).is_some() {
                let name = alias.clone();
                return Err(ServeError::SameName { name });
            }
        }
        let taken: u64 = places.iter().map(|place| place.memory).sum();
        let limit = config.model_memory.unwrap_or_else(|| {
            // What is loaded already is part of it.
            let available = zse::system_memory().map(|memory| memory.available);
            available.map_or(u64::MAX, |bytes| bytes.saturating_add(taken))
        });
        Ok(Self {
            entries,
            aliases,
            table: Mutex::new(Table {
                places,
                limit,
                idle: config.model_idle,
            }),
            freed: Notify::new(),
            turn: Arc::default(),
        })
    }

    /// The model that a request names, once it is loaded. A name may be left out where there is one
    /// model.
    ///
    /// # Errors
    /// If there is no such model, it does not fit, or it cannot be loaded.
    pub(crate) async fn hold(self: &Arc<Self>, name: Option<&str>) -> Result<Model, ApiError> {
        let index = self.index(name)?;
        match self.take(index) {
            Some(model) => Ok(model),
            None => self.load(index).await,
        }
    }

    /// Which model a request means.
    fn index(&self, name: Option<&str>) -> Result<usize, ApiError> {
        match (name, &self.entries[..]) {
            (None, [_]) => Ok(0),
            (None, _) => Err(ApiError::param(
                "model",
                "several models are served: name one (GET /v1/models lists them)",
            )),
            (Some(name), entries) => {
                let own = entries.iter().position(|entry| entry.name == name);
                let found = own.or_else(|| self.aliases.get(name).copied());
                found.ok_or_else(|| ApiError::no_model(name))
            }
        }
    }

    /// A model, if it is loaded.
    fn take(self: &Arc<Self>, index: usize) -> Option<Model> {
        let engine = self.table().take(index)?;
        Some(Model {
            name: self.entries[index].name.clone(),
            engine,
            _hold: Arc::new(Hold {
                models: Arc::clone(self),
                index,
            }),
        })
    }

    /// Loads a model as soon as it is its turn and there is room.
    async fn load(self: &Arc<Self>, index: usize) -> Result<Model, ApiError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(model) = self.take(index) {
            return Ok(model);
        }
        let Some(origin) = self.entries[index].origin.clone() else {
            return Err(ApiError::internal(
                "a model without an origin is not loaded",
            ));
        };
        self.table().places[index].state = State::Loading;
        // A task of its own: whether the client stays or not, what is begun is of use to the next.
        let models = Arc::clone(self);
        let load = tokio::spawn(async move { models.load_from(index, origin, turn).await });
        let lost = |_| Err(ApiError::internal("the task of a load has panicked"));
        load.await.unwrap_or_else(lost)
    }

    async fn load_from(
        self: &Arc<Self>,
        index: usize,
        origin: Origin,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<Model, ApiError> {
        let loaded = self.try_load(index, origin).await;
        if loaded.is_err() {
            self.table().places[index].state = State::Unloaded;
        }
        let (engine, times, memory) = loaded?;
        let mut table = self.table();
        table.places[index].put(engine, times, memory);
        drop(table);
        let lost = || ApiError::internal("a model is gone as soon as it is loaded");
        self.take(index).ok_or_else(lost)
    }

    async fn try_load(
        self: &Arc<Self>,
        index: usize,
        origin: Origin,
    ) -> Result<(Engine, LoadTimes, u64), ApiError> {
        let name = &self.entries[index].name;
        let failed = |error: zse::Error| {
            let why = with_causes(&error);
            ApiError::cannot_load(name, format!("cannot load '{name}': {why}"))
        };
        let origin = Arc::new(origin);
        let plan = Arc::clone(&origin);
        let memory = on_thread(move || plan.memory()).await?.map_err(failed)?;
        self.make_room(name, memory).await?;
        let (engine, times) = on_thread(move || origin.load()).await?.map_err(failed)?;
        Ok((engine, times, memory))
    }

    /// Unloads what was not used for longest until there are so many bytes, and waits for models in
    /// use if it must.
    async fn make_room(&self, name: &str, needed: u64) -> Result<(), ApiError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Listened for before looking, so that nothing is missed between the two.
            let freed = self.freed.notified();
            let limit = self.table().limit_beside_pinned();
            if needed > limit {
                return Err(ApiError::no_room(name, needed, limit));
            }
            let unloaded = self.table().evict(needed);
            if let Some(engines) = unloaded {
                return on_thread(move || drop(engines)).await;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, freed).await.is_err() {
                return Err(ApiError::models_busy(name));
            }
        }
    }

    /// Unloads what nobody has used for as long as it is kept; runs until it is dropped.
    pub(crate) async fn watch(&self) {
        const TURN: Duration = Duration::from_millis(500);
        loop {
            tokio::time::sleep(TURN).await;
            let expired = self.table().expire(Instant::now());
            if !expired.is_empty() {
                // Their memory is given back off the threads that serve.
                tokio::task::spawn_blocking(move || drop(expired));
                self.freed.notify_waiters();
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on a thread that may block.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("the thread of a load has panicked"))
}

/// An error and what caused it, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
