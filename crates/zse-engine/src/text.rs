//! From drawn tokens to text that is certain, up to what stops a generation.

use zse_text::{DecodeStream, StopMatcher, Tokenizer};

use crate::event::FinishReason;
use crate::request::Generate;

/// Decodes the tokens of one continuation and looks for what ends it.
pub(crate) struct TextOutput {
    decoder: Option<DecodeStream>,
    matcher: StopMatcher,
    stops: Vec<String>,
    /// Tokens that end the generation, sorted.
    stop_tokens: Vec<u32>,
}

impl TextOutput {
    pub(crate) fn new(request: &Generate, prompt: &[u32], tokenizer: Option<&Tokenizer>) -> Self {
        let mut stop_tokens = request.stop_tokens.clone();
        if !request.ignore_eos {
            stop_tokens.extend(tokenizer.map_or(&[][..], Tokenizer::eog));
        }
        stop_tokens.sort_unstable();
        Self {
            decoder: tokenizer.map(|t| {
                let stream = t.stream().after(prompt);
                match request.show_special {
                    true => stream.show_special(),
                    false => stream,
                }
            }),
            matcher: StopMatcher::new(&request.stop),
            stops: request.stop.clone(),
            stop_tokens,
        }
    }

    /// The text that became certain with `token`, and why the generation ends with it, if it does.
    pub(crate) fn push(&mut self, token: u32) -> (String, Option<FinishReason>) {
        if self.stop_tokens.binary_search(&token).is_ok() {
            let (text, stop) = self.flush();
            return (text, stop.or(Some(FinishReason::Stop(Some(token)))));
        }
        let text = self
            .decoder
            .as_mut()
            .map(|d| d.push(token))
            .unwrap_or_default();
        self.certain(&text)
    }

    /// The rest of the text at the end of the generation; its last character, completed by U+FFFD,
    /// may complete a stop string.
    pub(crate) fn flush(&mut self) -> (String, Option<FinishReason>) {
        let rest = self
            .decoder
            .as_mut()
            .map(DecodeStream::flush)
            .unwrap_or_default();
        let (mut text, stop) = self.certain(&rest);
        text.push_str(&self.matcher.finish());
        (text, stop)
    }

    /// The text that is certain now that `text` came, and the stop string that ends it, if one does.
    fn certain(&mut self, text: &str) -> (String, Option<FinishReason>) {
        let text = self.matcher.push(text);
        let stop = self.matcher.found().map(|i| self.stops[i].clone());
        (text, stop.map(FinishReason::StopString))
    }
}
