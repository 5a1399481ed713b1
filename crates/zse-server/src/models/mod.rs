//! The models that are served: found by name, loaded when a request first asks for one, unloaded
//! where another needs the memory or nobody has asked for long.
//!
//! A request [holds](Models::hold) its model while it runs; what is held is never unloaded. One
//! model is loaded at a time, because a load takes all cores.

mod adapters;
mod change;
mod details;
mod fetched;
mod served;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};
use zse::{AdapterSource, Engine};
use zse_hub::ModelRef;

use crate::config::{Config, ServeError};
use crate::error::ApiError;
use crate::state::now;
pub(crate) use adapters::{AdapterStatus, LoraScale, Wanted, allowed_path};
pub(crate) use change::Limits;
pub(crate) use details::{Abilities, Details, Task};
pub(crate) use served::Origin;
pub use served::{LoadTimes, Served};
pub(crate) use table::{Keep, State, Status};
use table::{Place, Table};

/// How long a request waits for models that are in use to make room.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a load waits until what was unloaded before has given its memory back. That takes no
/// longer than a step, unless something holds an engine that should not.
const ENDING: Duration = Duration::from_secs(30);

/// All models, loaded or not.
pub(crate) struct Models {
    /// Other names, and which model they stand for.
    aliases: BTreeMap<String, usize>,
    /// Whether a request that names none means the first: the only one that the server was given.
    has_default: bool,
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
    /// What was fetched for it while the server runs; `None`: it was given to the server.
    fetched: Option<ModelRef>,
    /// Filled when first asked for.
    details: OnceLock<Arc<Details>>,
    /// Filled when first asked for.
    abilities: OnceLock<Abilities>,
}

impl Entry {
    fn new(name: String, origin: Option<Origin>, fetched: Option<ModelRef>) -> Arc<Self> {
        Arc::new(Self {
            name,
            origin,
            created: now(),
            fetched,
            details: OnceLock::new(),
            abilities: OnceLock::new(),
        })
    }
}

/// A model that is loaded, and stays so while this or a clone of it is there.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    _hold: Arc<Hold>,
}

impl Model {
    /// What answers depend on beside their requests: the model, its file by its size, the device and the version.
    pub(crate) fn fingerprint(&self) -> String {
        let file = self.engine.model().weights.checkpoint();
        let of = (
            &self.name,
            file.file_bytes(),
            self.engine.device(),
            env!("CARGO_PKG_VERSION"),
        );
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(of);
        format!("fp_{:010x}", hash >> 24)
    }
}

/// Bytes that models can take beside those that are loaded: of the first one's device, as a server's models
/// mostly run on one.
fn available(served: &[Served]) -> Option<u64> {
    let origin = served.iter().find_map(|served| served.origin.as_ref());
    match origin {
        Some(origin) => origin.options.available(),
        None => zse::system_memory().map(|memory| memory.available),
    }
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
        let aliases = aliases(&served, config)?;
        let has_default = served.len() == 1;
        let available = available(&served);
        let mut next_adapter = 0;
        let places = served.into_iter().map(|s| Place::new(s, &mut next_adapter));
        let places: Vec<Place> = places.collect();
        let taken: u64 = places.iter().map(|place| place.memory).sum();
        let limit = config.model_memory.unwrap_or_else(|| {
            // What is loaded already is part of it.
            available.map_or(u64::MAX, |bytes| bytes.saturating_add(taken))
        });
        Ok(Self {
            aliases,
            has_default,
            table: Mutex::new(Table {
                places,
                limit,
                idle: config.model_idle,
                leaving: Vec::new(),
                next_adapter,
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
        self.hold_with(name, &Wanted::default()).await
    }

    /// Which model a request means, that of an adapter where it names one.
    fn index(&self, name: Option<&str>) -> Result<usize, ApiError> {
        self.find(name).map(|(index, _)| index)
    }

    /// Which model a request means, and its adapter where it names one.
    fn find(&self, name: Option<&str>) -> Result<(usize, Option<String>), ApiError> {
        match name {
            None if self.has_default => Ok((0, None)),
            None => Err(ApiError::param(
                "model",
                "several models are served: name one (GET /v1/models lists them)",
            )),
            Some(name) => {
                let table = self.table();
                let own = table.find(name);
                if let Some(index) = own.or_else(|| self.aliases.get(name).copied()) {
                    return Ok((index, None));
                }
                let found = table.with_adapter(name);
                let found = found.map(|index| (index, Some(name.to_owned())));
                found.ok_or_else(|| ApiError::no_model(name))
            }
        }
    }

    /// The name of the model that a request means, if it has to be loaded for that.
    pub(crate) fn missing(&self, name: Option<&str>) -> Option<String> {
        let index = self.index(name).ok()?;
        let is_loaded = self.table().places[index].engine().is_some();
        (!is_loaded).then(|| self.entry(index).name.clone())
    }

    /// A model, if it is loaded.
    fn take(self: &Arc<Self>, index: usize) -> Option<Model> {
        let engine = self.table().take(index)?;
        Some(Model {
            name: self.entry(index).name.clone(),
            engine,
            _hold: Arc::new(Hold {
                models: Arc::clone(self),
                index,
            }),
        })
    }

    /// Loads a model as soon as it is its turn and there is room. Nobody has the turn who waits for
    /// room: others may be loaded meanwhile.
    async fn load(self: &Arc<Self>, index: usize) -> Result<Model, ApiError> {
        let entry = self.entry(index);
        let name = &entry.name;
        let Some(origin) = self.origin(index) else {
            return Err(ApiError::internal(
                "a model without an origin is not loaded",
            ));
        };
        let patience = Patience::new(name);
        let mut needed = None;
        loop {
            // Listened for before looking, so that nothing is missed between the two.
            let freed = self.freed.notified();
            if let Some(model) = self.take(index) {
                return Ok(model);
            }
            if self.is_loading(index) {
                // What others have begun comes to its end, however long that takes.
                freed.await;
                continue;
            }
            let turn = match patience.wait(self.turn()).await {
                Ok(turn) => turn,
                Err(_) if self.is_loading(index) => continue,
                Err(error) => return Err(error),
            };
            if let Some(model) = self.take(index) {
                return Ok(model);
            }
            let memory = match needed {
                Some(memory) => memory,
                None => self.memory_of(name, &origin).await?,
            };
            needed = Some(memory);
            if let Some(evicted) = self.evict(name, memory)? {
                self.table().begin(index)?;
                // A task of its own: whether the client stays or not, what is begun is of use to
                // the next.
                let models = Arc::clone(self);
                let load = async move { models.load_from(index, memory, evicted, turn).await };
                let lost = |_| Err(ApiError::internal("the task of a load has panicked"));
                return tokio::spawn(load).await.unwrap_or_else(lost);
            }
            drop(turn);
            patience.wait(freed).await?;
        }
    }

    /// Loads a model for which there is room once `evicted` is gone.
    async fn load_from(
        self: &Arc<Self>,
        index: usize,
        memory: u64,
        evicted: Vec<Engine>,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<Model, ApiError> {
        let entry = self.entry(index);
        let name = &entry.name;
        let origin = self.origin(index);
        let models = Arc::clone(self);
        let load = on_thread(move || {
            drop(evicted);
            let is_free = models.wait_for_memory();
            is_free.then(|| origin.map(|origin| origin.load()))
        });
        let loaded = match load.await {
            Ok(Some(Some(loaded))) => loaded.map_err(|error| cannot_load(name, &error)),
            Ok(Some(None)) => Err(ApiError::internal("a model has lost its origin")),
            Ok(None) => Err(ApiError::models_busy(name)),
            Err(error) => Err(error),
        };
        let mut table = self.table();
        let place = &mut table.places[index];
        let taken = match loaded {
            Ok((engine, times)) => {
                place.put(engine, times, memory);
                Ok(())
            }
            Err(error) => {
                place.give_up();
                Err(error)
            }
        };
        drop(table);
        let lost = || ApiError::internal("a model is gone as soon as it is loaded");
        let model = taken.and_then(|()| self.take(index).ok_or_else(lost));
        self.freed.notify_waiters();
        model
    }

    /// Waits until the memory of what was unloaded is free, but not for ever; whether it is. Blocks.
    fn wait_for_memory(&self) -> bool {
        let mut leaving = std::mem::take(&mut self.table().leaving);
        let deadline = Instant::now() + ENDING;
        leaving.retain(|engine| !engine.wait_until(deadline));
        let is_free = leaving.is_empty();
        self.table().leaving.append(&mut leaving);
        is_free
    }

    /// What never changes of a model.
    fn entry(&self, index: usize) -> Arc<Entry> {
        Arc::clone(&self.table().places[index].entry)
    }

    /// Where a model is loaded from, with the adapters that it has now.
    fn origin(&self, index: usize) -> Option<Origin> {
        let table = self.table();
        let place = &table.places[index];
        let mut origin = place.entry.origin.clone()?;
        let adapters = &place.adapters;
        origin.options.adapters = adapters.iter().map(|a| a.source.clone()).collect();
        Some(origin)
    }

    /// Whether a load of it has begun.
    fn is_loading(&self, index: usize) -> bool {
        self.table().places[index].state == State::Loading
    }

    /// The turn to load.
    async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Bytes of memory that a model will need; at most as many as there may be, where another device takes
    /// the rest.
    async fn memory_of(&self, name: &str, origin: &Origin) -> Result<u64, ApiError> {
        let plan = origin.clone();
        let memory = on_thread(move || plan.memory()).await?;
        let memory = memory.map_err(|error| cannot_load(name, &error))?;
        Ok(match origin.options.is_shared() {
            true => memory.min(self.table().limit_beside_pinned()),
            false => memory,
        })
    }

    /// Takes out what was not used for longest until there are so many bytes: it is to be dropped.
    /// `None` if models in use stand in the way.
    ///
    /// # Errors
    /// If there can never be so many.
    fn evict(&self, name: &str, needed: u64) -> Result<Option<Vec<Engine>>, ApiError> {
        let mut table = self.table();
        let limit = table.limit_beside_pinned();
        match needed > limit {
            true => Err(ApiError::no_room(name, needed, limit)),
            false => Ok(table.evict(needed)),
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

/// Which of `served` each alias stands for, once no name is there twice.
///
/// # Errors
/// If there is no model, two have one name, or an alias stands for none.
pub(crate) fn aliases(
    served: &[Served],
    config: &Config,
) -> Result<BTreeMap<String, usize>, ServeError> {
    if served.is_empty() {
        return Err(ServeError::NoModel);
    }
    let mut names = BTreeMap::new();
    for (i, served) in served.iter().enumerate() {
        if names.insert(served.name.clone(), i).is_some() {
            let name = served.name.clone();
            return Err(ServeError::SameName { name });
        }
    }
    let adapters = served.iter().flat_map(Served::adapters);
    let mut adapter_names = BTreeSet::new();
    for AdapterSource { name, .. } in adapters {
        if names.contains_key(&name) || !adapter_names.insert(name.clone()) {
            return Err(ServeError::SameName { name });
        }
    }
    let mut aliases = BTreeMap::new();
    for (alias, name) in &config.aliases {
        let Some(&index) = names.get(name) else {
            let (alias, name) = (alias.clone(), name.clone());
            return Err(ServeError::AliasOfNothing { alias, name });
        };
        let is_taken = names.contains_key(alias) || adapter_names.contains(alias);
        if is_taken || aliases.insert(alias.clone(), index).is_some() {
            let name = alias.clone();
            return Err(ServeError::SameName { name });
        }
    }
    Ok(aliases)
}

/// How long a request still waits for its model.
struct Patience<'a> {
    name: &'a str,
    end: Instant,
}

impl<'a> Patience<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            end: Instant::now() + PATIENCE,
        }
    }

    /// What `event` gives, if that is soon enough.
    async fn wait<T>(&self, event: impl Future<Output = T>) -> Result<T, ApiError> {
        let event = tokio::time::timeout_at(self.end.into(), event);
        event.await.map_err(|_| ApiError::models_busy(self.name))
    }
}

/// Does `work` on a thread that may block.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("the thread of a load has panicked"))
}

fn cannot_load(name: &str, error: &zse::Error) -> ApiError {
    let why = with_causes(error);
    ApiError::cannot_load(name, format!("cannot load '{name}': {why}"))
}

/// An error and what caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
