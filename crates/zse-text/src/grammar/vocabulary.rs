//! A tokenizer's vocabulary as `llguidance` wants it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::GrammarError;
use crate::{TokenKind, Tokenizer};

/// Longer tokens are never allowed: the tree of tokens is as deep as the longest one.
const MAX_TOKEN: usize = 512;

/// Marks what is no text. No text holds this byte.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// What a grammar may cost. Units are the library's; times are of one core of 2.5 GHz.
fn limits() -> ParserLimits {
    ParserLimits {
        // 20 ms.
        initial_lexer_fuel: 1_000_000,
        // 7 ms of a mask.
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        // Up to 2 kB each.
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// What compiles grammars for `tokenizer`.
pub(super) fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, GrammarError> {
    let ends = tokenizer.eog();
    let Some(&end) = ends.first() else {
        return Err(GrammarError::Vocabulary("it has no token that ends a text"));
    };
    let size = tokenizer.vocab_size() as u32;
    let words: Vec<Vec<u8>> = (0..size).map(|id| word(tokenizer, id)).collect();
    // The library asserts what it holds to be true of every vocabulary.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).ok()?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Some(factory)
    }));
    let built = built.ok().flatten();
    built.ok_or(GrammarError::Vocabulary(
        "it is of a kind that is not known",
    ))
}

/// The bytes of a token: none, if it may never come; behind a mark, if it is no text.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    match tokenizer.kind(id) {
        _ if bytes.len() >= MAX_TOKEN => Vec::new(),
        Some(TokenKind::Control) => [&[MARK], &bytes[..]].concat(),
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte)
            if !bytes.contains(&MARK) =>
        {
            bytes.into_owned()
        }
        _ => Vec::new(),
    }
}

/// The mask of all tokens.
pub(super) fn every(tokenizer: &Tokenizer) -> Vec<u64> {
    let size = tokenizer.vocab_size();
    let mut mask = vec![u64::MAX; size.div_ceil(64)];
    let end = mask.len() as u32 * 64;
    super::set(&mut mask, size as u32..end, false);
    mask
}
