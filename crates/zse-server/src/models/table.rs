//! Which models are loaded, how much memory they take, and which gives way first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zse::{Ended, Engine, Metrics};

use super::{AdapterStatus, Entry, LoadTimes, Served};
use crate::error::ApiError;
use crate::state::now;

/// What changes of all models.
pub(super) struct Table {
    /// One for each model, in their order.
    pub(super) places: Vec<Place>,
    /// Bytes that all loaded models may take.
    pub(super) limit: u64,
    /// How long a model stays loaded that nobody asks for; `None`: for ever.
    pub(super) idle: Option<Duration>,
    /// Engines that were taken out, until their memory is free.
    pub(super) leaving: Vec<Ended>,
    /// Number of the next adapter.
    pub(super) next_adapter: u64,
}

/// Whether a model can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not in memory.
    Unloaded,
    /// It will be soon.
    Loading,
    /// It is.
    Loaded,
}

impl State {
    /// The name that clients see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
        }
    }
}

/// A model, and what changes of it.
pub(super) struct Place {
    pub(super) entry: Arc<Entry>,
    /// Whether it is not served any more; its place stays, because those of others are numbered.
    is_removed: bool,
    pub(super) state: State,
    engine: Option<Engine>,
    /// Bytes that it takes while it is loaded.
    pub(super) memory: u64,
    /// Its adapters, whether it is loaded or not.
    pub(super) adapters: Vec<AdapterStatus>,
    /// Requests that hold it.
    users: usize,
    used: Instant,
    /// How long it stays loaded, where that is not as for all others.
    pub(super) keep: Option<Keep>,
    /// Whether it is to be unloaded as soon as nobody holds it.
    pub(super) leaves: bool,
    pub(super) is_pinned: bool,
    /// How often it was loaded.
    loads: u64,
    /// How often it was asked for.
    uses: u64,
    times: LoadTimes,
}

/// How long a model stays loaded that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Until others need its memory.
    Forever,
    /// So long.
    For(Duration),
}

/// A model as the outside is told of it.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) aliases: Vec<String>,
    pub(crate) state: State,
    pub(crate) engine: Option<Engine>,
    pub(crate) memory: u64,
    pub(crate) adapters: Vec<AdapterStatus>,
    pub(crate) users: usize,
    pub(crate) idle: Duration,
    /// When it will be unloaded if nobody asks for it; `None`: never.
    pub(crate) expires_in: Option<Duration>,
    pub(crate) is_pinned: bool,
    pub(crate) loads: u64,
    pub(crate) uses: u64,
    pub(crate) times: LoadTimes,
}

impl Status {
    /// What its engine counted, if it is loaded.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        self.engine.as_ref().map(Engine::metrics)
    }
}

impl Place {
    /// A model that is served; its adapters are numbered from `next_adapter` on.
    pub(super) fn new(served: Served, next_adapter: &mut u64) -> Self {
        let adapters = served.adapters().into_iter().zip(*next_adapter..);
        let adapters: Vec<AdapterStatus> = adapters
            .map(|(source, id)| AdapterStatus {
                id,
                source,
                scale: 0.0,
                created: now(),
            })
            .collect();
        *next_adapter += adapters.len() as u64;
        let engine = served.engine;
        let memory = |engine: &Engine| match &served.origin {
            Some(origin) => origin.options.resident(&engine.memory()),
            None => engine.memory().total(),
        };
        Self {
            state: match engine {
                Some(_) => State::Loaded,
                None => State::Unloaded,
            },
            memory: engine.as_ref().map_or(0, memory),
            loads: engine.is_some().into(),
            adapters,
            engine,
            is_pinned: served.is_pinned,
            times: served.times,
            ..Self::unloaded(Entry::new(served.name, served.origin, None))
        }
    }

    /// A model that nobody has asked for yet.
    pub(super) fn unloaded(entry: Arc<Entry>) -> Self {
        Self {
            entry,
            is_removed: false,
            state: State::Unloaded,
            engine: None,
            memory: 0,
            adapters: Vec::new(),
            users: 0,
            used: Instant::now(),
            keep: None,
            leaves: false,
            is_pinned: false,
            loads: 0,
            uses: 0,
            times: LoadTimes::default(),
        }
    }

    /// It was loaded.
    pub(super) fn put(&mut self, engine: Engine, times: LoadTimes, memory: u64) {
        self.state = State::Loaded;
        self.engine = Some(engine);
        self.memory = memory;
        self.used = Instant::now();
        self.keep = None;
        self.times = times;
        self.loads += 1;
    }

    /// It could not be loaded.
    pub(super) fn give_up(&mut self) {
        self.state = State::Unloaded;
        self.leaves = false;
    }

    /// Takes it out, unless it is in use or is not there.
    fn unload(&mut self) -> Option<Engine> {
        if self.users > 0 {
            return None;
        }
        let engine = self.engine.take()?;
        self.state = State::Unloaded;
        self.memory = 0;
        self.leaves = false;
        Some(engine)
    }

    /// What answers, if it is loaded.
    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub(super) fn is_used(&self) -> bool {
        self.users > 0
    }

    /// How much longer it stays loaded without being asked for.
    fn left(&self, idle: Option<Duration>, now: Instant) -> Option<Duration> {
        let keep = match self.keep {
            _ if self.is_pinned => None,
            Some(Keep::Forever) => None,
            Some(Keep::For(time)) => Some(time),
            None => idle,
        };
        keep.map(|keep| keep.saturating_sub(now.saturating_duration_since(self.used)))
    }
}

impl Table {
    /// The numbers of the models that are served.
    pub(super) fn served(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|&i| !self.places[i].is_removed)
    }

    /// The model of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.served().find(|&i| self.places[i].entry.name == name)
    }

    /// The model that has an adapter of this name.
    pub(super) fn with_adapter(&self, name: &str) -> Option<usize> {
        let has = |place: &Place| place.adapters.iter().any(|a| a.source.name == name);
        self.served().find(|&i| has(&self.places[i]))
    }

    /// A load begins.
    ///
    /// # Errors
    /// If the model is not served any more.
    pub(super) fn begin(&mut self, index: usize) -> Result<(), ApiError> {
        let place = &mut self.places[index];
        if place.is_removed {
            return Err(ApiError::no_model(&place.entry.name));
        }
        place.state = State::Loading;
        Ok(())
    }

    /// Serves a model no more. Gives its engine to drop, if it is idle; else it goes with its last
    /// request.
    pub(super) fn remove(&mut self, index: usize) -> Option<Engine> {
        let place = &mut self.places[index];
        place.is_removed = true;
        place.is_pinned = false;
        // Their names are free again.
        place.adapters.clear();
        self.let_go(index)
    }

    /// A model that is loaded, counted as used until [`release`](Self::release).
    pub(super) fn take(&mut self, index: usize) -> Option<Engine> {
        let place = &mut self.places[index];
        let engine = place.engine.clone()?;
        place.users += 1;
        place.uses += 1;
        Some(engine)
    }

    /// Ends a use. Gives the model to drop, where it is to be unloaded at once.
    pub(super) fn release(&mut self, index: usize) -> Option<Engine> {
        let place = &mut self.places[index];
        place.users = place.users.saturating_sub(1);
        place.used = Instant::now();
        let leaves = place.leaves || place.keep == Some(Keep::For(Duration::ZERO));
        match leaves && !place.is_pinned {
            true => self.unload(index),
            false => None,
        }
    }

    /// Takes a model out, to be dropped, unless it is in use or is not there.
    pub(super) fn unload(&mut self, index: usize) -> Option<Engine> {
        let engine = self.places[index].unload()?;
        self.leaving.retain(|engine| !engine.has_ended());
        self.leaving.push(engine.ended());
        Some(engine)
    }

    /// Takes a model out, to be dropped, that is idle and not pinned; one that is in use or still to
    /// be loaded goes once it is neither.
    pub(super) fn let_go(&mut self, index: usize) -> Option<Engine> {
        let place = &mut self.places[index];
        place.leaves = place.state != State::Unloaded;
        match place.is_pinned {
            true => None,
            false => self.unload(index),
        }
    }

    /// Unloads what was not used for longest until there are so many bytes. `None` if models in use
    /// stand in the way: then nothing is unloaded.
    pub(super) fn evict(&mut self, needed: u64) -> Option<Vec<Engine>> {
        let taken: u64 = self.places.iter().map(|place| place.memory).sum();
        let mut over = taken.saturating_add(needed).saturating_sub(self.limit);
        let mut idle: Vec<usize> = (0..self.places.len())
            .filter(|&i| {
                let place = &self.places[i];
                place.engine.is_some() && !place.is_used() && !place.is_pinned
            })
            .collect();
        idle.sort_by_key(|&i| self.places[i].used);
        let mut chosen = Vec::new();
        for i in idle {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(self.places[i].memory);
            chosen.push(i);
        }
        if over > 0 {
            return None;
        }
        Some(chosen.into_iter().filter_map(|i| self.unload(i)).collect())
    }

    /// Bytes that models which may be unloaded can take.
    pub(super) fn limit_beside_pinned(&self) -> u64 {
        let pinned = self.places.iter().filter(|place| place.is_pinned);
        let pinned: u64 = pinned.map(|place| place.memory).sum();
        self.limit.saturating_sub(pinned)
    }

    /// Unloads what nobody has asked for for as long as it is kept.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Engine> {
        let is_over = |i: &usize| self.places[*i].left(self.idle, now) == Some(Duration::ZERO);
        let over: Vec<usize> = (0..self.places.len()).filter(is_over).collect();
        over.into_iter().filter_map(|i| self.unload(i)).collect()
    }

    /// What the outside is told of a model, but for its other names.
    pub(super) fn status(&self, index: usize) -> Status {
        let place = &self.places[index];
        let now = Instant::now();
        let is_loaded = place.engine.is_some();
        Status {
            name: place.entry.name.clone(),
            created: place.entry.created,
            aliases: Vec::new(),
            state: place.state,
            engine: place.engine.clone(),
            memory: place.memory,
            adapters: place.adapters.clone(),
            users: place.users,
            idle: match place.is_used() {
                true => Duration::ZERO,
                false => now.saturating_duration_since(place.used),
            },
            expires_in: is_loaded.then(|| place.left(self.idle, now)).flatten(),
            is_pinned: place.is_pinned,
            loads: place.loads,
            uses: place.uses,
            times: place.times,
        }
    }
}
