//! Models that come and go while the server runs: those that were fetched for it.

use std::path::Path;

use zse::ModelSource;
use zse_hub::ModelRef;

use super::table::Place;
use super::{Entry, Models, Origin};
use crate::error::ApiError;

impl Models {
    /// Whether what is fetched as `model` may be served by this name.
    ///
    /// # Errors
    /// If the name is that of another model.
    pub(crate) fn check_name(&self, name: &str, model: &ModelRef) -> Result<(), ApiError> {
        let table = self.table();
        let is_other = match table.find(name) {
            Some(index) => table.places[index].entry.fetched.as_ref() != Some(model),
            None => self.aliases.contains_key(name) || table.with_adapter(name).is_some(),
        };
        match is_other {
            true => Err(ApiError::name_is_taken(name)),
            false => Ok(()),
        }
    }

    /// Serves what was fetched as `model`, instead of what was fetched so before.
    ///
    /// # Errors
    /// If the name is that of another model.
    pub(crate) fn add(&self, name: &str, model: ModelRef, origin: Origin) -> Result<(), ApiError> {
        self.check_name(name, &model)?;
        let path = path_of(&origin.source).map(Path::to_owned);
        let mut table = self.table();
        let old = table.find(name);
        let is_there = |index: usize| table.places[index].path() == path.as_deref();
        if old.is_some_and(is_there) {
            return Ok(());
        }
        let entry = Entry::new(name.to_owned(), Some(origin), Some(model));
        table.places.push(Place::unloaded(entry));
        let engine = old.and_then(|index| table.remove(index));
        drop(table);
        drop(engine);
        self.freed.notify_waiters();
        Ok(())
    }

    /// What was fetched for the model of this name; `None` where there is no such model.
    ///
    /// # Errors
    /// If the model was given to the server.
    pub(crate) fn fetched(&self, name: &str) -> Result<Option<ModelRef>, ApiError> {
        let Ok(index) = self.index(Some(name)) else {
            return Ok(None);
        };
        let entry = self.entry(index);
        let given = || ApiError::model_was_given(name);
        entry.fetched.clone().ok_or_else(given).map(Some)
    }

    /// Serves the model of this name no more, if it is served; whether nothing else is served from
    /// `path`.
    ///
    /// # Errors
    /// If it is not served, and another model is from there.
    pub(crate) fn remove(&self, name: &str, path: &Path) -> Result<bool, ApiError> {
        let mut table = self.table();
        let own = table.find(name);
        let is_other = |index: &usize| {
            let place = &table.places[*index];
            Some(*index) != own && place.path() == Some(path)
        };
        let other = table.served().find(is_other);
        let Some(own) = own else {
            return match other {
                None => Ok(true),
                Some(other) => Err(ApiError::files_are_used(&table.places[other].entry.name)),
            };
        };
        let engine = table.remove(own);
        drop(table);
        drop(engine);
        self.freed.notify_waiters();
        Ok(other.is_none())
    }
}

impl Place {
    /// The file or folder that it is loaded from.
    fn path(&self) -> Option<&Path> {
        path_of(&self.entry.origin.as_ref()?.source)
    }
}

fn path_of(source: &ModelSource) -> Option<&Path> {
    match source {
        ModelSource::Path(path) => Some(path),
        _ => None,
    }
}
