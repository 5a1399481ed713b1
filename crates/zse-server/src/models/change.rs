//! Looking at the models, and changing what is loaded, for those who run the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::served::warm_up;
use super::table::{Keep, State, Status};
use super::{LoadTimes, Model, Models, Patience, on_thread, with_causes};
use crate::error::ApiError;
use crate::state::Slot;

/// Limits of what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes that all loaded models may take.
    pub(crate) memory: u64,
    /// How long a model stays loaded that nobody asks for; `None`: for ever.
    pub(crate) idle: Option<Duration>,
}

/// How long first tokens take before and after a model is warm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColdAndWarm {
    /// Of a load from nothing.
    pub(crate) cold: LoadTimes,
    /// The same first tokens, computed once more.
    pub(crate) warm: Duration,
}

impl Models {
    /// What is known of all models.
    pub(crate) fn all(&self) -> Vec<Status> {
        let served: Vec<usize> = self.table().served().collect();
        served
            .into_iter()
            .map(|index| self.status_at(index))
            .collect()
    }

    /// What is known of a model.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn status(&self, name: Option<&str>) -> Result<Status, ApiError> {
        Ok(self.status_at(self.index(name)?))
    }

    fn status_at(&self, index: usize) -> Status {
        let aliases = self.aliases.iter();
        Status {
            aliases: aliases
                .filter(|(_, i)| **i == index)
                .map(|(alias, _)| alias.clone())
                .collect(),
            ..self.table().status(index)
        }
    }

    /// Whether a model stays loaded whatever others need.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn pin(&self, name: &str, is_pinned: bool) -> Result<(), ApiError> {
        let index = self.index(Some(name))?;
        self.check_origin(index)?;
        self.table().places[index].is_pinned = is_pinned;
        // What is not pinned any more may give way.
        self.freed.notify_waiters();
        Ok(())
    }

    /// How long a model stays loaded from now on without being asked for.
    pub(crate) fn keep(&self, model: &Model, keep: Keep) {
        if let Ok(index) = self.index(Some(&model.name)) {
            self.table().places[index].keep = Some(keep);
        }
    }

    /// A model that was to be unloaded stays, as any other does.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn stay(&self, name: Option<&str>) -> Result<(), ApiError> {
        let index = self.index(name)?;
        let place = &mut self.table().places[index];
        place.leaves = false;
        place.keep = place.keep.filter(|&keep| keep != Keep::For(Duration::ZERO));
        Ok(())
    }

    /// Unloads a model that is not pinned: now if it is idle, else once its last request has ended.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn let_go(&self, name: Option<&str>) -> Result<(), ApiError> {
        let index = self.index(name)?;
        let engine = self.table().let_go(index);
        drop(engine);
        self.freed.notify_waiters();
        Ok(())
    }

    /// Unloads a model, pinned or not: now if it is idle, else once its last request has ended.
    ///
    /// # Errors
    /// If there is no such model, or it could not be loaded again.
    pub(crate) fn unload(&self, name: Option<&str>) -> Result<Status, ApiError> {
        let index = self.index(name)?;
        self.check_origin(index)?;
        let mut table = self.table();
        table.places[index].is_pinned = false;
        let engine = table.let_go(index);
        drop(table);
        drop(engine);
        self.freed.notify_waiters();
        Ok(self.status_at(index))
    }

    /// Unloads all models that are idle and not pinned, and gives their names.
    pub(crate) fn clear(&self) -> Vec<String> {
        let mut table = self.table();
        let mut names = Vec::new();
        let mut engines = Vec::new();
        for index in 0..table.places.len() {
            let place = &table.places[index];
            let entry = Arc::clone(&place.entry);
            if entry.origin.is_some()
                && !place.is_pinned
                && let Some(engine) = table.unload(index)
            {
                names.push(entry.name.clone());
                engines.push(engine);
            }
        }
        drop(table);
        drop(engines);
        self.freed.notify_waiters();
        names
    }

    /// Forgets the prefix caches of all loaded models, or of one, and gives the models' names.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn clear_prefixes(&self, name: Option<&str>) -> Result<Vec<String>, ApiError> {
        let models = match name {
            Some(_) => vec![self.status(name)?],
            None => self.all(),
        };
        let mut names = Vec::new();
        for model in models {
            if let Some(engine) = &model.engine {
                engine.clear_cache();
                names.push(model.name);
            }
        }
        Ok(names)
    }

    /// The limits of what is loaded.
    pub(crate) fn limits(&self) -> Limits {
        let table = self.table();
        Limits {
            memory: table.limit,
            idle: table.idle,
        }
    }

    /// Sets the limits. What is loaded beyond a smaller one gives way when the next model is loaded.
    pub(crate) fn set_limits(&self, limits: Limits) {
        let mut table = self.table();
        table.limit = limits.memory;
        table.idle = limits.idle;
        drop(table);
        self.freed.notify_waiters();
    }

    /// Bytes that all loaded models take.
    pub(crate) fn memory(&self) -> u64 {
        self.table().places.iter().map(|place| place.memory).sum()
    }

    /// Computes first tokens once more, and says how long they took.
    ///
    /// # Errors
    /// If the model fails.
    pub(crate) async fn warm_up(&self, model: Model, slot: Slot) -> Result<Duration, ApiError> {
        let start = Instant::now();
        let warm = on_thread(move || {
            // Both are held to the end, whether the client stays or not.
            let _held = (&model, &slot);
            warm_up(&model.engine)
        });
        warm.await?.map_err(ApiError::from)?;
        Ok(start.elapsed())
    }

    /// Loads a model once more beside what is there, and measures its first tokens cold and warm.
    ///
    /// # Errors
    /// If there is no room, or the model fails.
    pub(crate) async fn cold_and_warm(
        self: &Arc<Self>,
        name: &str,
        slot: Slot,
    ) -> Result<ColdAndWarm, ApiError> {
        let index = self.index(Some(name))?;
        let origin = self.check_origin(index)?;
        let patience = Patience::new(name);
        let memory = self.memory_of(name, &origin).await?;
        let (turn, evicted) = loop {
            let freed = self.freed.notified();
            let turn = patience.wait(self.turn()).await?;
            if let Some(evicted) = self.evict(name, memory)? {
                break (turn, evicted);
            }
            drop(turn);
            patience.wait(freed).await?;
        };
        let models = Arc::clone(self);
        let measured = on_thread(move || {
            // Both are held to the end, whether the client stays or not.
            let _held = (turn, slot);
            drop(evicted);
            if !models.wait_for_memory() {
                return Ok(None);
            }
            let (engine, cold) = origin.load()?;
            // The next to load waits until it is gone.
            models.table().leaving.push(engine.ended());
            let start = Instant::now();
            warm_up(&engine)?;
            Ok(Some(ColdAndWarm {
                cold,
                warm: start.elapsed(),
            }))
        });
        let failed = |error: zse::Error| ApiError::internal(with_causes(&error));
        let measured = measured.await?.map_err(failed)?;
        measured.ok_or_else(|| ApiError::models_busy(name))
    }

    /// Where a model is loaded from.
    fn check_origin(&self, index: usize) -> Result<super::Origin, ApiError> {
        let origin = self.origin(index);
        origin.ok_or_else(|| {
            let message = "this model was given to the server ready, and stays as it is";
            ApiError::param("model", message)
        })
    }
}

impl Status {
    /// Whether it answers at once.
    pub(crate) fn is_loaded(&self) -> bool {
        self.state == State::Loaded
    }
}
