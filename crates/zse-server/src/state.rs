//! What every handler sees: the models, the settings, the counts.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::{Config, ServeError};
use crate::downloads::Downloads;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::models::{Model, Models, Served, Wanted};
use crate::routes::responses::Store;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// Shared by all handlers.
pub(crate) struct App {
    pub(crate) models: Arc<Models>,
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) downloads: Downloads,
    /// Answers that later requests may go on from.
    pub(crate) responses: Store,
    /// Since when it serves.
    pub(crate) started: Instant,
    /// Whether a server that stops waits for answers no longer.
    pub(crate) cut_off: watch::Sender<bool>,
    slots: Arc<Semaphore>,
}

/// A place among the requests that run or wait, given back when dropped.
pub(crate) type Slot = OwnedSemaphorePermit;

impl App {
    pub(crate) fn new(models: Vec<Served>, config: Config) -> Result<Self, ServeError> {
        let models = Arc::new(Models::new(models, &config)?);
        let slots = places(&config);
        Ok(Self {
            models,
            config,
            metrics: Arc::default(),
            downloads: Downloads::default(),
            responses: Store::default(),
            started: Instant::now(),
            cut_off: watch::Sender::new(false),
            slots: Arc::new(Semaphore::new(slots)),
        })
    }

    /// The model that a request names, once it is loaded; see [`Models::hold`].
    pub(crate) async fn model(&self, name: Option<&str>) -> Result<Model, ApiError> {
        self.models.hold(name).await
    }

    /// The same with the adapters that the request asks for; see [`Models::hold_with`].
    pub(crate) async fn model_with(
        &self,
        name: Option<&str>,
        wanted: &Wanted,
    ) -> Result<Model, ApiError> {
        self.models.hold_with(name, wanted).await
    }

    /// How many continuations run or wait.
    pub(crate) fn admitted(&self) -> usize {
        self.config.max_requests - self.slots.available_permits().min(self.config.max_requests)
    }

    /// Whether a request of `n` continuations, which the parameter `param` asks for, can ever be let in.
    ///
    /// # Errors
    /// If that is more than may run and wait: asking again later would not help.
    pub(crate) fn can_admit(&self, param: &str, n: usize) -> Result<(), ApiError> {
        let most = places(&self.config);
        if n <= most {
            return Ok(());
        }
        let message = format!(
            "{n} continuations are asked for, and this server lets in {most} at once \
             (see --max-requests): ask for fewer, or in several requests"
        );
        Err(ApiError::param(param, message))
    }

    /// Lets a request of `n` continuations in, or refuses it at once.
    pub(crate) fn admit(&self, n: usize) -> Result<Slot, ApiError> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let slot = Arc::clone(&self.slots).try_acquire_many_owned(n);
        slot.map_err(|_| ApiError::overloaded())
    }

    /// Gives a request that has one place those of all its `n` continuations, or refuses it at once.
    ///
    /// Its model says how many there may be, and is waited for with the first.
    pub(crate) fn admit_all(&self, slot: &mut Slot, n: usize) -> Result<(), ApiError> {
        slot.merge(self.admit(n.saturating_sub(1))?);
        Ok(())
    }

    /// Tells whoever runs the server of a failure.
    pub(crate) fn report(&self, what: &str) {
        (self.config.report)(what);
    }
}

/// How many continuations may run and wait.
fn places(config: &Config) -> usize {
    config.max_requests.clamp(1, Semaphore::MAX_PERMITS)
}
