//! The state of one continuation: how its tokens are drawn and when it ends.

use std::sync::Arc;

use zse_model::executor::{SampleJob, Sampled, TokenMask};
use zse_model::sampler::SampleParams;
use zse_text::{GrammarState, Tokenizer};

use crate::drawn::Settings;
use crate::event::FinishReason;
use crate::request::Generate;
use crate::text::TextOutput;

pub(crate) struct Generation {
    settings: Settings,
    /// The same with end-of-generation tokens forbidden, and for how many tokens that holds.
    endless: Option<(usize, Settings)>,
    max_tokens: Option<usize>,
    /// Tokens that the sequence may have, prompt included.
    limit: usize,
    drawn: usize,
    mu: f32,
    text: TextOutput,
    /// How far the text has come in the grammar that it must follow.
    grammar: Option<GrammarState>,
    /// It is where masks are made.
    lacks_grammar: bool,
}

impl Generation {
    /// The continuation of `prompt` to at most `limit` tokens in all. Without a tokenizer there is
    /// no text, and no token ends the generation unless the request names it. With a grammar, it ends
    /// when that does.
    pub(crate) fn new(
        request: &Generate,
        prompt: &[u32],
        tokenizer: Option<&Tokenizer>,
        limit: usize,
        grammar: Option<GrammarState>,
    ) -> Self {
        let eog = tokenizer.map_or(&[][..], Tokenizer::eog);
        let min_tokens = if request.ignore_eos {
            usize::MAX
        } else {
            request.min_tokens
        };
        let endless = (min_tokens > 0 && !eog.is_empty()).then(|| {
            let mut params = request.params.clone();
            params
                .logit_bias
                .extend(eog.iter().map(|&token| (token, f32::NEG_INFINITY)));
            (min_tokens, Settings::new(params, request.count_drawn))
        });
        Self {
            settings: Settings::new(request.params.clone(), request.count_drawn),
            endless,
            max_tokens: request.max_tokens,
            limit,
            drawn: 0,
            mu: request.params.initial_mu(),
            text: TextOutput::new(request, prompt, tokenizer),
            grammar,
            lacks_grammar: false,
        }
    }

    /// Whether anything is drawn at all.
    pub(crate) fn draws(&self) -> bool {
        self.max_tokens != Some(0)
    }

    /// How many tokens were drawn.
    pub(crate) fn drawn(&self) -> usize {
        self.drawn
    }

    /// How the next token is drawn.
    fn params(&self) -> &Arc<SampleParams> {
        match &self.endless {
            Some((until, endless)) if self.drawn < *until => endless.params(),
            _ => self.settings.params(),
        }
    }

    /// Whether the biases leave a token of a mask.
    pub(crate) fn may_draw(&self, mask: &TokenMask) -> bool {
        let forbidden = self.params().logit_bias.iter();
        let forbidden = forbidden.filter(|&&(_, bias)| bias == f32::NEG_INFINITY);
        let allowed: usize = mask.iter().map(|word| word.count_ones() as usize).sum();
        if allowed > forbidden.clone().count() {
            return true;
        }
        let mut left = mask.clone();
        for &(token, _) in forbidden {
            if let Some(word) = left.get_mut(token as usize / 64) {
                *word &= !(1 << (token % 64));
            }
        }
        left.iter().any(|&word| word != 0)
    }

    /// How the token after `tokens` is drawn.
    pub(crate) fn job(&self, tokens: &[u32], choice: u32) -> SampleJob {
        let params = self.params();
        let start = tokens.len().saturating_sub(params.lookback());
        SampleJob {
            params: Arc::clone(params),
            history: tokens[start..].to_vec(),
            choice,
            position: tokens.len() as u64,
            mu: self.mu,
        }
    }

    /// Gives away what says which tokens may be drawn next, if not all may.
    pub(crate) fn take_grammar(&mut self) -> Option<GrammarState> {
        let grammar = self.grammar.take();
        self.lacks_grammar = grammar.is_some();
        grammar
    }

    /// Has it back.
    pub(crate) fn put_grammar(&mut self, grammar: GrammarState) {
        self.grammar = Some(grammar);
        self.lacks_grammar = false;
    }

    /// Whether it has not got it back.
    pub(crate) fn lacks_grammar(&self) -> bool {
        self.lacks_grammar
    }

    /// Takes in a token that was drawn, the last of now `len`: the text that became certain, and
    /// why the generation ends with it, if it does.
    pub(crate) fn accept(
        &mut self,
        sampled: &Sampled,
        len: usize,
    ) -> (String, Option<FinishReason>) {
        self.drawn += 1;
        self.mu = sampled.mu;
        self.settings.note(sampled.token);
        if let Some((_, endless)) = &mut self.endless {
            endless.note(sampled.token);
        }
        let (mut text, mut reason) = self.text.push(sampled.token);
        if reason.is_none()
            && let Some(grammar) = &mut self.grammar
        {
            reason = match grammar.accept(sampled.token) {
                Ok(()) => grammar.is_over().then_some(FinishReason::Stop(None)),
                Err(error) => Some(FinishReason::Failed(error.to_string())),
            };
        }
        if reason.is_none() && self.max_tokens == Some(self.drawn) {
            reason = Some(FinishReason::Length);
        }
        if reason.is_none() && len >= self.limit {
            reason = Some(FinishReason::ContextFull);
        }
        if matches!(
            reason,
            Some(FinishReason::Length | FinishReason::ContextFull | FinishReason::Stop(None))
        ) {
            let (rest, stop) = self.text.flush();
            text.push_str(&rest);
            reason = stop.or(reason);
        }
        (text, reason)
    }
}
