//! Log-probabilities as OpenAI's two kinds of completions show them.

use serde_json::{Map, Value, json};
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

/// The entries of `choices[].logprobs.content`: OpenAI's of a chat, with the ids that llama.cpp's
/// server adds.
pub(crate) fn content(tokens: &[TokenInfo], tokenizer: &Tokenizer) -> Vec<Value> {
    let one = |id: u32, logprob: f32| {
        json!({
            "id": id,
            "token": text(tokenizer, id),
            "logprob": finite(logprob),
            "bytes": tokenizer.token_bytes(id),
        })
    };
    let entry = |info: &TokenInfo| {
        let mut entry = one(info.id, info.logprob);
        let top = info.top.iter();
        entry["top_logprobs"] = top.map(|&(id, logprob)| one(id, logprob)).collect();
        entry
    };
    shown(tokens, tokenizer).map(entry).collect()
}

/// `choices[].logprobs` of a completion: lists that run side by side.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Characters of the text before the next token.
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
            self.add(tokenizer, info.id, Some(info.logprob), top.into());
        }
    }

    /// Adds a token of the prompt, whose first one has no probability.
    pub(crate) fn prompt(&mut self, tokenizer: &Tokenizer, id: u32, logprob: Option<f32>) {
        self.add(tokenizer, id, logprob, Value::Null);
    }

    fn add(&mut self, tokenizer: &Tokenizer, id: u32, logprob: Option<f32>, top: Value) {
        let text = text(tokenizer, id);
        self.offsets.push(self.offset.into());
        self.offset += text.chars().count();
        self.tokens.push(text.into());
        self.logprobs.push(logprob.map(finite).into());
        self.top.push(top);
    }

    /// The object.
    pub(crate) fn value(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}
