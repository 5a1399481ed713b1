//! What a download does: fetches a model, serves it, loads it; and how one is removed again.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::watch;
use zse::ModelSource;
use zse_hub::{Cache, Catalogue, Hub, HubError, ModelRef, Pulled};

use super::{Download, Phase, Wanted};
use crate::error::ApiError;
use crate::job;
use crate::models::Origin;
use crate::registry::Registry;
use crate::state::App;

/// Most characters of a name that a model is served by.
const MAX_NAME: usize = 256;

/// Why a download has ended without its model.
enum End {
    Cancelled,
    Failed(ApiError),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl App {
    /// How models are found beside those that the server was given.
    ///
    /// # Errors
    /// If it was started without.
    pub(crate) fn registry(&self) -> Result<&Registry, ApiError> {
        self.config
            .registry
            .as_ref()
            .ok_or_else(ApiError::no_registry)
    }

    /// Begins a download; whether it is a new one, or was on its way already.
    ///
    /// # Errors
    /// If the name cannot be used, or too many are on their way.
    pub(crate) fn download(self: &Arc<Self>, wanted: Wanted) -> Result<(Download, bool), ApiError> {
        self.registry()?;
        let name = &wanted.name;
        if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
            let message = format!("a name is a text of 1 to {MAX_NAME} characters");
            return Err(ApiError::param("name", message));
        }
        self.models.check_name(name, &wanted.model)?;
        let (name, model) = (name.clone(), wanted.model.clone());
        let (download, stopped) = self.downloads.add(wanted)?;
        let is_new = stopped.is_some();
        if let Some(stopped) = stopped {
            let (app, id) = (Arc::clone(self), download.id);
            tokio::spawn(async move {
                let state = match app.obtain(id, &name, model, stopped).await {
                    Ok(()) => Phase::Done,
                    Err(End::Cancelled) => Phase::Cancelled,
                    Err(End::Failed(error)) => {
                        if let Some(why) = &error.internal {
                            app.report(&format!("cannot download {name}: {why}"));
                        }
                        let message = error.message().to_owned();
                        (app.downloads).update(id, |item| item.download.error = Some(message));
                        Phase::Failed
                    }
                };
                app.downloads.enter(id, state);
            });
        }
        Ok((download, is_new))
    }

    /// Fetches a model, serves it, and loads it where that is asked for.
    async fn obtain(
        self: &Arc<Self>,
        id: u64,
        name: &str,
        model: ModelRef,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), End> {
        let turn = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return Err(End::Cancelled),
            turn = Arc::clone(&self.downloads.turns).acquire_owned() => turn,
        };
        self.downloads.enter(id, Phase::Downloading);
        let (app, wanted) = (Arc::clone(self), model.clone());
        let pulled = job::blocking(move |_| {
            let _turn = turn;
            let pulled = app.pull(id, &wanted, &stopped);
            pulled.map(Some).or_else(|error| match error {
                HubError::Interrupted => Ok(None),
                error => Err(error.into()),
            })
        });
        let Pulled { model: here, .. } = pulled.await?.ok_or(End::Cancelled)?;
        self.downloads
            .update(id, |item| item.download.quant = here.quant.clone());
        let source = ModelSource::Path(here.path);
        let options = Arc::clone(&self.registry()?.options);
        let origin = job::blocking(move |_| {
            let options = options(&source)?;
            Ok(Origin { source, options })
        });
        self.models.add(name, model, origin.await?)?;
        let then = self.downloads.then(id);
        if then.load {
            self.downloads.enter(id, Phase::Loading);
            let loaded = self.model(Some(name)).await?;
            if then.pin {
                self.models.pin(name, true)?;
            }
            if let Some(keep) = then.keep {
                self.models.keep(&loaded, keep);
            }
        }
        Ok(())
    }

    /// Fetches what is not here yet. Blocks.
    fn pull(
        &self,
        id: u64,
        model: &ModelRef,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Pulled, HubError> {
        let config = self.config.registry.as_ref().map(|r| r.hub.clone());
        let config = config.ok_or(HubError::Interrupted)?;
        Hub::new(config)?.pull(model, Hub::CONNECTIONS, |progress| {
            self.downloads.advance(id, progress);
            match *stopped.borrow() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    /// Removes a model that was fetched: one that is served, or is in the cache. Its files go with the last
    /// name that they are served by.
    ///
    /// # Errors
    /// If there is no such model, it was given to the server, or it is on its way.
    pub(crate) async fn delete(self: &Arc<Self>, name: &str) -> Result<(), ApiError> {
        let cache = Cache::new(self.registry()?.hub.cache.clone());
        if self.downloads.is_coming(name) {
            return Err(ApiError::model_is_coming(name));
        }
        let no_model = || ApiError::no_model(name);
        let model = match self.models.fetched(name)? {
            Some(model) => model,
            None => (Catalogue::builtin().model(name, None)).map_err(|_| no_model())?,
        };
        let (app, name) = (Arc::clone(self), name.to_owned());
        job::blocking(move |_| {
            let found = cache.find(&model);
            let found = found.ok_or_else(|| ApiError::no_model(&name))?;
            if app.models.remove(&name, &found.path)? {
                cache.remove(&found)?;
            }
            Ok(())
        })
        .await
    }
}
