//! Adapters (LoRA) beside the models: loaded and unloaded while others are served, and chosen by each
//! request.
//!
//! A model that is unloaded keeps the names of its adapters, and gets them back with the next load.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use utoipa::ToSchema;
use zse::{AdapterSource, Engine};

use super::{Model, Models, on_thread, with_causes};
use crate::error::ApiError;
use crate::state::now;

/// An adapter of a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdapterStatus {
    /// Rises from 0 in the order of loading; not given twice.
    pub(crate) id: u64,
    pub(crate) source: AdapterSource,
    /// How much of it is added to requests that name the model and say nothing of adapters.
    pub(crate) scale: f32,
    /// Since when it is served, in seconds since 1970.
    pub(crate) created: u64,
}

/// An adapter by its number, and how much of it is wanted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, ToSchema)]
pub(crate) struct LoraScale {
    /// As `GET /lora-adapters` lists it.
    id: u64,
    scale: f32,
}

/// Which adapters a request asks for, beside its `model`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    /// One, as it was trained.
    pub(crate) adapter: Option<String>,
    /// These, each times a factor, and no others.
    pub(crate) lora: Option<Vec<LoraScale>>,
}

/// Most adapters of a request: each costs time at every token.
const MAX_WANTED: usize = 32;

impl Models {
    /// The model that a request names, once it is loaded, with the adapters that it asks for.
    ///
    /// # Errors
    /// Those of [`hold`](Self::hold), and if there is no such adapter.
    pub(crate) async fn hold_with(
        self: &Arc<Self>,
        name: Option<&str>,
        wanted: &Wanted,
    ) -> Result<Model, ApiError> {
        let (index, own) = self.find(name)?;
        let mut model = match self.take(index) {
            Some(model) => model,
            None => self.load(index).await?,
        };
        let choices = self.choices(index, own.as_deref(), wanted)?;
        if !choices.is_empty() {
            let choices: Vec<(&str, f32)> = choices.iter().map(|(n, s)| (&**n, *s)).collect();
            // It may have been unloaded in between.
            let gone = |_| ApiError::no_adapter("model", choices[0].0);
            model.engine = model.engine.with_adapters(&choices).map_err(gone)?;
        }
        if let Some(own) = own {
            model.name = own;
        }
        Ok(model)
    }

    /// The adapters of model `index` that a request uses which names it, or its adapter `own`.
    fn choices(
        &self,
        index: usize,
        own: Option<&str>,
        wanted: &Wanted,
    ) -> Result<Vec<(String, f32)>, ApiError> {
        let table = self.table();
        let all = &table.places[index].adapters;
        let Wanted { adapter, lora } = wanted;
        let field = match (adapter, lora) {
            (Some(_), _) => "adapter",
            (None, Some(_)) => "lora",
            (None, None) => "model",
        };
        let given = [own.is_some(), adapter.is_some(), lora.is_some()];
        if given.into_iter().filter(|&given| given).count() > 1 {
            let message = "give one of adapter, lora, and the name of an adapter as model";
            return Err(ApiError::param(field, message));
        }
        if let Some(name) = own.or(adapter.as_deref()) {
            let found = all.iter().find(|a| a.source.name == name);
            let found = found.ok_or_else(|| ApiError::no_adapter(field, name))?;
            return Ok(vec![(found.source.name.clone(), 1.0)]);
        }
        let Some(lora) = lora else {
            let used = all.iter().filter(|a| a.scale != 0.0);
            return Ok(used.map(|a| (a.source.name.clone(), a.scale)).collect());
        };
        check_scales(lora)?;
        let choose = |wanted: &LoraScale| {
            let found = all.iter().find(|a| a.id == wanted.id);
            let found =
                found.ok_or_else(|| ApiError::no_adapter("lora", &wanted.id.to_string()))?;
            Ok((found.source.name.clone(), wanted.scale))
        };
        lora.iter().map(choose).collect()
    }

    /// All adapters of all models, with the names of their models, in the order of loading.
    pub(crate) fn adapters(&self) -> Vec<(String, AdapterStatus)> {
        let table = self.table();
        let places = table.places.iter();
        let mut all: Vec<(String, AdapterStatus)> = places
            .flat_map(|place| {
                let adapters = place.adapters.iter().cloned();
                adapters.map(move |adapter| (place.entry.name.clone(), adapter))
            })
            .collect();
        all.sort_by_key(|(_, adapter)| adapter.id);
        all
    }

    /// Loads an adapter beside a model, which is loaded too if it is not.
    ///
    /// # Errors
    /// If its name is taken, there is no such model, no room, or the adapter is not for it.
    pub(crate) async fn load_adapter(
        self: &Arc<Self>,
        base: Option<&str>,
        source: AdapterSource,
    ) -> Result<AdapterStatus, ApiError> {
        let taken = || {
            let message = format!("there is a model or adapter '{}' already", source.name);
            ApiError::param("lora_name", message)
        };
        if self.find(Some(&source.name)).is_ok() {
            return Err(taken());
        }
        let (index, _) = self.find(base)?;
        let model = self.hold(base).await?;
        let needed = size(&source.path);
        let evicted = self.evict(&source.name, needed)?;
        drop(evicted.ok_or_else(|| ApiError::models_busy(&source.name))?);
        let (engine, from) = (model.engine.clone(), source.clone());
        let loaded = on_thread(move || engine.load_adapter(&from)).await?;
        loaded.map_err(|error| match error {
            zse::Error::AdapterExists { .. } => taken(),
            error @ (zse::Error::Format(_) | zse::Error::Adapter(_)) => {
                ApiError::param("lora_path", with_causes(&error))
            }
            error => error.into(),
        })?;
        // Nobody can have taken the name meanwhile but another model's adapter.
        if self.find(Some(&source.name)).is_ok() {
            let _ = model.engine.unload_adapter(&source.name);
            return Err(taken());
        }
        let bytes = bytes_of(&model.engine, &source.name);
        let mut table = self.table();
        let id = table.next_adapter;
        table.next_adapter += 1;
        let status = AdapterStatus {
            id,
            source,
            scale: 0.0,
            created: now(),
        };
        let place = &mut table.places[index];
        place.memory = place.memory.saturating_add(bytes);
        place.adapters.push(status.clone());
        Ok(status)
    }

    /// Forgets an adapter. Requests that use it come to their end.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn unload_adapter(&self, name: &str) -> Result<(), ApiError> {
        let mut table = self.table();
        let found = table.places.iter_mut().find_map(|place| {
            let at = place.adapters.iter().position(|a| a.source.name == name)?;
            Some((place, at))
        });
        let (place, at) = found.ok_or_else(|| ApiError::no_adapter("lora_name", name))?;
        place.adapters.remove(at);
        if let Some(engine) = place.engine().cloned() {
            let bytes = bytes_of(&engine, name);
            place.memory = place.memory.saturating_sub(bytes);
            // It is not there where the model was loading meanwhile.
            let _ = engine.unload_adapter(name);
        }
        drop(table);
        self.freed.notify_waiters();
        Ok(())
    }

    /// Sets how much of each adapter is added where a request says nothing of adapters: nothing of
    /// those that are not named.
    ///
    /// # Errors
    /// If there is none of a number, or a factor is not finite.
    pub(crate) fn set_scales(&self, scales: &[LoraScale]) -> Result<(), ApiError> {
        check_scales(scales)?;
        let mut table = self.table();
        let all = || table.places.iter().flat_map(|place| &place.adapters);
        let unknown = |s: &&LoraScale| all().all(|a| a.id != s.id);
        if let Some(unknown) = scales.iter().find(unknown) {
            return Err(ApiError::no_adapter("id", &unknown.id.to_string()));
        }
        for adapter in table.places.iter_mut().flat_map(|p| &mut p.adapters) {
            let named = scales.iter().rev().find(|s| s.id == adapter.id);
            adapter.scale = named.map_or(0.0, |s| s.scale);
        }
        Ok(())
    }
}

/// Where an adapter is that a client calls `path`: within one of `folders`, whatever links there are.
///
/// # Errors
/// If it is not there; what is elsewhere is not told apart from what is nowhere.
pub(crate) fn allowed_path(path: &str, folders: &[PathBuf]) -> Result<PathBuf, ApiError> {
    if folders.is_empty() {
        return Err(ApiError::forbidden(
            "this server loads no adapters on request: it was started without --lora-dir",
        ));
    }
    let within = |folder: &PathBuf| {
        let folder = folder.canonicalize().ok()?;
        let path = folder.join(path).canonicalize().ok()?;
        path.starts_with(&folder).then_some(path)
    };
    folders.iter().find_map(within).ok_or_else(|| {
        let message = "there is no such adapter in the folders that --lora-dir names";
        ApiError::param("lora_path", message)
    })
}

fn check_scales(scales: &[LoraScale]) -> Result<(), ApiError> {
    if scales.len() > MAX_WANTED {
        let message = format!("lora may have {MAX_WANTED} adapters at most");
        return Err(ApiError::param("lora", message));
    }
    match scales.iter().all(|s| s.scale.is_finite()) {
        true => Ok(()),
        false => Err(ApiError::param("lora", "a scale is out of range")),
    }
}

/// Bytes of a file, or of the files in a folder.
fn size(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path()).chain([path.to_owned()]);
    let sizes = files.filter_map(|file| std::fs::metadata(file).ok());
    sizes.filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// Bytes that an adapter takes.
fn bytes_of(engine: &Engine, name: &str) -> u64 {
    let adapters = engine.adapters();
    let found = adapters.iter().find(|a| a.source.name == name);
    found.map_or(0, |adapter| adapter.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_outside_the_folders_are_not_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("adapters");
        std::fs::create_dir_all(folder.join("sql")).unwrap();
        std::fs::write(root.path().join("secret.gguf"), "x").unwrap();
        let folders = [folder.clone()];
        let allowed = |path: &str| allowed_path(path, &folders);
        let sql = folder.join("sql").canonicalize().unwrap();
        assert_eq!(allowed("sql").unwrap(), sql);
        assert_eq!(allowed("./sql/../sql").unwrap(), sql);
        assert_eq!(allowed(sql.to_str().unwrap()).unwrap(), sql);
        let secret = root.path().join("secret.gguf");
        let outside = ["../secret.gguf", secret.to_str().unwrap(), "/etc/passwd"];
        for path in outside.into_iter().chain(["../absent", "absent", ""]) {
            let allowed = allowed(path);
            match path {
                "" => assert_eq!(allowed.unwrap(), folder.canonicalize().unwrap()),
                _ => assert!(allowed.is_err(), "{path}"),
            }
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&secret, folder.join("link.gguf")).unwrap();
            assert!(allowed("link.gguf").is_err());
        }
        let none = allowed_path("sql", &[]).unwrap_err();
        assert_eq!(none.status, hyper::StatusCode::FORBIDDEN);
    }
}
