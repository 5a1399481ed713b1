//! How well documents answer a query: by a cross-encoder's head, or by what a generative model says.

use serde_json::Value;
use zse_engine::Generate;
use zse_model::sampler::SampleParams;
use zse_text::{Message, Role};

use crate::{ChatRequest, Engine, Error};

/// What a document is judged by where the caller does not say: Qwen3-Reranker's own words.
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// What a generative model is told to do.
const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the \
                      Instruct provided. Note that the answer can only be \"yes\" or \"no\".";

/// Above what any logit is.
const CERTAIN: f32 = 1e9;

impl Engine {
    /// Whether the model has a head that scores a query and a document.
    pub fn is_reranker(&self) -> bool {
        self.model().program.ranks()
    }

    /// The tokens of a query and a document, for [`relevance`](Self::relevance).
    ///
    /// A cross-encoder gets both as one sequence, `[CLS] query [SEP] document [SEP]`. Other models
    /// are asked, in the words of Qwen3-Reranker (Zhang et al. 2025, arXiv:2506.05176), whether the
    /// document meets the query by `instruction`: by the model's template `rerank`, if it has one,
    /// else by its chat template, without thinking first.
    ///
    /// # Errors
    /// If the chat template refuses the conversation.
    pub fn pair_tokens(
        &self,
        query: &str,
        document: &str,
        instruction: Option<&str>,
    ) -> Result<Vec<u32>, Error> {
        if self.is_reranker() {
            let tokenizer = self.tokenizer();
            let mut tokens = tokenizer.encode(query, true, false);
            tokens.extend(tokenizer.encode(document, false, false));
            tokens.extend(tokenizer.special_ids().sep);
            return Ok(tokens);
        }
        if let Some(template) = self.rerank_template() {
            let prompt = filled(template, query, document);
            return Ok(self.open_tokens(&prompt, true));
        }
        let instruction = instruction.unwrap_or(INSTRUCTION);
        let question =
            format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}");
        let mut request = ChatRequest::new(vec![
            Message::new(Role::System, SYSTEM),
            Message::new(Role::User, question),
        ]);
        request
            .extra
            .insert("enable_thinking".to_owned(), Value::Bool(false));
        self.chat_tokens(&request)
    }

    /// How relevant the document is that [`pair_tokens`](Self::pair_tokens) put behind a query, from
    /// 0 to 1: the sigmoid of the head's logit, or the probability of "yes" against "no" as the next
    /// token. `salt` as in [`Generate::salt`].
    ///
    /// # Errors
    /// If the tokens do not fit, or the model gives embeddings, or has no words for the answer.
    pub fn relevance(&self, tokens: Vec<u32>, salt: &str) -> Result<f32, Error> {
        if self.is_reranker() {
            let scores = self.pooled(tokens)?;
            return Ok(scores.first().map_or(f32::NAN, |&logit| sigmoid(logit)));
        }
        let [yes, no] = ["yes", "no"].map(|word| {
            let tokens = self.tokenizer().encode(word, false, false);
            tokens.first().copied()
        });
        let (Some(yes), Some(no)) = (yes, no) else {
            return Err(Error::Failed("the vocabulary has no yes and no".to_owned()));
        };
        let yes = self.next_logprob(tokens.clone(), yes, salt)?;
        let no = self.next_logprob(tokens, no, salt)?;
        Ok(sigmoid(yes - no))
    }

    /// The log-probability of `token` behind a prompt.
    fn next_logprob(&self, prompt: Vec<u32>, token: u32, salt: &str) -> Result<f32, Error> {
        let settings = Generate {
            params: SampleParams {
                logit_bias: vec![(token, CERTAIN)],
                ..SampleParams::greedy()
            },
            max_tokens: Some(1),
            salt: salt.to_owned(),
            ..Generate::default()
        };
        let done = self.generate_tokens(prompt, &settings)?.complete()?;
        let drawn = done.tokens.iter().find(|drawn| drawn.id == token);
        let lost = || Error::Failed("a token that was certain was not drawn".to_owned());
        drawn.map(|drawn| drawn.logprob).ok_or_else(lost)
    }
}

/// The logistic function.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A template as llama.cpp's converter writes it: what it names is put in its place once, whatever
/// that spells itself.
fn filled(template: &str, query: &str, document: &str) -> String {
    let mut filled = String::with_capacity(template.len() + query.len() + document.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, here) = rest.split_at(open);
        filled.push_str(before);
        rest = match here {
            here if here.starts_with("{query}") => {
                filled.push_str(query);
                &here["{query}".len()..]
            }
            here if here.starts_with("{document}") => {
                filled.push_str(document);
                &here["{document}".len()..]
            }
            here => {
                filled.push('{');
                &here[1..]
            }
        };
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_template_is_not_looked_into() {
        let template = "Q: {query} D: {document} {x}";
        let text = filled(template, "{document}", "{query} {");
        assert_eq!(text, "Q: {document} D: {query} { {x}");
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn a_generative_model_says_yes_or_no() {
        let options = crate::LoadOptions::default();
        let engine = Engine::load(&crate::ModelSource::Builtin, &options).unwrap();
        let tokens = engine
            .pair_tokens("What is ZSE?", "A program.", None)
            .unwrap();
        let text = engine.tokenizer().decode(&tokens, true);
        for part in [
            SYSTEM,
            INSTRUCTION,
            "<Query>: What is ZSE?",
            "<Document>: A program.",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let score = engine.relevance(tokens.clone(), "").unwrap();
        assert!((0.0..=1.0).contains(&score), "{score}");
        // By the whole distribution, and not by what is drawn.
        let of = |word: &str| {
            let token = engine.tokenizer().encode(word, false, false)[0];
            let all = [&tokens[..], &[token]].concat();
            engine.score(all, tokens.len()).unwrap()[0]
        };
        let expected = sigmoid(of("yes") - of("no"));
        assert!((score - expected).abs() < 1e-6, "{score} is not {expected}");
    }
}
