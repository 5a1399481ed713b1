//! Streams: frames, server-sent events or lines of JSON, that become a response, or the messages of a
//! WebSocket.
//!
//! What writes a stream runs only while its connection asks for more, on the connection's own task: a
//! client that is behind is not written for. Frames that are there at the same time are sent together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use crate::config::Report;
use crate::error::ApiError;

/// Bytes of a frame, mostly.
const FRAME: usize = 384;

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Server-sent events, kept open by comments.
    Events,
    /// Server-sent events, kept open by Anthropic's events of type `ping`.
    PingedEvents,
    /// Objects, one a line, as Ollama has it; nothing keeps them open.
    Lines,
    /// The data of events, each a message of a WebSocket.
    Messages,
}

impl Wire {
    /// The headers of a response that carries it.
    pub(crate) fn headers(self) -> [(HeaderName, &'static str); 3] {
        [
            (CONTENT_TYPE, self.content_type()),
            (CACHE_CONTROL, "no-cache"),
            // nginx would collect the events otherwise.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ]
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Events | Self::PingedEvents => "text/event-stream",
            Self::Lines | Self::Messages => "application/x-ndjson",
        }
    }

    /// What is sent when there was nothing to say for a while.
    fn keep_alive(self) -> Option<&'static [u8]> {
        match self {
            // A line that begins with a colon is a comment.
            Self::Events => Some(b": keep-alive\n\n"),
            Self::PingedEvents => Some(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Self::Lines | Self::Messages => None,
        }
    }

    /// What stands around the data of an event.
    fn around_data(self) -> [&'static str; 2] {
        match self {
            Self::Messages => ["", ""],
            _ => ["data: ", "\n\n"],
        }
    }
}

/// The end that is written to.
pub(crate) struct Events {
    written: Arc<Mutex<Written>>,
    wire: Wire,
}

/// What is written and not sent.
#[derive(Default)]
struct Written {
    frames: VecDeque<Bytes>,
    /// What went wrong inside, where the client was told in general words.
    failure: Option<String>,
}

fn lock(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    // Every change of it is one of a field.
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Sends an object.
    pub(crate) fn send(&self, data: &impl Serialize) {
        let [before, behind] = self.wire.around_data();
        self.frame(before, data, behind);
    }

    /// Sends an object as an event of this type.
    pub(crate) fn named(&self, name: &str, data: &impl Serialize) {
        self.frame(&format!("event: {name}\ndata: "), data, "\n\n");
    }

    /// Sends an object as a line.
    pub(crate) fn line(&self, data: &impl Serialize) {
        self.frame("", data, "\n");
    }

    /// Sends an error in the place where the next event would be.
    pub(crate) fn error(&self, error: &ApiError) {
        self.send(&error.body());
        self.failed(error);
    }

    /// Remembers why the stream failed, whose client was told.
    pub(crate) fn failed(&self, error: &ApiError) {
        lock(&self.written).failure = error.internal.clone();
    }

    /// Sends the mark that OpenAI's streams end with.
    pub(crate) fn done(&self) {
        let [before, behind] = self.wire.around_data();
        self.push([before, "[DONE]", behind].concat().into());
    }

    fn frame(&self, before: &str, data: &impl Serialize, behind: &str) {
        let mut frame = Vec::with_capacity(FRAME);
        frame.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut frame, data).expect(SERIALIZABLE);
        frame.extend_from_slice(behind.as_bytes());
        self.push(frame.into());
    }

    fn push(&self, frame: Bytes) {
        lock(&self.written).frames.push_back(frame);
    }
}

/// An object as it is sent.
pub(crate) fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect(SERIALIZABLE)
}

const SERIALIZABLE: &str = "keys are texts, and nothing else can fail";

/// The end that is read from. Dropping it ends the writing.
pub(crate) struct Frames {
    written: Arc<Mutex<Written>>,
    /// Until it is done.
    writer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    wire: Wire,
    report: Report,
}

impl Frames {
    /// What `write` writes; failures that are not for clients are told to `report`.
    pub(crate) fn new<W: Future<Output = ()> + Send + 'static>(
        wire: Wire,
        report: Report,
        write: impl FnOnce(Events) -> W,
    ) -> Self {
        let written = Arc::<Mutex<Written>>::default();
        let events = Events {
            written: Arc::clone(&written),
            wire,
        };
        Self {
            written,
            writer: Some(Box::pin(write(events))),
            wire,
            report,
        }
    }

    /// The response that carries them.
    pub(crate) fn response(self, keep_alive: Duration) -> Response {
        let headers = self.wire.headers();
        let body = FrameBody {
            frames: self,
            keep_alive,
            sent: Instant::now(),
            timer: Box::pin(tokio::time::sleep(keep_alive)),
        };
        (headers, Body::new(body)).into_response()
    }

    /// Waits for the next frame.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| {
            ready!(self.poll_written(cx));
            Poll::Ready(lock(&self.written).frames.pop_front())
        })
        .await
    }

    /// Ready once there are frames, or there will be none.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !lock(&self.written).frames.is_empty() {
            return Poll::Ready(());
        }
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(());
        };
        if writer.as_mut().poll(cx).is_ready() {
            self.writer = None;
            if let Some(why) = lock(&self.written).failure.take() {
                (self.report)(&why);
            }
            return Poll::Ready(());
        }
        match lock(&self.written).frames.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

/// Frames as the body of a response.
struct FrameBody {
    frames: Frames,
    keep_alive: Duration,
    /// When there was something to send last.
    sent: Instant,
    /// Ends no later than there is a need to keep the stream open: setting it anew for each frame would
    /// cost as much as writing one.
    timer: Pin<Box<Sleep>>,
}

impl FrameBody {
    /// Ready once nothing was sent for as long as a stream stays open by itself.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let end = self.sent + self.keep_alive;
            let is_over = end <= Instant::now();
            let next = if is_over {
                Instant::now() + self.keep_alive
            } else {
                end
            };
            self.timer.as_mut().reset(next);
            if is_over {
                return Poll::Ready(());
            }
        }
    }
}

impl http_body::Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.frames.poll_written(cx) {
            Poll::Ready(()) => together(&mut lock(&self.frames.written).frames),
            Poll::Pending => {
                let Some(keep_alive) = self.frames.wire.keep_alive() else {
                    return Poll::Pending;
                };
                ready!(self.poll_silence(cx));
                Some(Bytes::from_static(keep_alive))
            }
        };
        self.sent = Instant::now();
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// All frames as one; `None` if there are none.
fn together(frames: &mut VecDeque<Bytes>) -> Option<Bytes> {
    match frames.len() {
        0 | 1 => frames.pop_front(),
        _ => {
            let mut all = Vec::with_capacity(frames.iter().map(Bytes::len).sum());
            frames
                .drain(..)
                .for_each(|frame| all.extend_from_slice(&frame));
            Some(all.into())
        }
    }
}
