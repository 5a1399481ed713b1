//! An answer while it is written: text, thoughts and calls, told apart.

use zse::{FinishReason, Finished, Generate, TokenInfo, ToolCall};

use super::tools::{Part, ToolReader};
use crate::error::ApiError;
use crate::job::{Piece, Running};
use crate::models::Model;
use crate::state::{App, Slot};
use crate::usage::Usage;

/// The continuations of a conversation while they are written. Dropping it cancels them.
pub(crate) struct Talk {
    pub(crate) model: Model,
    /// Tokens so far.
    pub(crate) usage: Usage,
    running: Running,
    /// One for each continuation.
    readers: Vec<ToolReader>,
    reads_calls: bool,
}

/// Something that happened to a continuation.
#[derive(Debug)]
pub(crate) enum Event {
    /// It went on.
    Parts {
        choice: usize,
        parts: Vec<Part>,
        /// What was drawn; text may lag behind.
        tokens: Vec<TokenInfo>,
    },
    /// It ended, with what was held back until then.
    Finished {
        choice: usize,
        parts: Vec<Part>,
        /// How many calls it has in all.
        calls: usize,
        finished: Finished,
    },
}

/// A continuation as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) tokens: Vec<TokenInfo>,
    /// Absent where its client went away.
    pub(crate) finished: Option<Finished>,
}

impl Talk {
    pub(super) fn start(
        app: &App,
        slot: Slot,
        model: Model,
        prompt: Vec<u32>,
        settings: &Generate,
        reads_calls: bool,
    ) -> Result<Self, ApiError> {
        let usage = Usage {
            prompt: prompt.len(),
            ..Usage::default()
        };
        let mut readers = Vec::new();
        readers.resize_with(settings.n as usize, ToolReader::default);
        let running = Running::start(app, slot, &model.engine, vec![prompt], settings)?;
        Ok(Self {
            model,
            usage,
            running,
            readers,
            reads_calls,
        })
    }

    /// How many continuations there are.
    pub(crate) fn n(&self) -> usize {
        self.readers.len()
    }

    /// Waits for what comes next; `None` at the end, or once `is_gone` says that nobody wants it.
    pub(crate) fn next(&mut self, is_gone: &dyn Fn() -> bool) -> Option<Result<Event, ApiError>> {
        Some(self.running.next(is_gone)?.map(|piece| self.read(piece)))
    }

    fn read(&mut self, piece: Piece) -> Event {
        match piece {
            Piece::Chunk { chunk, .. } => {
                let choice = chunk.choice as usize;
                self.usage.completion += chunk.tokens.len();
                let parts = match self.reads_calls {
                    true => self.readers[choice].push(&chunk.text),
                    false if chunk.text.is_empty() => Vec::new(),
                    false => vec![Part::Text(chunk.text)],
                };
                Event::Parts {
                    choice,
                    parts,
                    tokens: chunk.tokens,
                }
            }
            Piece::Finished { finished, .. } => {
                let choice = finished.choice as usize;
                // The other continuations share the prompt of the first.
                if choice == 0 {
                    self.usage.cached = finished.usage.shared_tokens;
                }
                let parts = self.readers[choice].finish();
                Event::Finished {
                    choice,
                    parts,
                    calls: self.readers[choice].calls(),
                    finished,
                }
            }
        }
    }

    /// Waits for all of it. What it gives once the client is gone does not matter.
    ///
    /// # Errors
    /// If the generation failed.
    pub(crate) fn whole(&mut self, is_gone: &dyn Fn() -> bool) -> Result<Vec<Reply>, ApiError> {
        let mut replies = vec![Reply::default(); self.n()];
        while let Some(event) = self.next(is_gone) {
            match event? {
                Event::Parts {
                    choice,
                    parts,
                    tokens,
                } => {
                    replies[choice].take(parts);
                    replies[choice].tokens.extend(tokens);
                }
                Event::Finished {
                    choice,
                    parts,
                    finished,
                    ..
                } => {
                    replies[choice].take(parts);
                    replies[choice].finished = Some(finished);
                }
            }
        }
        Ok(replies)
    }
}

impl Reply {
    fn take(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.text.push_str(&text),
                Part::Reasoning(text) => self.reasoning.push_str(&text),
                Part::Call { id, name, .. } => self.calls.push(ToolCall::new(id, name, "")),
                Part::Arguments { index, text } => {
                    if let Some(call) = self.calls.get_mut(index) {
                        call.function.arguments.push_str(&text);
                    }
                }
            }
        }
    }

    /// Why it ended.
    pub(crate) fn reason(&self) -> Option<&FinishReason> {
        self.finished.as_ref().map(|finished| &finished.reason)
    }
}
