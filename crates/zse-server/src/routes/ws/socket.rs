//! A WebSocket with the limits of the server: its size, its silence, and its end.
//!
//! What is sent waits until the connection takes it, which gives up on a peer who takes nothing (see
//! `patience`); so no more is held for a client than one message and the frames of its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use tokio::time::{Instant, Interval, interval};
use tungstenite::error::{Error, ProtocolError};

use crate::connection::{Arrivals, Connection};
use crate::error::ApiError;
use crate::guard::PROTOCOL;
use crate::state::App;

/// Most bytes that wait to be written.
const MAX_WRITE_BUFFER: usize = 1 << 20;
/// How long a client may take to answer that it has seen the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A request that becomes a WebSocket.
pub(super) struct Upgrade {
    upgrade: WebSocketUpgrade,
    connection: Connection,
}

impl FromRequestParts<Arc<App>> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let connection = parts.extensions.get::<Connection>().cloned();
        let connection = connection.ok_or_else(|| ApiError::internal("no connection"))?;
        let upgrade = WebSocketUpgrade::from_request_parts(parts, app).await;
        let upgrade = upgrade.map_err(|_| ApiError::no_websocket())?;
        Ok(Self {
            upgrade: upgrade
                .protocols([PROTOCOL])
                .max_message_size(app.config.max_body)
                .max_frame_size(app.config.max_body)
                .max_write_buffer_size(MAX_WRITE_BUFFER),
            connection,
        })
    }
}

impl Upgrade {
    /// Takes no message of more bytes than these.
    pub(super) fn up_to(self, bytes: usize) -> Self {
        let upgrade = self.upgrade.max_message_size(bytes).max_frame_size(bytes);
        Self { upgrade, ..self }
    }

    /// Accepts it, and has it served.
    pub(super) fn open<F: Future<Output = ()> + Send + 'static>(
        self,
        app: &App,
        serve: impl FnOnce(Socket, Connection) -> F + Send + 'static,
    ) -> Response {
        let pace = app.config.keep_alive.max(Duration::from_millis(1));
        let patience = pace + app.config.write_timeout;
        let message_time = app.config.read_timeout;
        self.upgrade.on_upgrade(move |inner| {
            let arrivals = self.connection.arrivals();
            let socket = Socket {
                inner,
                pings: interval(pace),
                patience,
                heard: Instant::now(),
                message_time,
                accounted: arrivals.bytes(),
                arrivals,
                begun: None,
            };
            serve(socket, self.connection)
        })
    }
}

/// Why a WebSocket is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// It is told to go: a close code, and why.
    Closed(u16, &'static str),
}

impl End {
    /// The server comes to its own end.
    pub(super) const STOP: Self = Self::Closed(close_code::AWAY, "the server stops");
}

/// A failure to read or to write, by the codes of RFC 6455, section 7.4.1.
impl From<axum::Error> for End {
    fn from(error: axum::Error) -> Self {
        let error = error.into_inner();
        match error.downcast_ref() {
            Some(Error::Capacity(_)) => Self::Closed(close_code::SIZE, "a message is too large"),
            Some(Error::Utf8(_)) => Self::Closed(close_code::INVALID, "a text is not UTF-8"),
            Some(Error::WriteBufferFull(_)) => {
                Self::Closed(close_code::ERROR, "an answer is too large for a message")
            }
            // There is nobody left to tell.
            Some(Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
            )) => Self::Gone,
            Some(Error::Protocol(_)) => {
                Self::Closed(close_code::PROTOCOL, "a message is none by the protocol")
            }
            _ => Self::Gone,
        }
    }
}

/// An open WebSocket.
pub(super) struct Socket {
    inner: WebSocket,
    pings: Interval,
    /// How long a client may be silent, pings unanswered.
    patience: Duration,
    heard: Instant,
    /// How long a message may come in pieces.
    message_time: Duration,
    arrivals: Arc<Arrivals>,
    /// Those of messages that are complete.
    accounted: u64,
    /// Since when there are more than those.
    begun: Option<Instant>,
}

/// Bytes of a control frame from a client beside its payload (RFC 6455, section 5.2).
const CONTROL_FRAME: u64 = 6;

impl Socket {
    /// Waits for the next text. May be dropped and called again.
    ///
    /// # Errors
    /// If there will be none.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            tokio::select! {
                // What has come is heard before it is missed.
                biased;
                message = self.inner.recv() => {
                    self.heard = Instant::now();
                    match message.ok_or(End::Gone)?? {
                        Message::Text(text) => {
                            self.accounted = self.arrivals.bytes();
                            self.begun = None;
                            return Ok(text);
                        }
                        Message::Binary(_) => {
                            return Err(End::Closed(close_code::UNSUPPORTED, "messages are text"));
                        }
                        Message::Ping(bytes) | Message::Pong(bytes) => {
                            self.accounted += CONTROL_FRAME + bytes.len() as u64;
                            self.check_time()?;
                        }
                        // After the answer to it, which is sent by itself, nothing comes.
                        Message::Close(_) => {}
                    }
                }
                _ = self.pings.tick() => {
                    self.check_time()?;
                    if self.heard.elapsed() > self.patience {
                        return Err(End::Gone);
                    }
                    let ping = Message::Ping(Bytes::new());
                    self.inner.send(ping).await?;
                }
            }
        }
    }

    /// Gives up on a message that is not complete long after it began, however often its client
    /// answers in between.
    fn check_time(&mut self) -> Result<(), End> {
        let is_complete = self.arrivals.bytes() <= self.accounted;
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if is_complete {
            self.begun = None;
        } else if begun.elapsed() >= self.message_time {
            return Err(End::Closed(close_code::POLICY, "a message takes too long"));
        }
        Ok(())
    }

    /// Sends a text, and waits while the client is behind.
    ///
    /// # Errors
    /// If the client is gone, or takes nothing for too long.
    pub(super) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), End> {
        let message = Message::Text(text.into());
        Ok(self.inner.send(message).await?)
    }

    /// Ends it, and tells the client why where it is still there.
    pub(super) async fn close(mut self, end: End) {
        let End::Closed(code, why) = end else {
            return;
        };
        let reason = why.into();
        let frame = CloseFrame { code, reason };
        let farewell = async {
            self.inner.send(Message::Close(Some(frame))).await?;
            // A connection that is closed with bytes unread may lose those that were sent.
            while let Some(message) = self.inner.recv().await {
                message?;
            }
            Ok::<_, axum::Error>(())
        };
        // However it ends.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
