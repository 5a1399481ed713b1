//! What every handler sees: the models, the settings, the counts.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zse::{Engine, Generate, SampleParams};

use crate::config::{Config, ServeError};
use crate::error::ApiError;
use crate::metrics::Metrics;

/// A model and the name that clients call it by.
#[derive(Clone)]
pub struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    /// When it was made ready, in seconds since 1970.
    pub(crate) created: u64,
}

impl Served {
    /// Serves `engine` as `name`.
    pub fn new(name: impl Into<String>, engine: Engine) -> Self {
        Self {
            name: name.into(),
            engine,
            created: now(),
        }
    }

    /// Computes first tokens, so that the first client does not wait for what a model does once.
    ///
    /// # Errors
    /// If the model fails.
    pub fn warm_up(&self) -> Result<(), zse::Error> {
        if self.engine.is_embedder() {
            return self.engine.embed(&["a"]).map(|_| ());
        }
        let settings = Generate {
            params: SampleParams::greedy(),
            max_tokens: Some(2),
            ..Generate::default()
        };
        let generation = self.engine.generate("a", &settings)?;
        generation.complete().map(|_| ())
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// Shared by all handlers.
pub(crate) struct App {
    pub(crate) models: Vec<Served>,
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
}

/// A place among the requests that run or wait, given back when dropped.
pub(crate) type Slot = OwnedSemaphorePermit;

impl App {
    pub(crate) fn new(models: Vec<Served>, config: Config) -> Result<Self, ServeError> {
        if models.is_empty() {
            return Err(ServeError::NoModel);
        }
        for (i, model) in models.iter().enumerate() {
            if models[..i].iter().any(|other| other.name == model.name) {
                let name = model.name.clone();
                return Err(ServeError::SameName { name });
            }
        }
        let slots = config.max_requests.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            models,
            config,
            metrics: Arc::default(),
            slots: Arc::new(Semaphore::new(slots)),
        })
    }

    /// The model that a request names. A name may be left out where there is one model.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<&Served, ApiError> {
        match (name, &self.models[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(ApiError::param(
                "model",
                "several models are served: name one (GET /v1/models lists them)",
            )),
            (Some(name), models) => {
                let found = models.iter().find(|model| model.name == name);
                found.ok_or_else(|| ApiError::no_model(name))
            }
        }
    }

    /// Lets a request of `n` continuations in, or refuses it at once.
    pub(crate) fn admit(&self, n: usize) -> Result<Slot, ApiError> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let slot = Arc::clone(&self.slots).try_acquire_many_owned(n);
        slot.map_err(|_| ApiError::overloaded())
    }

    /// Tells whoever runs the server of a failure.
    pub(crate) fn report(&self, what: &str) {
        (self.config.report)(what);
    }
}
