//! A text while it is written.

use std::sync::mpsc::RecvTimeoutError;
use std::task::{Context, Poll, ready};
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
    /// How many continuations there are to be.
    n: u32,
    finished: Vec<Finished>,
    /// No event will come any more.
    is_over: bool,
}

impl Generation {
    pub(crate) fn new(stream: EventStream, n: u32) -> Self {
        Self {
            stream,
            n,
            finished: Vec::new(),
            is_over: false,
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
            let event = match self.stream.recv_timeout(timeout) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => return Ok(Progress::Waiting),
            };
            match self.take(event) {
                Some(Ok(chunk)) => return Ok(Progress::Chunk(chunk)),
                Some(Err(error)) => return Err(error),
                None if self.is_over => return Ok(Progress::End),
                None => {}
            }
        }
    }

    /// The next piece, or `None` at the end; where none is there yet, the task of `cx` is woken for
    /// it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        loop {
            let event = ready!(self.stream.poll_recv(cx));
            let piece = self.take(event);
            if piece.is_some() || self.is_over {
                return Poll::Ready(piece);
            }
        }
    }

    /// The piece that the next event brings, if it is one; behind the last comes `None`.
    fn take(&mut self, event: Option<Event>) -> Option<Result<Chunk, Error>> {
        match event {
            Some(Event::Tokens {
                choice,
                text,
                tokens,
            }) => Some(Ok(Chunk {
                choice,
                text,
                tokens,
            })),
            Some(Event::Finished(finished)) => {
                let result = check(&finished);
                self.finished.push(finished);
                result.err().map(Err)
            }
            Some(Event::Scores(_) | Event::Embedding(_)) => None,
            None => {
                self.is_over = true;
                self.mark_gone().then(|| Err(stopped()))
            }
        }
    }

    /// Every continuation ends with the event that says how, unless the engine is gone. Ends those
    /// that have not; false if there are none.
    fn mark_gone(&mut self) -> bool {
        let before = self.finished.len();
        for choice in 0..self.n {
            if self.finished.iter().all(|f| f.choice != choice) {
                self.finished.push(gone(choice));
            }
        }
        self.finished.len() > before
    }

    /// Waits for all continuations, and gives the first (choice 0): all of it, or what is left where
    /// pieces of it were read before.
    ///
    /// # Errors
    /// If any of the continuations failed, or [`Error::AlreadyRead`] if the first had ended before
    /// and was read to its end.
    pub fn complete(self) -> Result<Completion, Error> {
        let mut all = self.completions()?.into_iter();
        all.find(|c| c.finished.choice == 0)
            .ok_or(Error::AlreadyRead)
    }

    /// Waits for all continuations, and gives them in order of choice. Where pieces were read
    /// before, it gives the remainder: what is left of each, and nothing of those that had ended
    /// ([`finished`](Self::finished) has them).
    ///
    /// # Errors
    /// If any of the continuations failed, be it before.
    pub fn completions(self) -> Result<Vec<Completion>, Error> {
        self.finished.iter().try_for_each(check)?;
        let before = self.finished.len();
        let all = self.stream.completions();
        all.iter().try_for_each(|c| check(&c.finished))?;
        match before + all.len() < self.n as usize {
            true => Err(stopped()),
            false => Ok(all),
        }
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

/// Why a continuation that the engine leaves without an end has failed.
const STOPPED: &str = "the engine has stopped";

fn stopped() -> Error {
    Error::Failed(STOPPED.to_owned())
}

fn gone(choice: u32) -> Finished {
    Finished {
        choice,
        reason: FinishReason::Failed(STOPPED.to_owned()),
        usage: Default::default(),
        timings: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use zse_engine::{Engine, EngineConfig, Generate, ModelShape, Request};
    use zse_model::executor::{
        Batch, Budget, ExecError, Executor, Masks, MemoryReport, Output, Outputs, Sampled, Ticket,
    };

    use super::*;

    /// Draws the same token again and again, and takes the engine with it when it has no more.
    struct Mortal {
        tokens: usize,
    }

    impl Executor for Mortal {
        fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
            assert_eq!(batch.outputs.len(), 1);
            Ok(Ticket(0))
        }

        fn sample(&mut self, _: Ticket, _: &Masks) -> Result<(), ExecError> {
            Ok(())
        }

        fn wait(&mut self, _: Ticket) -> Result<Outputs, ExecError> {
            self.tokens = self.tokens.checked_sub(1).expect("no more tokens");
            let sampled = Sampled {
                token: 1,
                logprob: 0.0,
                top: Vec::new(),
                mu: 0.0,
            };
            Ok(Outputs {
                rows: vec![Output::Sampled(sampled)],
            })
        }

        fn memory(&self) -> MemoryReport {
            MemoryReport::default()
        }
    }

    /// Three continuations of two tokens, of which an engine computes `tokens` tokens.
    fn generation(tokens: usize) -> Generation {
        let shape = ModelShape {
            vocab: 2,
            context: 16,
            kv_groups: 0,
            causal: true,
            pools: false,
            ranks: false,
        };
        let config = EngineConfig {
            max_sequences: 1,
            ..EngineConfig::default()
        };
        let budget = Budget::for_context(16, 1, 16);
        let engine = Engine::new(Box::new(Mortal { tokens }), shape, None, &budget, config);
        let settings = Generate {
            max_tokens: Some(2),
            n: 3,
            ..Generate::default()
        };
        let handle = engine.start().unwrap();
        let stream = handle.submit(Request::generate(vec![0], settings)).unwrap();
        Generation::new(stream, 3)
    }

    #[test]
    fn an_engine_that_dies_on_the_way_is_no_success() {
        assert_eq!(generation(6).completions().unwrap().len(), 3);
        for tokens in [0, 3, 4] {
            let why = generation(tokens).completions().unwrap_err().to_string();
            assert!(why.contains(STOPPED), "{why}");
            assert!(generation(tokens).complete().is_err());
            let mut streamed = generation(tokens);
            let results: Vec<_> = streamed.by_ref().collect();
            assert_eq!(results.iter().filter(|r| r.is_ok()).count(), tokens);
            assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
            let failed = |f: &&Finished| matches!(f.reason, FinishReason::Failed(_));
            assert_eq!(streamed.finished().len(), 3);
            assert_eq!(
                streamed.finished().iter().filter(failed).count(),
                3 - tokens / 2
            );
            let why = streamed.complete().unwrap_err().to_string();
            assert!(why.contains(STOPPED), "{why}");
        }
    }

    #[test]
    fn a_task_gets_what_a_thread_gets() {
        struct Thread(std::thread::Thread);
        impl std::task::Wake for Thread {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Thread(std::thread::current())).into();
        let mut cx = Context::from_waker(&waker);
        for tokens in [6, 3] {
            let mut generation = generation(tokens);
            let mut results = Vec::new();
            loop {
                match generation.poll_next(&mut cx) {
                    Poll::Ready(Some(result)) => results.push(result),
                    Poll::Ready(None) => break,
                    Poll::Pending => std::thread::park(),
                }
            }
            assert_eq!(results.iter().filter(|r| r.is_ok()).count(), tokens);
            assert_eq!(results.len() - tokens, usize::from(tokens < 6));
            assert_eq!(generation.finished().len(), 3);
        }
    }

    #[test]
    fn what_is_waited_for_is_the_remainder_of_what_was_read() {
        let mut read = generation(6);
        let first = read.next().unwrap().unwrap();
        let rest = read.completions().unwrap();
        let tokens = |choice| {
            let rest = rest.iter().find(|c| c.finished.choice == choice);
            rest.unwrap().tokens.len()
        };
        for choice in 0..3 {
            let before = if choice == first.choice { 1 } else { 0 };
            assert_eq!(tokens(choice), 2 - before);
        }

        // Once a continuation has ended, waiting gives the others, and the first no more.
        let mut read = generation(6);
        while read.finished().is_empty() {
            read.next().unwrap().unwrap();
        }
        let ended = read.finished()[0].choice;
        let rest = read.completions().unwrap();
        let choices: Vec<u32> = rest.iter().map(|c| c.finished.choice).collect();
        assert!(choices.iter().all(|&c| c != ended), "{choices:?}");

        let mut read = generation(6);
        assert!(read.by_ref().all(|piece| piece.is_ok()));
        assert!(matches!(read.complete(), Err(Error::AlreadyRead)));
        let mut read = generation(6);
        assert!(read.by_ref().all(|piece| piece.is_ok()));
        assert_eq!(read.completions().unwrap(), []);
    }
}
