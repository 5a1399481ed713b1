//! Generations, stopped when nobody listens any more, and work on threads that may block.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::Response;
use hyper::StatusCode;
use tokio::sync::{oneshot, watch};
use tokio::task::coop::consume_budget;
use zse::{Chunk, Engine, FinishReason, Finished, Generate, Generation};

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::sse::{Events, Frames, Wire};
use crate::state::{App, Slot};

/// Something that one of a request's generations gave.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Text and tokens.
    Chunk {
        /// Which of the request's prompts it continues.
        prompt: usize,
        chunk: Chunk,
    },
    /// A continuation ended.
    Finished { prompt: usize, finished: Finished },
}

/// The generations of a request while they run. Dropping it cancels them.
pub(crate) struct Running {
    parts: Vec<Part>,
    ready: VecDeque<Result<Piece, ApiError>>,
    /// Whether it came to an end, or failed.
    is_over: bool,
    /// Whether the server waits no longer.
    cut_off: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    _slot: Slot,
}

struct Part {
    generation: Generation,
    /// How many continuations were reported as finished.
    reported: usize,
    is_over: bool,
}

impl Running {
    /// Starts to continue `prompts`.
    ///
    /// # Errors
    /// If one can never be served.
    pub(crate) fn start(
        app: &App,
        slot: Slot,
        engine: &Engine,
        prompts: Vec<Vec<u32>>,
        settings: &Generate,
    ) -> Result<Self, ApiError> {
        let start = |prompt| {
            Ok(Part {
                generation: engine.generate_tokens(prompt, settings)?,
                reported: 0,
                is_over: false,
            })
        };
        let parts = prompts.into_iter().map(start);
        Ok(Self {
            parts: parts.collect::<Result<_, ApiError>>()?,
            ready: VecDeque::new(),
            is_over: false,
            cut_off: app.cut_off.subscribe(),
            metrics: Arc::clone(&app.metrics),
            _slot: slot,
        })
    }

    /// Waits for the next piece; `None` at the end. After an error there is nothing to wait for.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, ApiError>> {
        // Others have their turn, however fast pieces come.
        consume_budget().await;
        let mut cut_off = self.cut_off.clone();
        let next = tokio::select! {
            // What is there comes before an end that is not its own.
            biased;
            next = poll_fn(|cx| self.poll_next(cx)) => next,
            Ok(_) = cut_off.wait_for(|cut_off| *cut_off) => Some(Err(stopping())),
        };
        self.is_over |= !matches!(next, Some(Ok(_)));
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ApiError>>> {
        if self.ready.is_empty() {
            self.gather(cx);
        }
        match self.ready.pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None if self.parts.iter().all(|part| part.is_over) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Collects the next piece of each generation that has one.
    fn gather(&mut self, cx: &mut Context<'_>) {
        for (prompt, part) in self.parts.iter_mut().enumerate() {
            if part.is_over {
                continue;
            }
            let next = part.generation.poll_next(cx);
            let finished = part.generation.finished()[part.reported..].iter();
            // The error that comes with it is the end of one that failed: nobody is told of another.
            let finished = finished.filter(|f| !matches!(f.reason, FinishReason::Failed(_)));
            let pieces = finished.cloned();
            let pieces = pieces.map(|finished| Ok(Piece::Finished { prompt, finished }));
            self.ready.extend(pieces);
            part.reported = part.generation.finished().len();
            match next {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.ready.push_back(Ok(Piece::Chunk { prompt, chunk }));
                }
                Poll::Ready(Some(Err(error))) => {
                    part.is_over = true;
                    self.ready.push_back(Err(error.into()));
                }
                Poll::Ready(None) => part.is_over = true,
                Poll::Pending => {}
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.metrics.abandoned();
        }
    }
}

/// An answer that was not at its end when a server that stops had waited long enough.
fn stopping() -> ApiError {
    let message = "the server stops, and this answer was not at its end: ask again";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    ApiError::failed(status, "server_stopping", message.to_owned())
}

/// Does `work` on a thread that may block; it is given a function that says whether the client is
/// gone.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let result = work(&|| sender.is_closed());
        // Nobody is there to hear it.
        let _ = sender.send(result);
    });
    let lost = || Err(ApiError::internal("the thread of a request has panicked"));
    receiver.await.unwrap_or_else(|_| lost())
}

/// Answers with a stream: `start` decides whether there is one, on a thread that may block, and
/// `write` fills it. `start` is given a function that says whether the client is gone.
pub(crate) async fn streaming<T: Send + 'static, W: Future<Output = ()> + Send + 'static>(
    app: &App,
    wire: Wire,
    start: impl FnOnce(&dyn Fn() -> bool) -> Result<T, ApiError> + Send + 'static,
    write: impl FnOnce(T, Events) -> W,
) -> Result<Response, ApiError> {
    let frames = frames(app, wire, start, write).await?;
    Ok(frames.response(app.config.keep_alive))
}

/// The frames of a stream, as [`streaming`].
pub(crate) async fn frames<T: Send + 'static, W: Future<Output = ()> + Send + 'static>(
    app: &App,
    wire: Wire,
    start: impl FnOnce(&dyn Fn() -> bool) -> Result<T, ApiError> + Send + 'static,
    write: impl FnOnce(T, Events) -> W,
) -> Result<Frames, ApiError> {
    let started = blocking(start).await?;
    let report = Arc::clone(&app.config.report);
    Ok(Frames::new(wire, report, |events| write(started, events)))
}
