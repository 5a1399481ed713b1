//! Log-probabilities as OpenAI's two kinds of completions show them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use zse::{DecodeStream, TokenInfo, Tokenizer};

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
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
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
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
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

/// A token of the lists.
#[derive(Clone, Debug)]
struct Listed {
    id: u32,
    logprob: Option<f32>,
    top: Vec<(u32, f32)>,
    /// Characters before it.
    offset: usize,
}

impl Listed {
    fn logprob(&self) -> Option<f64> {
        self.logprob.map(|logprob| f64::from(finite(logprob)))
    }

    /// The most likely tokens and itself, by text. Of tokens that look alike the most likely counts.
    fn top(&self, tokenizer: &Tokenizer) -> Option<BTreeMap<String, f64>> {
        let itself = (self.id, self.logprob?);
        let mut top = BTreeMap::new();
        for &(id, logprob) in self.top.iter().chain([&itself]) {
            let text = text(tokenizer, id);
            top.entry(text).or_insert(f64::from(finite(logprob)));
        }
        Some(top)
    }
}

/// The tokens of a prompt that is given back, as lists have them.
#[derive(Clone, Debug)]
pub(crate) struct PromptList(Arc<[Listed]>);

impl PromptList {
    /// The first token of `prompt`, which nothing is known of, and the others. `hidden`: how many
    /// tokens at the start have no place in its text.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        prompt: &[u32],
        hidden: usize,
        scores: Vec<TokenInfo>,
    ) -> Self {
        let mut stream = tokenizer.stream().show_special();
        let mut offset = 0;
        let scores = scores.into_iter().map(Some);
        let listed = prompt.iter().zip([None].into_iter().chain(scores));
        let listed = listed.enumerate().map(|(i, (&id, score))| {
            let at = offset;
            if i >= hidden {
                offset += stream.push(id).chars().count();
            }
            let logprob = score.as_ref().map(|score| score.logprob);
            Listed {
                id,
                logprob,
                top: score.map_or_else(Vec::new, |score| score.top),
                offset: at,
            }
        });
        Self(listed.collect())
    }
}

/// `choices[].logprobs` of a completion: lists that run side by side. Tokens become text when they are
/// written: that takes much more room.
#[derive(Debug)]
pub(crate) struct Lists {
    tokenizer: Tokenizer,
    prompt: Option<PromptList>,
    listed: Vec<Listed>,
    /// Reads the text, of which there are `offset` characters.
    stream: DecodeStream,
    offset: usize,
}

impl Lists {
    /// Lists of what follows `prompt`, behind so many characters.
    pub(crate) fn new(tokenizer: &Tokenizer, prompt: &[u32], offset: usize) -> Self {
        Self {
            stream: tokenizer.stream().after(prompt),
            tokenizer: tokenizer.clone(),
            prompt: None,
            listed: Vec::new(),
            offset,
        }
    }

    /// The same with the tokens of the prompt before.
    pub(crate) fn with_prompt(self, prompt: Option<PromptList>) -> Self {
        Self { prompt, ..self }
    }

    /// What there is; what comes later goes on behind it.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            tokenizer: self.tokenizer.clone(),
            prompt: self.prompt.take(),
            listed: std::mem::take(&mut self.listed),
            stream: self.stream.clone(),
            offset: self.offset,
        }
    }

    /// Whether they have no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed().next().is_none()
    }

    /// Adds tokens that were drawn, with as many alternatives as were asked for.
    pub(crate) fn extend(&mut self, tokens: &[TokenInfo]) {
        for info in tokens {
            self.listed.push(Listed {
                id: info.id,
                logprob: Some(info.logprob),
                top: info.top.clone(),
                offset: self.offset,
            });
            self.offset += self.stream.push(info.id).chars().count();
        }
    }

    fn listed(&self) -> impl Iterator<Item = &Listed> {
        let prompt = self.prompt.iter().flat_map(|prompt| prompt.0.iter());
        prompt.chain(&self.listed)
    }
}

impl Serialize for Lists {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokenizer = &self.tokenizer;
        let mut lists = serializer.serialize_struct("CompletionLogprobs", 4)?;
        let tokens = || self.listed().map(|token| text(tokenizer, token.id));
        lists.serialize_field("tokens", &List(tokens))?;
        let logprobs = || self.listed().map(Listed::logprob);
        lists.serialize_field("token_logprobs", &List(logprobs))?;
        let top = || self.listed().map(|token| token.top(tokenizer));
        lists.serialize_field("top_logprobs", &List(top))?;
        let offsets = || self.listed().map(|token| token.offset);
        lists.serialize_field("text_offset", &List(offsets))?;
        lists.end()
    }
}

impl PartialSchema for Lists {
    fn schema() -> RefOr<Schema> {
        let lists = [
            ("tokens", Vec::<String>::schema()),
            ("token_logprobs", Vec::<Option<f64>>::schema()),
            (
                "top_logprobs",
                Vec::<Option<HashMap<String, f64>>>::schema(),
            ),
            ("text_offset", Vec::<usize>::schema()),
        ];
        let what = "Lists with an entry for each token, the one that ends the text included: its text; \
                    how likely it was, null for the first of a prompt; the most likely tokens in its place and \
                    itself; the characters before it";
        let object = ObjectBuilder::new().description(Some(what));
        let with = |object: ObjectBuilder, (name, list)| object.property(name, list).required(name);
        lists.into_iter().fold(object, with).into()
    }
}

impl ToSchema for Lists {
    fn name() -> Cow<'static, str> {
        "CompletionLogprobs".into()
    }
}

/// A list of what an iterator gives, which is made anew for each time that it is written.
struct List<F>(F);

impl<F, I> Serialize for List<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zse::ModelSource;

    fn tokenizer() -> Tokenizer {
        let model = ModelSource::Builtin.open().expect("it is there");
        Tokenizer::from_metadata(model.metadata()).expect("it has a vocabulary")
    }

    fn info(id: u32, logprob: f32, top: &[(u32, f32)]) -> TokenInfo {
        TokenInfo {
            id,
            logprob,
            top: top.to_vec(),
        }
    }

    #[test]
    fn places_are_those_of_the_text_also_within_characters() {
        let tokenizer = tokenizer();
        let text = "Grüße, 漢字! ❤️ Once upon a time";
        let ids = tokenizer.encode(text, false, true);
        assert_eq!(tokenizer.decode(&ids, false), text);
        let bos = tokenizer.bos().expect("a token to begin with");
        let scores = |n| vec![info(0, -1.0, &[]); n];
        let bare = PromptList::new(&tokenizer, &ids, 0, scores(ids.len() - 1));
        let begun = [&[bos], &ids[..]].concat();
        let begun = PromptList::new(&tokenizer, &begun, 1, scores(ids.len()));
        let offsets = |list: &PromptList| list.0.iter().map(|t| t.offset).collect::<Vec<_>>();
        assert_eq!(offsets(&bare), offsets(&begun)[1..]);
        let mut whole = 0;
        for (token, id) in bare.0.iter().zip(ids) {
            let rest: String = text.chars().skip(token.offset).collect();
            let bytes = tokenizer.token_bytes(id);
            if let Ok(piece) = std::str::from_utf8(&bytes) {
                assert!(rest.starts_with(piece), "{piece:?} at {}", token.offset);
                whole += 1;
            }
        }
        assert!(whole > 5);
    }

    #[test]
    fn a_token_is_among_the_likely_ones_and_of_those_that_look_alike_the_best_counts() {
        let tokenizer = tokenizer();
        let size = tokenizer.vocab_size() as u32;
        let is_part = |id: &u32| std::str::from_utf8(&tokenizer.token_bytes(*id)).is_err();
        let parts: Vec<u32> = (0..size).filter(is_part).take(2).collect();
        let [a] = tokenizer.encode("a", false, false)[..] else {
            panic!("a letter is a token");
        };
        let mut lists = Lists::new(&tokenizer, &[a], 1);
        let top = [(parts[0], -0.5), (parts[1], -1.5)];
        lists.extend(&[info(a, -3.0, &top), info(a, f32::NEG_INFINITY, &[])]);
        let written = serde_json::to_value(&lists).expect("JSON");
        let expected = json!({
            "tokens": ["a", "a"], "token_logprobs": [-3.0, -9999.0],
            "top_logprobs": [{ "\u{fffd}": -0.5, "a": -3.0 }, { "a": -9999.0 }],
            "text_offset": [1, 2],
        });
        assert_eq!(written, expected);
    }
}
