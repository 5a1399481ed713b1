//! Compiles the constraints of requests, on the threads of their callers.

use std::fmt;
use std::sync::OnceLock;

use zse_text::{GrammarError, GrammarState, Grammars, Tokenizer};

use crate::request::{Request, RequestError, Task};

/// What an engine and its handles compile constraints with.
pub(crate) struct Constraints {
    tokenizer: Option<Tokenizer>,
    /// Made when the first constraint comes.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
}

impl Constraints {
    pub(crate) fn new(tokenizer: Option<Tokenizer>) -> Self {
        Self {
            tokenizer,
            grammars: OnceLock::new(),
        }
    }

    /// Where the text of `request` begins in its grammar, if it has one.
    pub(crate) fn compile(&self, request: &Request) -> Result<Option<GrammarState>, RequestError> {
        let Task::Generate(generate) = &request.task else {
            return Ok(None);
        };
        let Some(constraint) = &generate.constraint else {
            return Ok(None);
        };
        let Some(tokenizer) = &self.tokenizer else {
            return Err(GrammarError::Vocabulary("the engine has no tokenizer").into());
        };
        let grammars = self.grammars.get_or_init(|| Grammars::new(tokenizer));
        let grammars = grammars.as_ref().map_err(Clone::clone)?;
        Ok(Some(grammars.compile(constraint)?))
    }
}

impl fmt::Debug for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraints").finish_non_exhaustive()
    }
}
