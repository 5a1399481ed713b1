//! Which tokens a piece of an answer's text was made of: text lags behind tokens, and marks and
//! thoughts are none of it.

use zse::{TokenInfo, Tokenizer};

/// Tokens whose text has not come.
#[derive(Debug, Default)]
pub(super) struct Unspoken {
    /// What is left of the text of a token that was given.
    rest: Vec<u8>,
    tokens: Vec<(TokenInfo, Vec<u8>)>,
}

impl Unspoken {
    /// Adds tokens that were drawn.
    pub(super) fn extend(&mut self, tokens: &[TokenInfo], tokenizer: &Tokenizer) {
        let spelled = |token: &TokenInfo| {
            // Marks are no text.
            let bytes = match tokenizer.is_special(token.id) {
                true => Vec::new(),
                false => tokenizer.token_bytes(token.id).into_owned(),
            };
            (token.clone(), bytes)
        };
        self.tokens.extend(tokens.iter().map(spelled));
    }

    /// The tokens that spell `text`, each given once; those before them are forgotten. Empty if there
    /// are none.
    pub(super) fn take(&mut self, text: &str) -> Vec<TokenInfo> {
        let bytes = self.tokens.iter().flat_map(|(_, bytes)| bytes);
        let all: Vec<u8> = self.rest.iter().chain(bytes).copied().collect();
        // A line break may stand between two texts that none of them has.
        let Some(range) = find(&all, text).or_else(|| find(&all, text.strip_prefix('\n')?)) else {
            return Vec::new();
        };
        let mut end = self.rest.len();
        let mut taken = Vec::new();
        let mut count = 0;
        for (token, bytes) in &self.tokens {
            let start = end;
            if start >= range.end {
                break;
            }
            end += bytes.len();
            count += 1;
            if end > range.start {
                taken.push(token.clone());
            }
        }
        self.rest = all[range.end..end.max(range.end)].to_vec();
        self.tokens.drain(..count);
        taken
    }
}

/// Where `text` comes first.
fn find(all: &[u8], text: &str) -> Option<std::ops::Range<usize>> {
    let size = text.len();
    let mut windows = all.windows(size.max(1));
    let start = windows.position(|window| window == text.as_bytes())?;
    Some(start..start + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unspoken(pieces: &[&str]) -> Unspoken {
        let token = |(id, piece): (usize, &&str)| {
            let info = TokenInfo {
                id: id as u32,
                logprob: 0.0,
                top: Vec::new(),
            };
            (info, piece.as_bytes().to_vec())
        };
        Unspoken {
            rest: Vec::new(),
            tokens: pieces.iter().enumerate().map(token).collect(),
        }
    }

    #[test]
    fn each_token_comes_with_its_text_and_once() {
        let mut unspoken = unspoken(&[
            "<think>", "Hm", ".", "</think>", "\n", "It", " is f", "our", ".", "\n", "<x>", "So",
        ]);
        let mut ids =
            |text: &str| -> Vec<u32> { unspoken.take(text).iter().map(|token| token.id).collect() };
        assert_eq!(ids("Hm."), [1, 2]);
        assert_eq!(ids("It is"), [5, 6]);
        assert!(ids(" f").is_empty());
        assert_eq!(ids("our."), [7, 8]);
        assert_eq!(ids("\nSo"), [11]);
        assert!(ids("more").is_empty());
    }
}
