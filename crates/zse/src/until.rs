//! For callers that may go away before their result is there.

use zse_engine::{EngineError, EventStream, Request, Score, TokenInfo};

use crate::{Engine, Error};

/// An [`Engine`] for somebody who may go away: what is computed then stops within a step, with
/// [`EngineError::Cancelled`]. See [`Engine::until`].
#[derive(Clone, Copy)]
pub struct Until<'a> {
    engine: &'a Engine,
    is_gone: Option<&'a dyn Fn() -> bool>,
}

/// Scores of a text while they are computed. Dropping it stops that.
#[derive(Debug)]
pub struct Scoring {
    stream: EventStream,
}

impl Scoring {
    /// Waits for the scored tokens, as long as `is_gone`, which is asked now and then, does not say
    /// that nobody wants them.
    ///
    /// # Errors
    /// If the engine fails on the way, or nobody wants them ([`EngineError::Cancelled`]).
    pub fn complete(self, is_gone: &dyn Fn() -> bool) -> Result<Vec<TokenInfo>, Error> {
        Ok(self.stream.scores(Some(is_gone))?)
    }
}

impl Engine {
    /// This engine for one result that somebody waits for who may go away, as `is_gone` says, which is
    /// asked now and then.
    ///
    /// ```
    /// use zse::{Engine, EngineError, Error, LoadOptions, ModelSource};
    ///
    /// let engine = Engine::load(&ModelSource::Builtin, &LoadOptions::default())?;
    /// let tokens = engine.open_tokens("Nobody is there to read how likely this is.", true);
    /// let nobody = engine.until(&|| true).score(tokens, 1, "");
    /// assert!(matches!(nobody, Err(Error::Engine(EngineError::Cancelled))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn until<'a>(&'a self, is_gone: &'a dyn Fn() -> bool) -> Until<'a> {
        Until {
            engine: self,
            is_gone: Some(is_gone),
        }
    }

    /// For somebody who stays.
    pub(crate) fn always(&self) -> Until<'_> {
        Until {
            engine: self,
            is_gone: None,
        }
    }

    /// Begins to score `tokens`. What is computed does not depend on what is in the prefix cache, and
    /// memory does not grow by the vocabulary for each token.
    ///
    /// # Errors
    /// If there is nothing to score, the tokens do not fit the context, or too many wait.
    pub fn start_score(&self, tokens: Vec<u32>, score: Score) -> Result<Scoring, Error> {
        let stream = self.submit(Request::scored(tokens, score))?;
        Ok(Scoring { stream })
    }
}

impl<'a> Until<'a> {
    /// Whose results these are.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// As [`Engine::embed_tokens`].
    ///
    /// # Errors
    /// As there, and [`EngineError::Cancelled`].
    pub fn embed_tokens(&self, tokens: Vec<u32>) -> Result<Vec<f32>, Error> {
        let mut embedding = self.pooled(tokens)?;
        normalize(&mut embedding);
        Ok(embedding)
    }

    /// As [`Engine::score`].
    ///
    /// # Errors
    /// As there, and [`EngineError::Cancelled`].
    pub fn score(&self, tokens: Vec<u32>, from: usize, salt: &str) -> Result<Vec<f32>, Error> {
        self.values(Request::score(tokens, from).with_salt(salt))
    }

    /// The row that a model which pools gives for tokens.
    pub(crate) fn pooled(&self, tokens: Vec<u32>) -> Result<Vec<f32>, Error> {
        self.values(Request::embed(tokens))
    }

    fn values(&self, request: Request) -> Result<Vec<f32>, Error> {
        // Nobody may be there already.
        if self.is_gone.is_some_and(|is_gone| is_gone()) {
            return Err(EngineError::Cancelled.into());
        }
        Ok(self.engine.submit(request)?.values(self.is_gone)?)
    }
}

impl std::fmt::Debug for Until<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Until").finish_non_exhaustive()
    }
}

/// Scales `x` to length 1.
fn normalize(x: &mut [f32]) {
    let length = x
        .iter()
        .map(|v| f64::from(*v) * f64::from(*v))
        .sum::<f64>()
        .sqrt();
    if length > 0.0 {
        x.iter_mut()
            .for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}
