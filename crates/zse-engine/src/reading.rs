//! Waiting for results that count only as a whole: scores and embeddings.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::channel::EventStream;
use crate::event::{Event, FinishReason, TokenInfo};
use crate::handle::EngineError;

/// How often somebody who may go away is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Says whether nobody wants a result any more; `None`: somebody always does.
pub type IsGone<'a> = Option<&'a dyn Fn() -> bool>;

impl EventStream {
    /// Waits for the tokens that a request scores. What is computed stops within a step of
    /// `is_gone` saying so, which is asked fifty times a second at least.
    ///
    /// # Errors
    /// If the engine fails on the way, or nobody wants the result any more
    /// ([`EngineError::Cancelled`]).
    pub fn scores(self, is_gone: IsGone<'_>) -> Result<Vec<TokenInfo>, EngineError> {
        let mut scores = Vec::new();
        self.read(is_gone, |event| {
            if let Event::Scores(more) = event {
                scores.extend(more);
            }
        })?;
        Ok(scores)
    }

    /// Waits for the numbers that a request for scores or an embedding gives, one after another; as
    /// [`scores`](Self::scores).
    ///
    /// # Errors
    /// As there.
    pub fn values(self, is_gone: IsGone<'_>) -> Result<Vec<f32>, EngineError> {
        let mut values = Vec::new();
        self.read(is_gone, |event| match event {
            Event::Scores(scores) => values.extend(scores.iter().map(|score| score.logprob)),
            Event::Embedding(embedding) => values.extend(embedding),
            Event::Tokens { .. } | Event::Finished(_) => {}
        })?;
        Ok(values)
    }

    /// Hands every event to `take`, up to the first end of a continuation.
    fn read(self, is_gone: IsGone<'_>, mut take: impl FnMut(Event)) -> Result<(), EngineError> {
        loop {
            match self.awaited(is_gone)? {
                Event::Finished(finished) => {
                    return match finished.reason {
                        FinishReason::Failed(what) => Err(EngineError::Failed(what)),
                        FinishReason::Cancelled => Err(EngineError::Cancelled),
                        _ => Ok(()),
                    };
                }
                event => take(event),
            }
        }
    }

    fn awaited(&self, is_gone: IsGone<'_>) -> Result<Event, EngineError> {
        let Some(is_gone) = is_gone else {
            return self.recv().ok_or(EngineError::Stopped);
        };
        while !is_gone() {
            match self.recv_timeout(LOOK) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => return Err(EngineError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Err(EngineError::Cancelled)
    }
}
