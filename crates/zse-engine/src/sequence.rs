//! One sequence: its tokens, how far they are computed, and what is wanted of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zse_model::executor::{AdapterUse, Output, TokenMask, Want};
use zse_text::GrammarState;

use crate::event::{Event, FinishReason, Finished, Timings, TokenInfo, Usage};
use crate::generation::Generation;
use crate::kv::BlockTable;
use crate::score;

/// Names a sequence; in order of urgency, then of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeqId {
    pub(crate) rank: Rank,
    pub(crate) request: u64,
    pub(crate) choice: u32,
}

/// How urgent a sequence is: the smaller, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// It was overtaken often enough.
    First,
    /// As [`Generate::priority`](crate::Generate::priority).
    Of(i32),
}

/// What is wanted of a sequence.
pub(crate) enum Goal {
    Generate(Box<Generation>),
    Score {
        /// Index of the first token to score.
        from: usize,
        /// How many of the most likely tokens are told with each.
        top: u32,
        /// How many are scored.
        done: usize,
    },
    Embed,
}

pub(crate) struct Sequence {
    pub(crate) id: SeqId,
    /// Its channel is full: not to be computed now.
    pub(crate) stalled: bool,
    /// Blocks of the KV cache, for at least `cached` tokens.
    pub(crate) table: BlockTable,
    /// Whose blocks of the prefix cache it finds, and who finds its own; `None`: nobody's.
    salt: Option<Arc<str>>,
    /// What is added to the model.
    adapters: Vec<AdapterUse>,
    /// The prompt, then what was drawn.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// How many tokens are in the KV cache.
    cached: usize,
    /// How many of them were computed already when it started for the first time.
    shared: Option<usize>,
    goal: Goal,
    finished: Option<FinishReason>,
    queued: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Sequence {
    /// A sequence that has computed nothing yet and arrived at `now`.
    pub(crate) fn new(
        id: SeqId,
        prompt: Vec<u32>,
        salt: Option<Arc<str>>,
        goal: Goal,
        now: Instant,
    ) -> Self {
        Self {
            id,
            stalled: false,
            table: BlockTable::default(),
            salt,
            adapters: Vec::new(),
            prompt_len: prompt.len(),
            tokens: prompt,
            cached: 0,
            shared: None,
            goal,
            finished: None,
            queued: now,
            started: None,
            first: None,
            last: None,
        }
    }

    /// The same with adapters, which its salt must know.
    pub(crate) fn with_adapters(self, adapters: Vec<AdapterUse>) -> Self {
        Self { adapters, ..self }
    }

    pub(crate) fn adapters(&self) -> &[AdapterUse] {
        &self.adapters
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn cached(&self) -> usize {
        self.cached
    }

    /// How many tokens are to be computed before anything can be drawn. The last token of a text
    /// that is scored predicts nothing that is wanted.
    pub(crate) fn pending(&self) -> usize {
        let computed = match self.goal {
            Goal::Score { .. } => self.tokens.len() - 1,
            Goal::Generate(_) | Goal::Embed => self.tokens.len(),
        };
        computed - self.cached
    }

    /// Whether its next step computes just the token that was drawn last.
    pub(crate) fn is_decoding(&self) -> bool {
        self.tokens.len() > self.prompt_len && self.pending() == 1
    }

    /// Tokens for which there must be blocks before it starts: one that is drawn included, so
    /// that it does not have to give way at once.
    pub(crate) fn tokens_to_start(&self) -> usize {
        match &self.goal {
            Goal::Generate(g) if g.draws() => self.tokens.len() + 1,
            _ => self.cached + self.pending(),
        }
    }

    /// How much of the prompt it could take over from the first continuation of its request,
    /// instead of computing it: all but the token whose logits it needs. `None` for that first
    /// continuation, and for one that has computed something.
    pub(crate) fn shareable(&self) -> Option<usize> {
        let fresh = self.cached == 0 && self.tokens.len() == self.prompt_len;
        (self.id.choice > 0 && fresh && self.prompt_len > 1).then(|| self.prompt_len - 1)
    }

    /// Whose part of the prefix cache it uses, if any.
    pub(crate) fn salt(&self) -> Option<&Arc<str>> {
        self.salt.as_ref()
    }

    /// How many of its tokens need not be computed if they are in the prefix cache: those whose
    /// results nobody waits for. Never all.
    pub(crate) fn findable(&self) -> usize {
        match &self.goal {
            Goal::Generate(_) => self.tokens.len() - 1,
            Goal::Score { from, done, .. } => from + done - 1,
            Goal::Embed => 0,
        }
    }

    /// Whether it has not started yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.shared.is_none()
    }

    /// Takes over `table`, which holds its first `tokens` tokens.
    pub(crate) fn adopt(&mut self, table: BlockTable, tokens: usize) {
        self.table = table;
        self.cached = tokens;
    }

    /// Notes that it starts with what it has taken over.
    pub(crate) fn note_start(&mut self) {
        self.shared.get_or_insert(self.cached);
    }

    /// Forgets what was computed, but nothing that was drawn.
    pub(crate) fn restart(&mut self) {
        self.cached = 0;
    }

    /// How many results computing the tokens `range` gives.
    pub(crate) fn results(&self, range: &Range<usize>) -> usize {
        match &self.goal {
            Goal::Generate(g) => usize::from(g.draws() && range.end == self.tokens.len()),
            // The logits of token i score token i + 1.
            Goal::Score { from, done, .. } => {
                range.end.saturating_sub(range.start.max(from + done - 1))
            }
            Goal::Embed => usize::from(range.end == self.tokens.len()),
        }
    }

    /// What is wanted of the tokens `range`, with the index of each token. Empty for embeddings,
    /// which a program gives unasked.
    pub(crate) fn wants(&self, range: &Range<usize>) -> Vec<(usize, Want)> {
        let first = range.end - self.results(range);
        match &self.goal {
            Goal::Generate(g) => (first..range.end)
                .map(|i| {
                    (
                        i,
                        Want::Sample(Box::new(g.job(&self.tokens, self.id.choice))),
                    )
                })
                .collect(),
            Goal::Score { top, .. } => (first..range.end)
                .map(|i| (i, score::want(self.tokens[i + 1], *top)))
                .collect(),
            Goal::Embed => Vec::new(),
        }
    }

    /// Gives away what says which tokens may be drawn next, if not all may.
    pub(crate) fn take_grammar(&mut self) -> Option<GrammarState> {
        match &mut self.goal {
            Goal::Generate(g) => g.take_grammar(),
            Goal::Score { .. } | Goal::Embed => None,
        }
    }

    /// Has it back.
    pub(crate) fn put_grammar(&mut self, grammar: GrammarState) {
        if let Goal::Generate(g) = &mut self.goal {
            g.put_grammar(grammar);
        }
    }

    /// Whether it has not got it back.
    pub(crate) fn lacks_grammar(&self) -> bool {
        matches!(&self.goal, Goal::Generate(g) if g.lacks_grammar())
    }

    /// Whether its biases leave a token of a mask.
    pub(crate) fn may_draw(&self, mask: &TokenMask) -> bool {
        match &self.goal {
            Goal::Generate(g) => g.may_draw(mask),
            Goal::Score { .. } | Goal::Embed => true,
        }
    }

    /// Notes that a step that computes some of its tokens begins at `now`: how long it waited, if it
    /// is the first.
    pub(crate) fn start(&mut self, now: Instant) -> Option<Duration> {
        let is_first = self.started.is_none();
        self.started.get_or_insert(now);
        is_first.then(|| now.saturating_duration_since(self.queued))
    }

    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// When it came.
    pub(crate) fn queued(&self) -> Instant {
        self.queued
    }

    /// When it gave its last result.
    pub(crate) fn last_result(&self) -> Option<Instant> {
        self.last
    }

    /// Takes in the results of a step that computed the tokens up to `end`, as many as
    /// [`results`](Self::results) says.
    pub(crate) fn advance(
        &mut self,
        end: usize,
        results: Vec<Output>,
        now: Instant,
    ) -> Option<Event> {
        self.cached = end;
        if !results.is_empty() || self.pending() == 0 {
            self.first.get_or_insert(now);
            self.last = Some(now);
        }
        match &mut self.goal {
            Goal::Generate(g) => {
                let Some(result) = results.into_iter().next() else {
                    if !g.draws() && self.pending() == 0 {
                        self.finish(FinishReason::Length);
                    }
                    return None;
                };
                let Output::Sampled(sampled) = result else {
                    return self.unexpected();
                };
                self.tokens.push(sampled.token);
                let (text, reason) = g.accept(&sampled, self.tokens.len());
                self.finished = reason;
                let token = TokenInfo {
                    id: sampled.token,
                    logprob: sampled.logprob,
                    top: sampled.top,
                };
                Some(Event::Tokens {
                    choice: self.id.choice,
                    tokens: vec![token],
                    text,
                })
            }
            Goal::Score { done, .. } => {
                // The logits of a token score the next one.
                let scored = &self.tokens[end + 1 - results.len()..];
                let results = scored.iter().zip(results);
                let scores: Option<Vec<TokenInfo>> = results
                    .map(|(&token, result)| score::read(token, result))
                    .collect();
                let Some(scores) = scores else {
                    return self.unexpected();
                };
                *done += scores.len();
                if self.pending() == 0 {
                    self.last = Some(now);
                    self.finish(FinishReason::Stop(None));
                }
                (!scores.is_empty()).then_some(Event::Scores(scores))
            }
            Goal::Embed => {
                let Some(Output::Pooled(embedding)) = results.into_iter().next() else {
                    return self.unexpected();
                };
                self.finish(FinishReason::Stop(None));
                Some(Event::Embedding(embedding))
            }
        }
    }

    /// The executor broke its contract.
    fn unexpected(&mut self) -> Option<Event> {
        self.finish(FinishReason::Failed(
            "the executor gave a result that was not asked for".into(),
        ));
        None
    }

    /// Ends it, unless it has ended already.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        self.finished.get_or_insert(reason);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Why it ended, if it has.
    pub(crate) fn finish_reason(&self) -> Option<&FinishReason> {
        self.finished.as_ref()
    }

    /// The last event of a sequence that has ended.
    pub(crate) fn into_finished(self) -> Finished {
        let (completion_tokens, scores) = match &self.goal {
            Goal::Generate(g) => (g.drawn(), false),
            Goal::Score { .. } | Goal::Embed => (0, true),
        };
        let span = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_duration_since(from),
            _ => Default::default(),
        };
        // Scores and embeddings have no decoding: all of their time is the prompt's.
        let prompt_end = if scores { self.last } else { self.first };
        Finished {
            choice: self.id.choice,
            reason: self.finished.unwrap_or(FinishReason::Cancelled),
            usage: Usage {
                prompt_tokens: self.prompt_len,
                shared_tokens: self.shared.unwrap_or_default(),
                completion_tokens,
            },
            timings: Timings {
                queued: span(Some(self.queued), self.started),
                prompt: span(self.started, prompt_end),
                decode: span(prompt_end, self.last),
            },
        }
    }
}
