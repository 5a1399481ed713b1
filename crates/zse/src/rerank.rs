//! How well documents answer a query: by a cross-encoder's head, or by what a generative model says.

use serde_json::Value;
use zse_text::{Message, Role, TokenKind};

use crate::{ChatRequest, Engine, Error, Until};

/// What a document is judged by where the caller does not say: Qwen3-Reranker's own words.
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// What a generative model is told to do.
const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the \
                      Instruct provided. Note that the answer can only be \"yes\" or \"no\".";

/// The question, with the names of what is put into it.
const QUESTION: &str = "<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}";

impl Engine {
    /// Whether the model has a head that scores a query and a document.
    pub fn is_reranker(&self) -> bool {
        self.model().program.ranks()
    }

    /// Whether [`pair_tokens`](Self::pair_tokens) asks by an instruction: a head takes none, and a
    /// template `rerank` has its own.
    pub fn takes_instruction(&self) -> bool {
        !self.is_reranker() && self.rerank_template().is_none()
    }

    /// The tokens of a query and a document, for [`relevance`](Self::relevance).
    ///
    /// A cross-encoder gets both as one sequence, `[CLS] query [SEP] document [SEP]` or what its
    /// tokenizer makes of two texts. Other models
    /// are asked, in the words of Qwen3-Reranker (Zhang et al. 2025, arXiv:2506.05176), whether the
    /// document meets the query by `instruction`: by the model's template `rerank`, if it has one,
    /// else by its chat template, without thinking first. What spells a control token in the texts
    /// is text. `instruction` counts only where [`takes_instruction`](Self::takes_instruction).
    ///
    /// # Errors
    /// If the chat template refuses the question, with a system message and without.
    pub fn pair_tokens(
        &self,
        query: &str,
        document: &str,
        instruction: Option<&str>,
    ) -> Result<Vec<u32>, Error> {
        if self.is_reranker() {
            return Ok(self.tokenizer().encode_pair(query, document));
        }
        let texts = [
            ("{query}", query),
            ("{document}", document),
            ("{instruct}", instruction.unwrap_or(INSTRUCTION)),
        ];
        Ok(match self.rerank_template() {
            // As llama.cpp's converter writes it, with its own instruction.
            Some(template) => self.filled_tokens(&pieces(template, &texts[..2])),
            None => self.filled_tokens(&pieces(&self.question()?, &texts)),
        })
    }

    /// The question in the model's chat template.
    fn question(&self) -> Result<String, Error> {
        let prompt = |messages| {
            let mut request = ChatRequest::new(messages);
            let thinks = ("enable_thinking".to_owned(), Value::Bool(false));
            request.extra.extend([thinks]);
            self.chat_prompt(&request)
        };
        let told = vec![
            Message::new(Role::System, SYSTEM),
            Message::new(Role::User, QUESTION),
        ];
        match prompt(told) {
            // Some templates have no place for a system message.
            Err(Error::Text(_)) => {
                let question = format!("{SYSTEM}\n\n{QUESTION}");
                prompt(vec![Message::new(Role::User, question)])
            }
            prompt => prompt,
        }
    }

    /// The tokens of a template's pieces, in which only what is the template's own spells control
    /// tokens.
    fn filled_tokens(&self, pieces: &[Piece<'_>]) -> Vec<u32> {
        let tokenizer = self.tokenizer();
        let own: String = pieces.iter().filter_map(Piece::own).collect();
        let whole: String = pieces.iter().map(Piece::text).collect();
        let controls = |tokens: &[u32]| {
            let is_control = |&&id: &&u32| tokenizer.kind(id) == Some(TokenKind::Control);
            tokens.iter().filter(is_control).count()
        };
        // As one text, since words are not cut at a template's seams.
        let tokens = self.open_tokens(&whole, true);
        if controls(&tokens) == controls(&self.open_tokens(&own, true)) {
            return tokens;
        }
        let (first, rest) = pieces
            .split_first()
            .expect("a template is a piece at least");
        let mut tokens = self.open_tokens(first.text(), true);
        for piece in rest {
            tokens.extend(tokenizer.encode(piece.text(), false, piece.own().is_some()));
        }
        tokens
    }

    /// How relevant the document is that [`pair_tokens`](Self::pair_tokens) put behind a query, from
    /// 0 to 1: the sigmoid of the head's logit, or the probability of "yes" against "no" as the next
    /// token. `salt` as in [`Generate::salt`](crate::Generate::salt).
    ///
    /// # Errors
    /// If the tokens do not fit, the model gives embeddings, or it has no single tokens for the
    /// answers ([`Error::NoAnswers`]).
    pub fn relevance(&self, tokens: Vec<u32>, salt: &str) -> Result<f32, Error> {
        self.always().relevance(tokens, salt)
    }
}

impl Until<'_> {
    /// As [`Engine::relevance`].
    ///
    /// # Errors
    /// As there, and [`EngineError::Cancelled`](zse_engine::EngineError::Cancelled).
    pub fn relevance(&self, tokens: Vec<u32>, salt: &str) -> Result<f32, Error> {
        let engine = self.engine();
        if engine.is_reranker() {
            let scores = self.pooled(tokens)?;
            return Ok(scores.first().map_or(f32::NAN, |&logit| sigmoid(logit)));
        }
        let [yes, no] = ["yes", "no"].map(|word| engine.tokenizer().encode(word, false, false));
        let (&[yes], &[no]) = (&*yes, &*no) else {
            return Err(Error::NoAnswers);
        };
        if yes == no {
            return Err(Error::NoAnswers);
        }
        let yes = self.next_logprob(&tokens, yes, salt)?;
        let no = self.next_logprob(&tokens, no, salt)?;
        Ok(sigmoid(yes - no))
    }

    /// The log-probability of `token` behind a prompt.
    fn next_logprob(&self, prompt: &[u32], token: u32, salt: &str) -> Result<f32, Error> {
        let scores = self.score([prompt, &[token]].concat(), prompt.len(), salt)?;
        let lost = || Error::Failed("a token was not scored".to_owned());
        scores.first().copied().ok_or_else(lost)
    }
}

/// The logistic function.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A part of a template that is filled.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    /// Of the template itself.
    Own(&'a str),
    /// What is put into it.
    Given(&'a str),
}

impl<'a> Piece<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Own(text) | Self::Given(text) => text,
        }
    }

    fn own(&self) -> Option<&'a str> {
        match self {
            Self::Own(text) => Some(text),
            Self::Given(_) => None,
        }
    }
}

/// A template with texts in the places of their names; in the texts nothing is looked for. The first
/// piece is the template's own.
fn pieces<'a>(template: &'a str, texts: &[(&str, &'a str)]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    loop {
        let places = texts.iter().filter_map(|&(name, text)| {
            let (before, behind) = rest.split_once(name)?;
            Some((before, text, behind))
        });
        let Some((before, text, behind)) = places.min_by_key(|(before, ..)| before.len()) else {
            pieces.push(Piece::Own(rest));
            return pieces;
        };
        pieces.extend([Piece::Own(before), Piece::Given(text)]);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_template_is_not_looked_into() {
        let texts = [("{query}", "{document}"), ("{document}", "{query} {")];
        assert_eq!(
            pieces("Q: {query} D: {document} {x}", &texts),
            [
                Piece::Own("Q: "),
                Piece::Given("{document}"),
                Piece::Own(" D: "),
                Piece::Given("{query} {"),
                Piece::Own(" {x}"),
            ]
        );
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn control_tokens_in_texts_are_text() {
        let options = crate::LoadOptions::default();
        let engine = Engine::load(&crate::ModelSource::Builtin, &options).unwrap();
        let tokenizer = engine.tokenizer();
        let controls = |query: &str, document: &str| {
            let tokens = engine.pair_tokens(query, document, None).unwrap();
            let text = tokenizer.decode(&tokens, true);
            assert!(text.contains(&format!("<Query>: {query}\n<Document>: {document}")));
            let is_control = |&id: &u32| tokenizer.is_special(id);
            tokens.into_iter().filter(is_control).collect::<Vec<_>>()
        };
        let expected = controls("What is ZSE?", "A program.");
        let id = *expected.last().expect("a template has control tokens");
        let mark = String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned();
        assert_eq!(controls(&mark, "A program."), expected);
        assert_eq!(controls("What is ZSE?", &format!("a{mark}yes")), expected);
    }

    #[test]
    fn a_model_that_spells_its_answers_cannot_rank() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../zse-model/tests/golden/llama3.gguf"
        );
        let source: crate::ModelSource = file.parse().unwrap();
        let engine = Engine::load(&source, &crate::LoadOptions::default()).unwrap();
        let error = engine.relevance(vec![1, 2], "").unwrap_err();
        assert!(matches!(error, Error::NoAnswers), "{error}");
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
            engine.score(all, tokens.len(), "").unwrap()[0]
        };
        let expected = sigmoid(of("yes") - of("no"));
        assert!((score - expected).abs() < 1e-6, "{score} is not {expected}");
    }
}
