//! An answer while it is written: text, thoughts and calls, told apart.

use serde_json::{Map, Value, json};
use zse::{AnswerPiece, AnswerReader, FinishReason, Finished, Generate, TokenInfo, ToolCall};

use crate::error::ApiError;
use crate::job::{Piece, Running};
use crate::models::Model;
use crate::sampling::random;
use crate::state::{App, Slot};
use crate::usage::Usage;

/// The continuations of a conversation while they are written. Dropping it cancels them.
pub(crate) struct Talk {
    pub(crate) model: Model,
    /// Tokens so far.
    pub(crate) usage: Usage,
    running: Running,
    n: usize,
    /// One for each continuation; none where the text is given as it is.
    readers: Vec<AnswerReader>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text for the user.
    Text(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    /// A call begins.
    Call {
        /// Which of the answer's calls it is.
        index: usize,
        /// An id of its own.
        id: String,
        /// The function's name.
        name: String,
    },
    /// More of the arguments of a call.
    Arguments {
        /// Which of the answer's calls they belong to.
        index: usize,
        /// A piece of JSON.
        text: String,
    },
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
    /// There once it has ended.
    pub(crate) finished: Option<Finished>,
}

impl Talk {
    pub(super) fn start(
        app: &App,
        slot: Slot,
        model: Model,
        prompt: Vec<u32>,
        settings: &Generate,
        reader: Option<impl Fn() -> AnswerReader>,
    ) -> Result<Self, ApiError> {
        let usage = Usage {
            prompt: prompt.len(),
            ..Usage::default()
        };
        let n = settings.n as usize;
        let readers: Vec<_> = reader.map_or_else(Vec::new, |new| (0..n).map(|_| new()).collect());
        let usage = Usage {
            reasoning: (!readers.is_empty()).then_some(0),
            ..usage
        };
        let running = Running::start(app, slot, &model.engine, vec![prompt], settings)?;
        Ok(Self {
            model,
            usage,
            running,
            n,
            readers,
        })
    }

    /// How many continuations there are.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Waits for what comes next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        let piece = self.running.next().await?;
        Some(piece.map(|piece| self.read(piece)))
    }

    fn read(&mut self, piece: Piece) -> Event {
        match piece {
            Piece::Chunk { chunk, .. } => {
                let choice = chunk.choice as usize;
                self.usage.completion += chunk.tokens.len();
                let parts = match self.readers.get_mut(choice) {
                    Some(reader) => {
                        let (calls, was_thinking) = (reader.calls(), reader.is_thinking());
                        let pieces = reader.push(&chunk.text);
                        // What begins and ends a thought belongs to it.
                        if was_thinking || reader.is_thinking() {
                            *self.usage.reasoning.get_or_insert_default() += chunk.tokens.len();
                        }
                        parts(pieces, calls)
                    }
                    None if chunk.text.is_empty() => Vec::new(),
                    None => vec![Part::Text(chunk.text)],
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
                let (parts, calls) = match self.readers.get_mut(choice) {
                    Some(reader) => {
                        let calls = reader.calls();
                        (parts(reader.finish(), calls), reader.calls())
                    }
                    None => (Vec::new(), 0),
                };
                Event::Finished {
                    choice,
                    parts,
                    calls,
                    finished,
                }
            }
        }
    }

    /// Waits for all of it.
    ///
    /// # Errors
    /// If the generation failed.
    pub(crate) async fn whole(&mut self) -> Result<Vec<Reply>, ApiError> {
        let mut replies = vec![Reply::default(); self.n()];
        while let Some(event) = self.next().await {
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

/// Numbers the calls among `pieces`, before which there were `calls`, and gives them ids.
fn parts(pieces: Vec<AnswerPiece>, mut calls: usize) -> Vec<Part> {
    let part = |piece| match piece {
        AnswerPiece::Text(text) => Part::Text(text),
        AnswerPiece::Thought(text) => Part::Reasoning(text),
        AnswerPiece::Call(name) => {
            calls += 1;
            Part::Call {
                index: calls - 1,
                id: format!("call_{:016x}", random()),
                name,
            }
        }
        AnswerPiece::Arguments(text) => Part::Arguments {
            index: calls.saturating_sub(1),
            text,
        },
    };
    pieces.into_iter().map(part).collect()
}

/// The arguments of a call as an object. Where a model wrote no sound one, its text is all there is.
pub(crate) fn arguments(text: &str) -> Value {
    let object = serde_json::from_str::<Map<String, Value>>(text);
    object.map_or_else(|_| json!({ "arguments": text }), Value::Object)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_no_object_are_not_lost() {
        assert_eq!(arguments("{\"a\": 1}"), json!({ "a": 1 }));
        for text in ["{\"a\": ", "[1]", "oops"] {
            assert_eq!(arguments(text), json!({ "arguments": text }));
        }
    }
}
