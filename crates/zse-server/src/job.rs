//! Generations on threads that may block, stopped when nobody listens any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::oneshot;
use zse::{Chunk, Engine, Finished, Generate, Generation, Progress};

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::sse::{self, Events, Wire};
use crate::state::{App, Slot};

/// How long it may take until a client's going away is noticed while no token comes.
const NOTICE: Duration = Duration::from_millis(100);
/// How long to wait for one of several generations before looking at all of them again.
const TURN: Duration = Duration::from_millis(2);

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
    ready: VecDeque<Piece>,
    /// Which one to wait for next.
    turn: usize,
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
            turn: 0,
            metrics: Arc::clone(&app.metrics),
            _slot: slot,
        })
    }

    /// Waits for the next piece; `None` at the end, or once `is_gone` says that nobody wants it.
    pub(crate) fn next(&mut self, is_gone: &dyn Fn() -> bool) -> Option<Result<Piece, ApiError>> {
        loop {
            if is_gone() {
                self.metrics.abandoned();
                return None;
            }
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if let Err(error) = self.gather()? {
                return Some(Err(error));
            }
        }
    }

    /// Collects what is there, or else waits a while; `None` if all are over.
    fn gather(&mut self) -> Option<Result<(), ApiError>> {
        let live = |part: &Part| !part.is_over;
        let first = self.parts.iter().position(live)?;
        if self.parts.iter().filter(|part| live(part)).count() == 1 {
            return Some(self.wait(first, NOTICE));
        }
        // Those that wait for a place must not hold up those that run.
        for i in first..self.parts.len() {
            if let Err(error) = self.wait(i, Duration::ZERO) {
                return Some(Err(error));
            }
        }
        if !self.ready.is_empty() {
            return Some(Ok(()));
        }
        self.turn = (self.turn + 1) % self.parts.len();
        Some(self.wait(self.turn, TURN))
    }

    /// Waits for a piece of a generation, and collects it.
    fn wait(&mut self, prompt: usize, patience: Duration) -> Result<(), ApiError> {
        let part = &mut self.parts[prompt];
        if part.is_over {
            return Ok(());
        }
        let progress = part.generation.wait(patience);
        for finished in &part.generation.finished()[part.reported..] {
            let finished = finished.clone();
            self.ready.push_back(Piece::Finished { prompt, finished });
        }
        part.reported = part.generation.finished().len();
        match progress {
            Ok(Progress::Chunk(chunk)) => self.ready.push_back(Piece::Chunk { prompt, chunk }),
            Ok(Progress::Waiting) => {}
            Ok(Progress::End) => part.is_over = true,
            Err(error) => {
                part.is_over = true;
                return Err(error.into());
            }
        }
        Ok(())
    }
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

/// Answers with a stream: `start` decides whether there is one, `write` fills it.
pub(crate) async fn streaming<T>(
    app: &App,
    wire: Wire,
    start: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    write: impl FnOnce(T, &Events) + Send + 'static,
) -> Result<Response, ApiError> {
    let (events, response) = sse::channel(wire, app.config.keep_alive);
    fill(app, events, start, write).await?;
    Ok(response)
}

/// Fills a stream: `start` decides whether there is one, `write` goes on once that is known.
pub(crate) async fn fill<T>(
    app: &App,
    events: Events,
    start: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    write: impl FnOnce(T, &Events) + Send + 'static,
) -> Result<(), ApiError> {
    let report = Arc::clone(&app.config.report);
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || match start() {
        Err(error) => _ = sender.send(Err(error)),
        Ok(started) => {
            if sender.send(Ok(())).is_ok() {
                write(started, &events);
                if let Some(why) = events.failure() {
                    report(&why);
                }
            }
        }
    });
    let lost = || Err(ApiError::internal("the thread of a request has panicked"));
    receiver.await.unwrap_or_else(|_| lost())
}
