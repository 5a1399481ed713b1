//! Builds a tokenizer from any vocabulary, and has it encode and decode any text.
//!
//! The input is cut at zero bytes into the pre-tokenizer's name, the text, and the vocabulary: each
//! entry starts with a byte that tells its kind (see `KINDS`), `m` for a merge, or `p` for a map of
//! characters, in which pairs of hexadecimal digits are bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_text::{
    SpecialIds, StringTable, TokenKind, Tokenizer, TokenizerModel, UnigramLibrary, UnigramRules,
    Vocab, VocabFlags,
};

const KINDS: [(u8, TokenKind); 6] = [
    (b'n', TokenKind::Normal),
    (b'u', TokenKind::Unknown),
    (b'c', TokenKind::Control),
    (b'd', TokenKind::UserDefined),
    (b'x', TokenKind::Unused),
    (b'b', TokenKind::Byte),
];

fn table(strings: &[&[u8]]) -> StringTable {
    StringTable::new("fuzz", strings.iter().copied()).expect("inputs are small")
}

fn bytes_of(digits: &[u8]) -> Vec<u8> {
    let digit = |&digit: &u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    let pairs = digits.as_chunks::<2>().0.iter();
    pairs.map(|[a, b]| digit(a) << 4 | digit(b)).collect()
}

/// The letters behind `t5` say which hold.
fn unigram_rules(pre: &str, charsmap: Vec<u8>) -> UnigramRules {
    UnigramRules {
        charsmap,
        library: match () {
            () if pre.contains('S') => UnigramLibrary::SentencePiece,
            () if pre.contains('T') => UnigramLibrary::Tokenizers,
            () => UnigramLibrary::LlamaCpp,
        },
        remove_extra_whitespaces: pre.contains('r'),
        strip_right: pre.contains('s'),
        collapse_spaces: pre.contains('c'),
        split_whitespace: pre.contains('w'),
        split_words: pre.contains('p'),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (pre, text) = (text(), text());
    let (mut tokens, mut kinds, mut merges, mut scores) = (vec![], vec![], vec![], vec![]);
    let mut charsmap = Vec::new();
    for part in parts {
        let Some((kind, spelling)) = part.split_first() else {
            continue;
        };
        if *kind == b'm' {
            merges.push(spelling);
            continue;
        }
        if *kind == b'p' {
            charsmap = bytes_of(spelling);
            continue;
        }
        let known = KINDS.iter().find(|(byte, _)| byte == kind);
        kinds.push(known.map_or(TokenKind::Normal, |(_, kind)| *kind));
        scores.push(
            spelling
                .iter()
                .fold(0.0, |sum, &byte| sum * 3.0 - f32::from(byte)),
        );
        tokens.push(spelling);
    }
    let model = match pre.as_str() {
        "spm" => TokenizerModel::SentencePiece,
        "bert" => TokenizerModel::WordPiece,
        pre if pre.starts_with("t5") => TokenizerModel::Unigram,
        _ => TokenizerModel::Bpe,
    };
    let id = |kind| kinds.iter().position(|&k| k == kind).map(|id| id as u32);
    let special = SpecialIds {
        bos: id(TokenKind::Control),
        unk: id(TokenKind::Unknown),
        ..SpecialIds::default()
    };
    let vocab = Vocab {
        model,
        tokens: table(&tokens),
        scores,
        merges: table(&merges),
        special,
        kinds,
        flags: VocabFlags::default(),
        unigram: unigram_rules(&pre, charsmap),
        name: if text.starts_with('3') {
            "phi-3".to_owned()
        } else {
            String::new()
        },
        pre,
    };
    let Ok(tokenizer) = Tokenizer::new(vocab) else {
        return;
    };
    for parse_special in [false, true] {
        let ids = tokenizer.encode(&text, true, parse_special);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        assert_eq!(ids, tokenizer.encode(&text, true, parse_special));
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed += &stream.flush();
        assert_eq!(streamed, tokenizer.decode(&ids, true));
    }
});
