//! Models beside those that a server was given: whether they would run, and how they are loaded once
//! they are fetched.

use std::path::Path;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zse::{Device, LoadOptions, ModelSource};
use zse_hub::{Hub, HubError, ModelRef, Outlook};

use crate::error::ApiError;
use crate::models::with_causes;

/// How models are found at a hub, judged, fetched and loaded.
#[derive(Clone)]
pub struct Registry {
    /// Which hub, and where files are kept.
    pub hub: zse_hub::Config,
    /// Where models run.
    pub device: Device,
    /// Tokens of context that are asked for; 0: as many as a model was made for; `None`: up to
    /// [`LoadOptions::CONTEXT`].
    pub context: Option<usize>,
    /// How a model is loaded.
    pub options: LoadBy,
}

/// Gives the options that a model is loaded with.
pub type LoadBy = Arc<dyn Fn(&ModelSource) -> Result<LoadOptions, zse::Error> + Send + Sync>;

/// Whether a model will run, and in how much memory, before its weights are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Verdict {
    /// The model, as the hub calls it.
    pub model: String,
    /// The quant, where the file's name says it.
    pub quant: Option<String>,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// As the model's file names it.
    pub architecture: String,
    /// Whether it runs.
    pub runs: bool,
    /// Why not, where it does not.
    pub why_not: Option<String>,
    /// Where it would run.
    pub device: String,
    /// Tokens of context that it would have.
    pub context: u64,
    /// Bytes to run it, where that can be told.
    pub memory: Option<u64>,
    /// Bytes that the device has available: the system's, or a GPU's.
    pub available: Option<u64>,
    /// Whether the one is within the other, where both are known. What a GPU has no room for, the CPU
    /// takes.
    pub fits: Option<bool>,
}

impl Registry {
    /// Judges a model by its header or `config.json`, here or at the hub. Blocks.
    ///
    /// # Errors
    /// As [`Hub::check`].
    pub fn check(&self, model: &ModelRef) -> Result<Verdict, HubError> {
        let hub = Hub::new(self.hub.clone())?;
        let context = self.context.map(|tokens| tokens as u64);
        let open = |path: &Path| self.outlook(path).map_err(Into::into);
        let checked = hub.check(model, context, &open)?;
        let device = self.device.resolved();
        let available = device.available();
        let Outlook {
            architecture,
            obstacle,
            context,
            memory,
        } = checked.outlook;
        Ok(Verdict {
            model: model.to_string(),
            quant: checked.quant,
            file_bytes: checked.file_bytes,
            architecture,
            runs: obstacle.is_none(),
            why_not: obstacle,
            device: device.to_string(),
            context,
            memory,
            available,
            fits: memory.zip(available).map(|(needed, room)| needed <= room),
        })
    }

    /// What loading the model at `path` would be.
    fn outlook(&self, path: &Path) -> Result<Outlook, zse::Error> {
        let source = ModelSource::Path(path.to_owned());
        let checkpoint = source.open()?;
        let metadata = checkpoint.metadata();
        let architecture = metadata.require_str("general.architecture")?.to_owned();
        let planned = (self.options)(&source).and_then(|options| {
            let model = options.model(checkpoint)?;
            let memory = options.device.holds(&options.memory(&model)?);
            Ok((model.info.context as u64, memory))
        });
        Ok(match planned {
            Ok((context, memory)) => Outlook {
                architecture,
                obstacle: None,
                context,
                memory: Some(memory),
            },
            Err(error) => Outlook {
                architecture,
                obstacle: Some(with_causes(&error)),
                context: 0,
                memory: None,
            },
        })
    }
}

/// For those who run the server: they may know what a hub says, and where files lie.
impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        let message = with_causes(&error);
        match error {
            HubError::Name { .. } | HubError::Unreadable { .. } => Self::param("model", message),
            HubError::Unknown { what, .. } => Self::param(what, message),
            HubError::NotFound { .. } | HubError::Nothing { .. } => Self::not_found(message),
            HubError::Denied { .. } => Self::forbidden(message),
            HubError::Busy { .. } => Self::conflict(message),
            HubError::NoSpace { .. } => {
                Self::failed(StatusCode::INSUFFICIENT_STORAGE, "no_space", message)
            }
            HubError::Offline { .. } => {
                Self::failed(StatusCode::SERVICE_UNAVAILABLE, "offline", message)
            }
            HubError::Token { .. }
            | HubError::Network { .. }
            | HubError::Answer { .. }
            | HubError::Changed { .. }
            | HubError::Contents { .. } => {
                Self::failed(StatusCode::BAD_GATEWAY, "hub_failed", message)
            }
            _ => Self::internal(message),
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("hub", &self.hub)
            .field("device", &self.device)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
