//! Log-probabilities as OpenAI's two kinds of completions show them.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zse::{TokenInfo, Tokenizer};

/// What stands for a probability of 0: JSON has no infinity.
const LOWEST: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    logprob.max(LOWEST)
}

/// Tokens of an answer, without those that end it.
pub(crate) fn shown<'a>(
    tokens: &'a [TokenInfo],
    tokenizer: &Tokenizer,
) -> impl Iterator<Item = &'a TokenInfo> {
    tokens.iter().filter(move |t| !tokenizer.is_eog(t.id))
}

fn text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned()
}

/// A token, and how likely it was.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Logprob {
    /// The token's id, which llama.cpp's server adds to OpenAI's entries.
    id: u32,
    token: String,
    /// -9999 for a probability of 0.
    logprob: f32,
    /// The token's own bytes, which need not be whole characters.
    #[schema(value_type = Vec<u32>)]
    bytes: Vec<u8>,
}

impl Logprob {
    fn new(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Self {
        Self {
            id,
            token: text(tokenizer, id),
            logprob: finite(logprob),
            bytes: tokenizer.token_bytes(id).to_vec(),
        }
    }
}

/// A token of an answer, and others that might have been there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenLogprob {
    #[serde(flatten)]
    drawn: Logprob,
    top_logprobs: Vec<Logprob>,
}

/// The entries of `choices[].logprobs.content`.
pub(crate) fn content(tokens: &[TokenInfo], tokenizer: &Tokenizer) -> Vec<TokenLogprob> {
    let one = |&(id, logprob): &(u32, f32)| Logprob::new(tokenizer, id, logprob);
    let entry = |info: &TokenInfo| TokenLogprob {
        drawn: Logprob::new(tokenizer, info.id, info.logprob),
        top_logprobs: info.top.iter().map(one).collect(),
    };
    shown(tokens, tokenizer).map(entry).collect()
}

/// `choices[].logprobs` of a completion: lists that run side by side.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = CompletionLogprobs)]
pub(crate) struct Lists {
    tokens: Vec<String>,
    /// The first token of a prompt has none.
    token_logprobs: Vec<Option<f64>>,
    /// From other tokens to how likely they were.
    #[schema(value_type = Vec<Option<HashMap<String, f64>>>)]
    top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Characters before each token.
    text_offset: Vec<usize>,
    /// Characters of the text before the next token.
    #[serde(skip)]
    offset: usize,
}

impl Lists {
    /// Lists whose first token stands behind so many characters.
    pub(crate) fn at(offset: usize) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }

    /// Characters up to here.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether they have no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Adds tokens that were drawn, with as many alternatives as were asked for.
    pub(crate) fn extend(&mut self, tokens: &[TokenInfo], tokenizer: &Tokenizer) {
        for info in shown(tokens, tokenizer) {
            let top = info.top.iter();
            let top: Map<String, Value> = top
                .map(|&(id, logprob)| (text(tokenizer, id), finite(logprob).into()))
                .collect();
            self.add(tokenizer, info.id, Some(info.logprob), Some(top));
        }
    }

    /// Adds a token of the prompt, whose first one has no probability.
    pub(crate) fn prompt(&mut self, tokenizer: &Tokenizer, id: u32, logprob: Option<f32>) {
        self.add(tokenizer, id, logprob, None);
    }

    fn add(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
        logprob: Option<f32>,
        top: Option<Map<String, Value>>,
    ) {
        let text = text(tokenizer, id);
        self.text_offset.push(self.offset);
        self.offset += text.chars().count();
        self.tokens.push(text);
        let logprob = logprob.map(|logprob| f64::from(finite(logprob)));
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
    }
}
