//! `/api/pull` and `/api/delete`: models from the hub, as Ollama's clients ask for them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zse_hub::Catalogue;

use super::models::digest_of;
use super::untagged;
use crate::downloads::{Download, Phase, Then, Wanted};
use crate::error::ApiError;
use crate::request::{Fields, Unsupported, if_false};
use crate::routes::json;
use crate::sse::{Events, Frames, Wire};
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaPull)]
struct Pull {
    /// `org/name`, `org/name:QUANT`, `hf.co/org/name:QUANT`, or an id of the catalogue.
    model: Option<String>,
    /// What older clients say instead.
    name: Option<String>,
    /// Whether progress comes as lines; true if nothing is said.
    stream: Option<bool>,
}

const UNSUPPORTED: [Unsupported; 3] = [
    Unsupported {
        name: "insecure",
        why: "models come from a hub whose hashes are compared",
        is_default: if_false,
    },
    Unsupported {
        name: "username",
        why: "the hub's token is the server's",
        is_default: |v| v == "",
    },
    Unsupported {
        name: "password",
        why: "the hub's token is the server's",
        is_default: |v| v == "",
    },
];

/// How far a model is.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
struct OllamaProgress {
    status: String,
    /// Tells models apart; it is no hash of contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Bytes of all files.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// Bytes that are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

impl OllamaProgress {
    fn new(status: impl Into<String>) -> Self {
        Self {
            status: status.into(),
            ..Self::default()
        }
    }

    fn of(download: &Download) -> Self {
        match download.state {
            Phase::Queued => Self::new("waiting for other downloads"),
            _ if download.total == 0 => Self::new("pulling manifest"),
            _ => Self {
                status: format!("pulling {}", download.model),
                digest: Some(format!("sha256:{}", digest_of(&download.model))),
                total: Some(download.total),
                completed: Some(download.done),
            },
        }
    }
}

/// The name in a request: of its two fields that which is not empty.
fn name_of(model: Option<String>, name: Option<String>) -> Result<String, ApiError> {
    let mut given = model.into_iter().chain(name);
    let found = given.find(|name| !name.is_empty());
    let found = found.ok_or_else(|| ApiError::param("model", "name a model"))?;
    Ok(untagged(&found).to_owned())
}

/// Downloads a model, and serves it once it is here
///
/// A client that goes away cancels the download that it began; what came is kept.
#[utoipa::path(
    post,
    path = "/api/pull",
    tag = "Ollama",
    request_body = Pull,
    responses((
        status = 200,
        content((OllamaProgress = "application/x-ndjson"), (OllamaProgress = "application/json")),
    )),
)]
pub(super) async fn pull(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Pull = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    let name = name_of(body.model, body.name)?;
    let model = Catalogue::builtin().model(&name, None)?;
    let then = Then::default();
    let (download, is_new) = app.download(Wanted { name, model, then })?;
    let follow = Follow {
        app: Arc::clone(&app),
        id: download.id,
        ends: is_new,
    };
    if body.stream == Some(false) {
        follow.to_its_end(|_| {}).await?;
        return Ok(json(&OllamaProgress::new("success")));
    }
    let report = Arc::clone(&app.config.report);
    let frames = Frames::new(Wire::Lines, report, move |events| follow.write(events));
    Ok(frames.response(app.config.keep_alive))
}

/// A client that waits for a download.
struct Follow {
    app: Arc<App>,
    id: u64,
    /// Whether the download ends with it.
    ends: bool,
}

impl Follow {
    async fn write(self, events: Events) {
        let mut last = OllamaProgress::default();
        let done = self.to_its_end(|download| {
            let progress = OllamaProgress::of(download);
            if progress != last {
                events.line(&progress);
                last = progress;
            }
        });
        match done.await {
            Ok(()) => {
                for status in ["verifying sha256 digest", "writing manifest", "success"] {
                    events.line(&OllamaProgress::new(status));
                }
            }
            Err(error) => events.line(&error.ollama()),
        }
    }

    /// Waits for the end, and is told of what comes before.
    async fn to_its_end(&self, mut tell: impl FnMut(&Download)) -> Result<(), ApiError> {
        let mut changes = self.app.downloads.watch();
        loop {
            changes.mark_unchanged();
            let download = self.app.downloads.get(self.id)?;
            match (download.state, &download.error) {
                (Phase::Done, _) => {
                    tell(&download);
                    return Ok(());
                }
                (Phase::Failed, why) => {
                    let why = why.as_deref().unwrap_or("the download failed");
                    return Err(ApiError::download_failed(why));
                }
                (Phase::Cancelled, _) => {
                    return Err(ApiError::download_failed("the download was cancelled"));
                }
                _ => tell(&download),
            }
            // It cannot fail: the sender is the server's.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if self.ends {
            // One that has ended stays as it is.
            let _ = self.app.downloads.cancel(self.id);
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaDelete)]
struct Delete {
    model: Option<String>,
    /// What older clients say instead.
    name: Option<String>,
}

/// Removes a model that was downloaded from this machine
#[utoipa::path(
    delete,
    path = "/api/delete",
    tag = "Ollama",
    request_body = Delete,
    responses((status = 200)),
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Delete = fields.take()?;
    fields.finish(&[])?;
    app.delete(&name_of(body.model, body.name)?).await?;
    Ok(StatusCode::OK.into_response())
}
