//! Tokenizers built from small vocabularies by hand: one of each kind, and what each must not do.

use proptest::prelude::*;
use zse_format::{Checkpoint, GgufWriter};
use zse_text::{
    SpecialIds, StringTable, TextError, TokenKind, Tokenizer, TokenizerModel, UnigramRules, Vocab,
    VocabFlags,
};

fn table<'a>(strings: impl IntoIterator<Item = &'a str>) -> StringTable {
    let strings: Vec<&[u8]> = strings.into_iter().map(str::as_bytes).collect();
    StringTable::new("test", strings.into_iter()).unwrap()
}

fn vocab(model: TokenizerModel, tokens: &[&str]) -> Vocab {
    Vocab {
        model,
        pre: "default".to_owned(),
        tokens: table(tokens.iter().copied()),
        scores: Vec::new(),
        kinds: Vec::new(),
        merges: table([]),
        special: SpecialIds::default(),
        flags: VocabFlags::default(),
        unigram: UnigramRules::default(),
        name: String::new(),
    }
}

const BYTES: [&str; 3] = ["<0xC3>", "<0xA9>", "<0xE6>"];

fn sentence_piece() -> Tokenizer {
    let tokens = [
        "<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "▁ab", "<x>",
    ];
    let mut vocab = vocab(
        TokenizerModel::SentencePiece,
        &[&tokens[..], &BYTES[..]].concat(),
    );
    vocab.scores = vec![
        0.0, 0.0, 0.0, -5.0, -6.0, -6.0, -1.0, -2.0, -3.0, 0.0, 0.0, 0.0, 0.0,
    ];
    use TokenKind::{Byte, Control, Normal, Unknown, UserDefined};
    vocab.kinds = [
        &[Unknown, Control, Control][..],
        &[Normal; 6],
        &[UserDefined],
        &[Byte; 3],
    ]
    .concat();
    vocab.special = SpecialIds {
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        ..SpecialIds::default()
    };
    Tokenizer::new(vocab).unwrap()
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let tokenizer = sentence_piece();
    assert_eq!(
        tokenizer.encode("ab é漢", true, false),
        [1, 8, 3, 10, 11, 0]
    );
    assert_eq!(tokenizer.encode("", true, false), [1]);
    assert_eq!(tokenizer.encode("<s>ab</s>", false, true), [1, 8, 2]);
    // Plain text spells no control token, and user-defined ones are always cut out.
    assert_eq!(tokenizer.encode("a<x>a", false, false), [7, 9, 7]);
    assert_eq!(tokenizer.decode(&[7, 9, 7, 7], false), "a<x>a a");
    assert!(tokenizer.is_eog(2) && !tokenizer.is_eog(1) && tokenizer.is_special(1));
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()),
        (Some(1), Some(2), 13)
    );
}

#[test]
fn streams_hold_back_unfinished_characters() {
    let tokenizer = sentence_piece();
    let mut stream = tokenizer.stream();
    let texts: Vec<String> = [1, 7, 10, 11, 12, 5, 10].map(|id| stream.push(id)).into();
    assert_eq!(texts, ["", "a", "", "é", "", "\u{fffd}b", ""]);
    assert_eq!(
        (stream.flush(), stream.flush()),
        ("\u{fffd}".to_owned(), String::new())
    );
    // Behind a text a leading space is a space.
    let mut stream = tokenizer.stream().after(&[1, 7]);
    assert_eq!(
        (stream.push(7), stream.push(1)),
        (" a".to_owned(), String::new())
    );
    // Whatever is before, it is as if that had come one by one.
    let id = || prop::sample::select(vec![0, 1, 7, 9, 10, 99]);
    proptest!(|(prompt in prop::collection::vec(id(), 0..6), next in id())| {
        let mut expected = tokenizer.stream();
        prompt.iter().for_each(|&id| drop(expected.push(id)));
        expected.flush();
        prop_assert_eq!(tokenizer.stream().after(&prompt).push(next), expected.push(next));
    });
    assert_eq!(tokenizer.stream().show_special().push(1), "<s>");
    assert_eq!(tokenizer.stream().push(99), "");
}

fn byte_level(pre: &str, tokens: &[&str], merges: &[&str]) -> Result<Tokenizer, TextError> {
    let mut vocab = vocab(TokenizerModel::Bpe, tokens);
    vocab.pre = pre.to_owned();
    vocab.merges = table(merges.iter().copied());
    Tokenizer::new(vocab)
}

#[test]
fn byte_level_bpe_merges_by_rank_within_words() {
    let tokens = ["a", "b", "c", "Ġ", "ab", "bc", "Ġa", "abc"];
    let tokenizer = byte_level("gpt-2", &tokens, &["b c", "a b", "Ġ a"]).unwrap();
    assert_eq!(tokenizer.encode("abc ab a", false, false), [0, 5, 3, 4, 6]);
    // "abc" is a token that no merge makes; some families take it all the same.
    let tokenizer = byte_level("llama-bpe", &tokens, &["b c", "a b", "Ġ a"]).unwrap();
    assert_eq!(tokenizer.encode("abc", false, false), [7]);
    assert_eq!(tokenizer.decode(&[7, 6], false), "abc a");
    // Bytes without a token are left out.
    assert_eq!(tokenizer.encode("axé", false, false), [0]);
}

#[test]
fn raw_bpe_spells_spaces_and_bytes_as_sentence_piece_does() {
    let tokens = ["a", "▁", "▁a", "\n", "\n\n", "<0xC3>", "<0xA9>"];
    let mut vocab = vocab(TokenizerModel::Bpe, &tokens);
    vocab.pre = "gemma4".to_owned();
    vocab.kinds = [&[TokenKind::Normal; 5][..], &[TokenKind::Byte; 2]].concat();
    vocab.merges = table(["▁ a"]);
    let tokenizer = Tokenizer::new(vocab).unwrap();
    let ids = tokenizer.encode("a a\n\né", false, false);
    assert_eq!(ids, [0, 2, 4, 5, 6]);
    assert_eq!(tokenizer.decode(&ids, false), "a a\n\né");
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    assert!(matches!(
        byte_level("nonsense", &["a"], &[]),
        Err(TextError::UnknownPreTokenizer { .. })
    ));
    let mut short = vocab(TokenizerModel::SentencePiece, &["a", "b"]);
    short.scores = vec![0.0];
    assert!(
        matches!(Tokenizer::new(short), Err(TextError::Vocabulary { field, .. }) if field.ends_with("scores"))
    );
    let mut short = vocab(TokenizerModel::WordPiece, &["a", "b"]);
    short.kinds = vec![TokenKind::Normal];
    assert!(Tokenizer::new(short).is_err());
}

#[test]
fn a_vocabulary_without_any_special_token_works() {
    for model in [
        TokenizerModel::SentencePiece,
        TokenizerModel::Unigram,
        TokenizerModel::WordPiece,
    ] {
        let mut vocab = vocab(model, &["▁a", "a"]);
        vocab.flags.add_space_prefix = Some(true);
        let tokenizer = Tokenizer::new(vocab).unwrap();
        assert_eq!(tokenizer.encode("a é", true, true).first(), Some(&0));
        assert!(!tokenizer.adds_bos() && tokenizer.eog().is_empty());
    }
}

#[test]
fn unigram_takes_the_best_sum() {
    let mut vocab = vocab(
        TokenizerModel::Unigram,
        &["<unk>", "</s>", "▁", "a", "b", "ab", "▁ab", "aa", "▁a"],
    );
    vocab.scores = vec![0.0, 0.0, -3.0, -2.0, -2.0, -3.0, -7.0, -3.5, -4.5];
    vocab.kinds = vec![TokenKind::Unknown, TokenKind::Control];
    vocab.kinds.resize(9, TokenKind::Normal);
    vocab.special.unk = Some(0);
    vocab.special.eos = Some(1);
    vocab.flags.add_space_prefix = Some(true);
    let encode = |vocab: &Vocab, text| {
        let tokenizer = Tokenizer::new(vocab.clone()).unwrap();
        tokenizer.encode(text, true, true)
    };
    // The first of equal ones: "▁ab" is not as good as "▁", "ab".
    assert_eq!(encode(&vocab, "ab"), [2, 5, 1]);
    assert_eq!(encode(&vocab, "aab"), [8, 5, 1]);
    // Neighbours without a token are one.
    assert_eq!(encode(&vocab, "éèa"), [2, 0, 3, 1]);
    assert_eq!(encode(&vocab, " a  a"), [2, 8, 2, 8, 1]);
    vocab.unigram.remove_extra_whitespaces = true;
    assert_eq!(encode(&vocab, " a  a "), [8, 8, 1]);
    // Marks are no text unless they are parsed.
    let tokenizer = Tokenizer::new(vocab).unwrap();
    assert_eq!(tokenizer.encode("</s>", false, false), [2, 0]);
    assert_eq!(tokenizer.decode(&[2, 5, 1], true), "ab");
}

#[test]
fn kinds_of_tokenizers_that_are_not_known_are_named() {
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "rwkv").unwrap();
    let file = writer.begin(Vec::new(), "rwkv").unwrap().finish().unwrap();
    let file = Checkpoint::from_bytes(file, "rwkv").unwrap();
    let error = Tokenizer::from_metadata(file.metadata()).unwrap_err();
    assert!(matches!(&error, TextError::UnsupportedModel { model } if model == "rwkv"));
    assert!(error.to_string().contains("\"rwkv\" is not supported"));
}
