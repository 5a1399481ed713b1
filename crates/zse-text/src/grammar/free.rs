//! The part of a text that its grammar does not hold: a thought before it, and free text up to a mark.

use llguidance::toktrie::TokTrie;
use memchr::memmem;

use super::Triggers;
use crate::Tokenizer;

/// The last bytes of a text in which something is looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Takes more of the text.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Whether `mark` is in it.
    pub(super) fn has(&self, mark: &[u8]) -> bool {
        memmem::find(&self.0, mark).is_some()
    }

    /// Forgets all but what may begin a mark of `longest` bytes.
    pub(super) fn forget(&mut self, longest: usize) {
        let rest = self.0.len().saturating_sub(longest.saturating_sub(1));
        self.0.drain(..rest);
    }
}

/// What a vocabulary's tokens mean in a text that is free up to a mark.
#[derive(Debug)]
pub(super) struct Watch {
    /// Each mark, and the tokens that stand for it in the grammar.
    marks: Vec<(Vec<u8>, Vec<u32>)>,
    /// Bytes of the longest mark.
    pub(super) longest: usize,
    /// Tokens that may end a mark and go on: what is behind it in them would escape the grammar.
    crossing: Vec<u32>,
    /// What begins the grammar where it begins a text.
    bare: Vec<u8>,
    /// The tokens that begin so, behind spaces.
    bare_tokens: Vec<u32>,
}

impl Watch {
    pub(super) fn new(triggers: &Triggers, tokenizer: &Tokenizer, trie: &TokTrie) -> Self {
        let spelled = |text: &String| match tokenizer.token_id(text) {
            Some(id) if tokenizer.is_special(id) => vec![id],
            _ => trie.greedy_tokenize(text.as_bytes()),
        };
        let marks = triggers.marks.iter().map(|(mark, stands_for)| {
            let tokens = stands_for.iter().flat_map(spelled);
            (mark.as_bytes().to_vec(), tokens.collect())
        });
        let marks: Vec<(Vec<u8>, Vec<u32>)> = marks.collect();
        let bare = triggers.bare.as_bytes().to_vec();
        let (mut crossing, mut bare_tokens) = (Vec::new(), Vec::new());
        for id in 0..tokenizer.vocab_size() as u32 {
            let bytes = tokenizer.token_bytes(id);
            if marks.iter().any(|(mark, _)| crosses(&bytes, mark)) {
                crossing.push(id);
            }
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            if first.is_some_and(|byte| bare.contains(byte)) {
                bare_tokens.push(id);
            }
        }
        Self {
            longest: marks.iter().map(|(mark, _)| mark.len()).max().unwrap_or(0),
            marks,
            crossing,
            bare,
            bare_tokens,
        }
    }

    /// Whether what begins a text may begin the grammar.
    pub(super) fn has_bare(&self) -> bool {
        !self.bare.is_empty()
    }

    /// Whether a text that begins with these bytes begins the grammar; `None` if they are spaces.
    pub(super) fn begins_bare(&self, bytes: &[u8]) -> Option<bool> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
        Some(self.bare.contains(first))
    }

    /// The tokens that begin the grammar's part of a text, where they begin the text.
    pub(super) fn bare_tokens(&self) -> &[u32] {
        &self.bare_tokens
    }

    /// The tokens that stand in the grammar for the mark that ends here, if one does.
    pub(super) fn ended(&self, tail: &Tail) -> Option<&[u32]> {
        let found = self.marks.iter().find(|(mark, _)| tail.has(mark));
        found.map(|(_, tokens)| &tokens[..])
    }

    /// The tokens that may not come behind `tail`.
    pub(super) fn forbidden<'a>(
        &'a self,
        tail: &'a Tail,
        tokenizer: &'a Tokenizer,
    ) -> impl Iterator<Item = u32> + 'a {
        let escapes = |token: &u32| {
            let text = [&tail.0[..], &tokenizer.token_bytes(*token)].concat();
            let mut marks = self.marks.iter();
            marks.any(|(mark, _)| {
                memmem::find(&text, mark).is_some_and(|at| at + mark.len() < text.len())
            })
        };
        self.crossing.iter().copied().filter(escapes)
    }
}

/// Whether a token of these bytes may hold the end of `mark` and more behind it.
fn crosses(bytes: &[u8], mark: &[u8]) -> bool {
    let goes_on = |part: &[u8]| bytes.len() > part.len() && bytes.starts_with(part);
    (1..mark.len()).any(|from| goes_on(&mark[from..]))
        || bytes.len() > mark.len()
            && memmem::find(bytes, mark).is_some_and(|at| at + mark.len() < bytes.len())
}

/// Where a text is that its grammar does not hold yet.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// At its beginning: this token begins a thought.
    Opening(u32),
    /// In a thought.
    Thought(Tail),
    /// Behind a thought, or where there is none, before any text that is free up to a mark.
    Begin,
    /// In that text.
    Text(Tail),
    /// The grammar holds.
    Bound,
}

/// A mask with these tokens set, or cleared.
pub(super) fn set(mask: &mut [u64], tokens: impl IntoIterator<Item = u32>, to: bool) {
    for token in tokens {
        if let Some(word) = mask.get_mut(token as usize / 64) {
            match to {
                true => *word |= 1 << (token % 64),
                false => *word &= !(1 << (token % 64)),
            }
        }
    }
}
