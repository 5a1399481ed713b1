//! The part of a text that its grammar does not hold: a thought before it, and free text up to a mark.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
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

/// What begins the grammar.
#[derive(Clone, Debug)]
struct Mark {
    text: Vec<u8>,
    /// The tokens that stand for it in the grammar.
    tokens: Vec<u32>,
    /// What may be behind it in the token that ends it, because the grammar goes on so: as tokens. In a
    /// [`Scan`], which knows no grammar, all that is behind it in some token.
    rests: HashMap<Vec<u8>, Vec<u32>>,
}

/// What a vocabulary's tokens mean in a text that is free up to a mark, whatever the grammar is.
#[derive(Debug)]
pub(super) struct Scan {
    marks: Vec<Mark>,
    /// Tokens that have a whole mark and something behind it.
    whole: Vec<u32>,
    /// Tokens that begin with the end of a mark and go on.
    crossing: Vec<u32>,
    /// What begins the grammar where it begins a text.
    bare: Vec<u8>,
    /// The tokens that begin so, behind spaces.
    bare_tokens: Vec<u32>,
}

impl Scan {
    /// Looks at every token.
    fn new(triggers: &Triggers, tokenizer: &Tokenizer, trie: &TokTrie) -> Self {
        let spelled = |text: &String| match tokenizer.token_id(text) {
            Some(id) if tokenizer.is_special(id) => vec![id],
            _ => trie.greedy_tokenize(text.as_bytes()),
        };
        let marks = triggers.marks.iter().map(|(mark, stands_for)| Mark {
            text: mark.as_bytes().to_vec(),
            tokens: stands_for.iter().flat_map(spelled).collect(),
            rests: HashMap::new(),
        });
        let mut marks: Vec<Mark> = marks.collect();
        let bare = triggers.bare.as_bytes().to_vec();
        let (mut whole, mut crossing, mut bare_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..tokenizer.vocab_size() as u32 {
            let bytes = tokenizer.token_bytes(id);
            let (mut is_whole, mut is_crossing) = (false, false);
            for mark in &mut marks {
                let behind = behind(&bytes, &mark.text);
                is_whole |= behind.is_some();
                for rest in behind.into_iter().chain(behind_end(&bytes, &mark.text)) {
                    mark.rests.insert(rest.to_vec(), trie.greedy_tokenize(rest));
                }
                is_crossing |= behind_end(&bytes, &mark.text).next().is_some();
            }
            if is_whole {
                whole.push(id);
            }
            if is_crossing {
                crossing.push(id);
            }
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            if first.is_some_and(|byte| bare.contains(byte)) {
                bare_tokens.push(id);
            }
        }
        Self {
            marks,
            whole,
            crossing,
            bare,
            bare_tokens,
        }
    }
}

/// Those of a vocabulary, made when they are first asked for: a model's answers have one form, and so one
/// kind of triggers.
#[derive(Debug, Default)]
pub(super) struct Scans(Mutex<Vec<(Triggers, Arc<Scan>)>>);

impl Scans {
    /// How many are kept: whoever makes triggers of their own shall not fill the memory.
    const MOST: usize = 4;

    /// That of `triggers`. Who asks while another makes it waits for it.
    pub(super) fn get(
        &self,
        triggers: &Triggers,
        tokenizer: &Tokenizer,
        trie: &TokTrie,
    ) -> Arc<Scan> {
        // What is in there is whole, also where somebody panicked while making more.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, scan)) = kept.iter().find(|(known, _)| known == triggers) {
            return Arc::clone(scan);
        }
        let scan = Arc::new(Scan::new(triggers, tokenizer, trie));
        if kept.len() == Self::MOST {
            kept.remove(0);
        }
        kept.push((triggers.clone(), Arc::clone(&scan)));
        scan
    }
}

/// What a vocabulary's tokens mean in a text that is free up to what begins a grammar.
#[derive(Debug)]
pub(super) struct Watch {
    scan: Arc<Scan>,
    marks: Vec<Mark>,
    /// Bytes of the longest mark.
    pub(super) longest: usize,
    /// Tokens that have a whole mark and what is not of the grammar behind it.
    escaping: Vec<u32>,
}

impl Watch {
    /// `matcher` is at the beginning of the grammar.
    pub(super) fn new(scan: Arc<Scan>, tokenizer: &Tokenizer, matcher: &Matcher) -> Self {
        let mut marks = scan.marks.clone();
        for mark in &mut marks {
            let mut begun = matcher.clone();
            let is_begun = begun.consume_tokens(&mark.tokens).is_ok();
            mark.rests.retain(|_, tokens| {
                let taken = begun.validate_tokens(tokens);
                is_begun && taken.is_ok_and(|taken| taken == tokens.len())
            });
        }
        let whole = scan.whole.iter().copied();
        let escaping = whole.filter(|&id| escapes(&marks, &tokenizer.token_bytes(id)));
        Self {
            escaping: escaping.collect(),
            longest: marks.iter().map(|mark| mark.text.len()).max().unwrap_or(0),
            marks,
            scan,
        }
    }

    /// Whether what begins a text may begin the grammar.
    pub(super) fn has_bare(&self) -> bool {
        !self.scan.bare.is_empty()
    }

    /// Whether a text that begins with these bytes begins the grammar; `None` if they are spaces.
    pub(super) fn begins_bare(&self, bytes: &[u8]) -> Option<bool> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
        Some(self.scan.bare.contains(first))
    }

    /// The tokens that begin the grammar's part of a text, where they begin the text.
    pub(super) fn bare_tokens(&self) -> &[u32] {
        &self.scan.bare_tokens
    }

    /// The tokens that stand in the grammar for the mark that ends here, if one does, and for what is behind it.
    pub(super) fn ended(&self, tail: &Tail) -> Option<Vec<u32>> {
        self.marks.iter().find_map(|mark| {
            let at = memmem::find(&tail.0, &mark.text)?;
            let rest = mark.rests.get(&tail.0[at + mark.text.len()..]);
            let rest = rest.map_or(&[][..], |tokens| tokens);
            Some([&mark.tokens, rest].concat())
        })
    }

    /// The tokens that may not come behind `tail`: what is behind a mark in them is not of the grammar.
    pub(super) fn forbidden(&self, tail: &Tail, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut tokens = self.escaping.clone();
        // Most texts have no beginning of a mark at their end: then no token ends one.
        let begun = |mark: &Mark| (1..mark.text.len()).any(|n| tail.0.ends_with(&mark.text[..n]));
        if self.marks.iter().any(begun) {
            let crossing = self.scan.crossing.iter().copied();
            tokens.extend(crossing.filter(|&token| {
                let text = [&tail.0[..], &tokenizer.token_bytes(token)].concat();
                escapes(&self.marks, &text)
            }));
        }
        tokens
    }
}

/// Whether behind a mark in `text` there is what is not of the grammar.
fn escapes(marks: &[Mark], text: &[u8]) -> bool {
    marks.iter().any(|mark| {
        let rest = behind(text, &mark.text);
        rest.is_some_and(|rest| !mark.rests.contains_key(rest))
    })
}

/// What is behind `mark` in `text`, if anything is.
fn behind<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    // Nearly all tokens are shorter.
    if text.len() <= mark.len() {
        return None;
    }
    let at = memmem::find(text, mark)?;
    Some(&text[at + mark.len()..]).filter(|rest| !rest.is_empty())
}

/// What is behind a part that ends `mark` and begins `text`.
fn behind_end<'a>(text: &'a [u8], mark: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let ends = (1..mark.len()).filter_map(|from| text.strip_prefix(&mark[from..]));
    ends.filter(|rest| !rest.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::tests::tokenizer;
    use crate::grammar::vocabulary;

    #[test]
    fn a_vocabulary_is_looked_at_once_for_the_same_triggers() {
        let tokenizer = tokenizer();
        let factory = vocabulary::factory(&tokenizer).unwrap();
        let trie = factory.tok_env().tok_trie();
        let scans = Scans::default();
        let triggers = |mark: &str| Triggers {
            marks: vec![(mark.to_owned(), Vec::new())],
            bare: "{",
        };
        let get = |mark: &str| scans.get(&triggers(mark), &tokenizer, trie);
        let first = get("<call>");
        assert!(Arc::ptr_eq(&first, &get("<call>")));
        assert!(!Arc::ptr_eq(&first, &get("<other>")));
        let others = ["a", "b", "c"].map(get);
        assert_eq!(scans.0.lock().unwrap().len(), Scans::MOST);
        assert!(!Arc::ptr_eq(&first, &get("<call>")), "made anew");
        assert!(Arc::ptr_eq(&others[2], &get("c")));
    }
}
