//! `GET /ws/stats`: the counts of `/api/stats`, again and again.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::IntoParams;

use super::socket::{End, Socket, Upgrade};
use crate::connection::Connection;
use crate::error::ApiError;
use crate::routes::manage::stats::Stats;
use crate::sse;
use crate::state::App;

/// Seconds that there may be between two messages.
const INTERVALS: RangeInclusive<f64> = 0.1..=3600.0;
/// Most bytes of a message, which is not read.
const MAX_MESSAGE: usize = 256;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Pace {
    /// Seconds between two messages, from 0.1 to 3600; 1 if nothing is said.
    interval: Option<f64>,
}

/// Counts of the server, again and again
///
/// Each message is the object of `/api/stats`. What a client sends is not read.
#[utoipa::path(
    get,
    path = "/ws/stats",
    tag = "Server",
    params(Pace),
    responses((status = 101)),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    pace: Result<Query<Pace>, QueryRejection>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let wrong = || {
        let (least, most) = (INTERVALS.start(), INTERVALS.end());
        let message = format!("interval must be a number of seconds from {least} to {most}");
        ApiError::param("interval", message)
    };
    let Query(pace) = pace.map_err(|_| wrong())?;
    let seconds = pace.interval.unwrap_or(1.0);
    if !INTERVALS.contains(&seconds) {
        return Err(wrong());
    }
    let pace = Duration::from_secs_f64(seconds);
    let counted = Arc::clone(&app);
    Ok(upgrade
        .up_to(MAX_MESSAGE)
        .open(&app, move |mut socket, mut connection| async move {
            let Err(end) = run(&counted, &mut socket, &mut connection, pace).await;
            socket.close(end).await;
            // A server that stops waits until the client has heard of it.
            drop(connection);
        }))
}

async fn run(
    app: &App,
    socket: &mut Socket,
    connection: &mut Connection,
    pace: Duration,
) -> Result<Infallible, End> {
    let mut ticks = interval(pace);
    // A client that was behind needs no old news.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                socket.send(sse::text(&Stats::now(app))).await?;
            }
            text = socket.next() => {
                text?;
            }
            () = connection.stopped() => return Err(End::STOP),
        }
    }
}
