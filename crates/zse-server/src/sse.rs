//! Streams: a bounded channel of frames, server-sent events or lines of JSON, that becomes a
//! response, or the messages of a WebSocket.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::error::ApiError;

/// Frames that wait for a client; when there are so many, the generation waits too. A frame is some
/// hundred bytes.
const CAPACITY: usize = 64;

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Server-sent events, kept open by comments.
    Events,
    /// Server-sent events, kept open by Anthropic's events of type `ping`.
    PingedEvents,
    /// Objects, one a line, as Ollama has it; nothing keeps them open.
    Lines,
}

impl Wire {
    fn content_type(self) -> &'static str {
        match self {
            Self::Events | Self::PingedEvents => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// What is sent when there was nothing to say for a while.
    fn keep_alive(self) -> Option<&'static [u8]> {
        match self {
            // A line that begins with a colon is a comment.
            Self::Events => Some(b": keep-alive\n\n"),
            Self::PingedEvents => Some(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Self::Lines => None,
        }
    }
}

/// The end that is written to, on a thread that may block.
pub(crate) struct Events {
    frames: mpsc::Sender<Bytes>,
    /// Whether a frame is an event's data and nothing more.
    is_bare: bool,
    /// What went wrong inside, where the client was told in general words.
    failure: RefCell<Option<String>>,
}

/// A stream of events, and the data of each as a message of a WebSocket.
pub(crate) fn messages() -> (Events, mpsc::Receiver<Bytes>) {
    frames(true)
}

fn frames(is_bare: bool) -> (Events, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let events = Events {
        frames: sender,
        is_bare,
        failure: RefCell::default(),
    };
    (events, receiver)
}

/// A stream of events, and the response that carries it.
pub(crate) fn channel(wire: Wire, keep_alive: Duration) -> (Events, Response) {
    let (events, receiver) = frames(false);
    let body = EventBody {
        frames: receiver,
        wire,
        keep_alive,
        timer: Box::pin(tokio::time::sleep(keep_alive)),
    };
    let headers = [
        (CONTENT_TYPE, wire.content_type()),
        (CACHE_CONTROL, "no-cache"),
        // nginx would collect the events otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (events, (headers, Body::new(body)).into_response())
}

impl Events {
    /// Whether the client is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    /// Sends an object, and waits while the client is behind.
    pub(crate) fn send(&self, data: &impl Serialize) {
        self.data(&text(data));
    }

    /// Sends an object as an event of this type.
    pub(crate) fn named(&self, name: &str, data: &impl Serialize) {
        self.frame(format!("event: {name}\ndata: {}\n\n", text(data)));
    }

    /// Sends an object as a line.
    pub(crate) fn line(&self, data: &impl Serialize) {
        self.frame(text(data) + "\n");
    }

    /// Sends an error in the place where the next event would be.
    pub(crate) fn error(&self, error: &ApiError) {
        self.send(&error.body());
        self.failed(error);
    }

    /// Remembers why the stream failed, whose client was told.
    pub(crate) fn failed(&self, error: &ApiError) {
        *self.failure.borrow_mut() = error.internal.clone();
    }

    /// Sends the mark that OpenAI's streams end with.
    pub(crate) fn done(&self) {
        self.data("[DONE]");
    }

    /// Why the stream failed, if it is not for clients to know.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    fn data(&self, data: &str) {
        self.frame(match self.is_bare {
            true => data.to_owned(),
            false => format!("data: {data}\n\n"),
        });
    }

    fn frame(&self, text: String) {
        // A client that is gone is noticed before the next piece is waited for.
        let _ = self.frames.blocking_send(text.into());
    }
}

/// An object as it is sent.
pub(crate) fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("keys are texts, and nothing else can fail")
}

/// The end that the connection reads. Once the connection drops it, the writer sees that.
struct EventBody {
    frames: mpsc::Receiver<Bytes>,
    wire: Wire,
    keep_alive: Duration,
    timer: Pin<Box<Sleep>>,
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.frames.poll_recv(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(keep_alive) = self.wire.keep_alive() else {
                    return Poll::Pending;
                };
                std::task::ready!(self.timer.as_mut().poll(cx));
                Some(Bytes::from_static(keep_alive))
            }
        };
        let later = Instant::now() + self.keep_alive;
        self.timer.as_mut().reset(later);
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }
}
