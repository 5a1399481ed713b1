//! A text while it is written.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use zse_engine::{Completion, Event, EventStream, FinishReason, Finished, TokenInfo};

use crate::Error;

/// A piece of a text that is being generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Which of the request's continuations it belongs to (see [`Generate::n`]).
    ///
    /// [`Generate::n`]: crate::Generate::n
    pub choice: u32,
    /// Whole characters; may be empty, as text may lag behind the tokens.
    pub text: String,
    /// The tokens that were drawn.
    pub tokens: Vec<TokenInfo>,
}

/// What [`Generation::wait`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The next piece.
    Chunk(Chunk),
    /// Nothing yet.
    Waiting,
    /// There is no more.
    End,
}

/// A text while it is written: an iterator over its pieces. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    stream: EventStream,
    finished: Vec<Finished>,
}

impl Generation {
    pub(crate) fn new(stream: EventStream) -> Self {
        Self {
            stream,
            finished: Vec::new(),
        }
    }

    /// How the continuations ended that have; complete once the iterator is at its end.
    pub fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// Stops the request within a step. What is there can still be read.
    pub fn cancel(&self) {
        self.stream.cancel();
    }

    /// Waits for the next piece, but no longer than `timeout`.
    ///
    /// # Errors
    /// If the request failed.
    pub fn wait(&mut self, timeout: Duration) -> Result<Progress, Error> {
        loop {
            match self.stream.recv_timeout(timeout) {
                Ok(Event::Tokens {
                    choice,
                    text,
                    tokens,
                }) => {
                    return Ok(Progress::Chunk(Chunk {
                        choice,
                        text,
                        tokens,
                    }));
                }
                Ok(Event::Finished(finished)) => {
                    let result = check(&finished);
                    self.finished.push(finished);
                    result?;
                }
                Ok(Event::Scores(_) | Event::Embedding(_)) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(Progress::Waiting),
                // Every request ends with the event that says how, unless the engine is gone.
                Err(RecvTimeoutError::Disconnected) if self.finished.is_empty() => {
                    self.finished.push(gone());
                    return Err(stopped());
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Progress::End),
            }
        }
    }

    /// Waits for the whole first continuation.
    ///
    /// # Errors
    /// If the request failed.
    pub fn complete(self) -> Result<Completion, Error> {
        let mut all = self.completions()?;
        match all.is_empty() {
            true => Err(stopped()),
            false => Ok(all.swap_remove(0)),
        }
    }

    /// Waits for all continuations, in order of choice.
    ///
    /// # Errors
    /// If one of them failed.
    pub fn completions(self) -> Result<Vec<Completion>, Error> {
        let all = self.stream.completions();
        all.iter().try_for_each(|c| check(&c.finished))?;
        Ok(all)
    }
}

impl Iterator for Generation {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Long enough that waking for nothing costs nothing.
            match self.wait(Duration::from_secs(3600)) {
                Ok(Progress::Chunk(chunk)) => return Some(Ok(chunk)),
                Ok(Progress::Waiting) => {}
                Ok(Progress::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Whether a request did what it should.
pub(crate) fn check(finished: &Finished) -> Result<(), Error> {
    match &finished.reason {
        FinishReason::Failed(why) => Err(Error::Failed(why.clone())),
        _ => Ok(()),
    }
}

fn stopped() -> Error {
    Error::Failed("the engine has stopped".to_owned())
}

fn gone() -> Finished {
    Finished {
        choice: 0,
        reason: FinishReason::Failed("the engine has stopped".to_owned()),
        usage: Default::default(),
        timings: Default::default(),
    }
}
