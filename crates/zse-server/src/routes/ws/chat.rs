//! `GET /ws/chat`: chat completions over a WebSocket.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Utf8Bytes, close_code};
use axum::response::Response;
use bytes::Bytes;

use super::socket::{End, Socket, Upgrade};
use crate::connection::Connection;
use crate::error::ApiError;
use crate::guard::Tenant;
use crate::request::{Fields, parse};
use crate::routes::chat_completions::Question;
use crate::sse::{Frames, Wire};
use crate::state::App;

/// What ends every answer.
const DONE: &str = "[DONE]";
/// Most bytes of a message that may be a cancellation.
const MAX_CANCEL: usize = 256;

/// Chat completions over a WebSocket
///
/// Each text message is a request of `/v1/chat/completions`; its answer is what that would stream,
/// each event's data a text message, `[DONE]` the last. `{"type": "cancel"}` ends an answer. A request
/// that comes while an answer is written waits for its end; there may be one.
#[utoipa::path(get, path = "/ws/chat", tag = "OpenAI", responses((status = 101)))]
pub(super) async fn get(State(app): State<Arc<App>>, tenant: Tenant, upgrade: Upgrade) -> Response {
    let chat = Arc::clone(&app);
    upgrade.open(&app, |socket, mut connection| async move {
        let mut chat = Chat {
            app: chat,
            tenant,
            socket,
            waiting: None,
        };
        let Err(end) = chat.run(&mut connection).await;
        chat.socket.close(end).await;
        // A server that stops waits until the client has heard of it.
        drop(connection);
    })
}

struct Chat {
    app: Arc<App>,
    tenant: Tenant,
    socket: Socket,
    /// What came while an answer was written.
    waiting: Option<Utf8Bytes>,
}

impl Chat {
    /// Answers request after request.
    async fn run(&mut self, connection: &mut Connection) -> Result<Infallible, End> {
        loop {
            let text = tokio::select! {
                // A stop comes before what waits.
                biased;
                () = connection.stopped() => return Err(End::STOP),
                text = self.next() => text?,
            };
            // There is nothing to cancel any more.
            if is_cancel(&text) {
                continue;
            }
            if let Err(error) = self.answer(text).await? {
                if let Some(why) = &error.internal {
                    self.app.report(why);
                }
                self.socket.send(error.body().to_string()).await?;
            }
            self.socket.send(DONE).await?;
        }
    }

    /// The request that waits, or the next one. May be dropped and called again.
    async fn next(&mut self) -> Result<Utf8Bytes, End> {
        match self.waiting.take() {
            Some(text) => Ok(text),
            None => self.socket.next().await,
        }
    }

    /// Answers a request, all but for the end.
    async fn answer(&mut self, text: Utf8Bytes) -> Result<Result<(), ApiError>, End> {
        let (app, tenant) = (Arc::clone(&self.app), self.tenant.clone());
        let begin = async move {
            let mut fields = Fields::read(text.into(), tenant).await?;
            if fields.get("stream").is_some_and(|stream| stream != true) {
                return Err(ApiError::param("stream", "answers here are streams"));
            }
            fields.set("stream", true.into());
            let question = Question::read(&app, fields).await?;
            question.stream(&app, Wire::Messages).await
        };
        let mut begin = pin!(begin);
        let mut frames = None;
        loop {
            tokio::select! {
                begun = begin.as_mut(), if frames.is_none() => match begun {
                    Ok(begun) => frames = Some(begun),
                    Err(error) => return Ok(Err(error)),
                },
                frame = next_of(&mut frames) => match frame {
                    Some(frame) if frame != DONE => self.socket.send(text_of(&frame)).await?,
                    // The last is the mark of the end.
                    _ => return Ok(Ok(())),
                },
                text = self.socket.next() => {
                    let text = text?;
                    if is_cancel(&text) {
                        return Ok(Ok(()));
                    }
                    if self.waiting.replace(text).is_some() {
                        let why = "wait for [DONE]: one request may wait for an answer's end";
                        return Err(End::Closed(close_code::POLICY, why));
                    }
                }
            }
        }
    }
}

/// The next frame, once there are any.
async fn next_of(frames: &mut Option<Frames>) -> Option<Bytes> {
    match frames {
        None => pending().await,
        Some(frames) => frames.next().await,
    }
}

/// Whether a message ends the answer that is being written.
fn is_cancel(text: &str) -> bool {
    let fields = || parse(text.as_bytes()).ok();
    text.len() <= MAX_CANCEL
        && fields().is_some_and(|f| f.get("type").is_some_and(|t| t == "cancel"))
}

/// A frame, which is JSON.
fn text_of(frame: &Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(frame.clone()).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cancellation_cancels() {
        assert!(is_cancel(r#"{"type": "cancel"}"#));
        for other in [
            "cancel",
            "[]",
            "{}",
            r#"{"type": "chat"}"#,
            r#"{"type": null}"#,
        ] {
            assert!(!is_cancel(other), "{other}");
        }
    }
}
