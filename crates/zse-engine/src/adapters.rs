//! Adapters (LoRA) that are loaded beside a model, for as long as somebody has them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use zse_model::executor::{AdapterId, AdapterUse, Executor};
use zse_model::{Adapter, AdapterError};

use crate::request::RequestError;

/// An adapter that is loaded. It stays so for as long as this or a clone of it is there, and requests
/// that use it have one: it can be dropped while they run.
#[derive(Clone)]
pub struct LoadedAdapter(Arc<Inner>);

/// An adapter of a request, and how much of it is added.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterChoice {
    /// Which.
    pub adapter: LoadedAdapter,
    /// Factor on what it adds; 1 as it was trained, 0 for nothing.
    pub scale: f32,
}

/// Why an adapter was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum AdapterLoadError {
    /// The executor refused it.
    #[error(transparent)]
    Refused(#[from] AdapterError),
    /// The engine is gone.
    #[error("the engine has stopped")]
    Stopped,
}

struct Inner {
    id: AdapterId,
    bytes: u64,
    registry: Arc<Registry>,
    /// Makes an engine that has nothing to do look.
    wake: Option<Wake>,
}

pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// What an engine shares with the adapters that it has loaded.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Those that nobody has any more, until they are unloaded.
    dropped: Mutex<Vec<AdapterId>>,
}

/// The adapters of an engine.
#[derive(Default)]
pub(crate) struct Adapters {
    registry: Arc<Registry>,
    /// Number of the next one.
    next: u64,
}

impl Adapters {
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Loads an adapter; `wake` is called when it is to be unloaded.
    pub(crate) fn load(
        &mut self,
        executor: &mut dyn Executor,
        adapter: &Adapter,
        wake: Option<Wake>,
    ) -> Result<LoadedAdapter, AdapterError> {
        self.unload_dropped(executor);
        let before = executor.memory().weights;
        let id = AdapterId(self.next);
        executor.load_adapter(id, adapter)?;
        self.next += 1;
        Ok(LoadedAdapter(Arc::new(Inner {
            id,
            bytes: executor.memory().weights.saturating_sub(before),
            registry: Arc::clone(&self.registry),
            wake,
        })))
    }

    /// Unloads the adapters that nobody has any more.
    pub(crate) fn unload_dropped(&mut self, executor: &mut dyn Executor) {
        let dropped = self.registry.dropped.lock();
        let mut dropped = dropped.unwrap_or_else(PoisonError::into_inner);
        for id in dropped.drain(..) {
            executor.unload_adapter(id);
        }
    }
}

impl Registry {
    /// Whether all of `choices` were loaded by the engine of this registry.
    ///
    /// # Errors
    /// Says what is wrong with the first that cannot be used.
    pub(crate) fn check(self: &Arc<Self>, choices: &[AdapterChoice]) -> Result<(), RequestError> {
        for AdapterChoice { adapter, scale } in choices {
            if !Arc::ptr_eq(&adapter.0.registry, self) {
                return Err(RequestError::AdapterOfAnother);
            }
            if !scale.is_finite() {
                return Err(RequestError::AdapterScale { scale: *scale });
            }
        }
        // One that is named several times has the sum of its scales.
        match uses(choices).iter().find(|used| !used.scale.is_finite()) {
            Some(used) => Err(RequestError::AdapterScale { scale: used.scale }),
            None => Ok(()),
        }
    }
}

impl LoadedAdapter {
    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// This adapter as it was trained.
    pub fn whole(&self) -> AdapterChoice {
        AdapterChoice {
            adapter: self.clone(),
            scale: 1.0,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let dropped = self.registry.dropped.lock();
        let mut dropped = dropped.unwrap_or_else(PoisonError::into_inner);
        dropped.push(self.id);
        drop(dropped);
        if let Some(wake) = &self.wake {
            wake();
        }
    }
}

impl PartialEq for LoadedAdapter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for LoadedAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoadedAdapter").field(&self.0.id.0).finish()
    }
}

/// `choices` as batches have them: each adapter once, in their order, without those that add nothing.
pub(crate) fn uses(choices: &[AdapterChoice]) -> Vec<AdapterUse> {
    let mut uses: Vec<AdapterUse> = Vec::with_capacity(choices.len());
    for choice in choices {
        let (adapter, scale) = (choice.adapter.0.id, choice.scale);
        match uses.binary_search_by_key(&adapter, |used| used.adapter) {
            Ok(at) => uses[at].scale += scale,
            Err(at) => uses.insert(at, AdapterUse { adapter, scale }),
        }
    }
    uses.retain(|used| used.scale != 0.0);
    uses
}
