//! `GET /ws/downloads`: how far downloads are.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::socket::{End, Socket, Upgrade};
use crate::connection::Connection;
use crate::sse;
use crate::state::App;

/// Most bytes of a message, which is not read.
const MAX_MESSAGE: usize = 256;

/// How far downloads are
///
/// Each message is a download as `/api/models/download/{id}` has it: first all of them, then each that
/// changes. What a client sends is not read.
#[utoipa::path(get, path = "/ws/downloads", tag = "Server", responses((status = 101)))]
pub(super) async fn get(State(app): State<Arc<App>>, upgrade: Upgrade) -> Response {
    let watched = Arc::clone(&app);
    upgrade
        .up_to(MAX_MESSAGE)
        .open(&app, move |mut socket, mut connection| async move {
            let Err(end) = run(&watched, &mut socket, &mut connection).await;
            socket.close(end).await;
            // A server that stops waits until the client has heard of it.
            drop(connection);
        })
}

async fn run(
    app: &App,
    socket: &mut Socket,
    connection: &mut Connection,
) -> Result<Infallible, End> {
    let mut changes = app.downloads.watch();
    let mut seen = 0;
    loop {
        // What changes from now on is looked for once more.
        changes.mark_unchanged();
        let (last, changed) = app.downloads.since(seen);
        seen = last;
        for download in changed {
            socket.send(sse::text(&download)).await?;
        }
        loop {
            tokio::select! {
                // It cannot fail: the sender is the server's.
                _ = changes.changed() => break,
                text = socket.next() => {
                    text?;
                }
                () = connection.stopped() => return Err(End::STOP),
            }
        }
    }
}
