//! `/ws/chat`, `/ws/stats` and `/ws/downloads`: what streams, counts and downloads say, over a WebSocket.

mod chat;
mod downloads;
mod socket;
mod stats;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

/// Its routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(chat::get))
        .routes(routes!(stats::get))
        .routes(routes!(downloads::get))
}
