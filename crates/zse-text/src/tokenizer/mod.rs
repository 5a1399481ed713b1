//! Text to tokens and back.

mod bpe;
mod charsmap;
mod decode;
mod sentencepiece;
mod unigram;
mod within;
mod wordpiece;

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use zse_format::Metadata;

pub use decode::DecodeStream;
pub use unigram::{UnigramLibrary, UnigramRules};
pub use within::TooManyTokens;

use crate::TextError;
use crate::families::PreTokenizer;
use crate::merge::MAX_WORD;
use crate::partition::{Fragment, SpecialTokens, Strip};
use crate::special::SpecialIds;
use crate::string_table::StringTable;
use crate::vocab::{TokenKind, TokenizerModel, Vocab};
#[cfg(test)]
pub(crate) use bpe::ALPHABET;
use bpe::Bpe;
use sentencepiece::{SPACE, SentencePiece};
use unigram::Unigram;
use wordpiece::WordPiece;

/// Turns text into a model's tokens and back. Cloning is cheap: clones share one vocabulary.
///
/// Tokens are what the model's own tokenizer gives. Encoding takes time linear in the text but for
/// a logarithm of the longest word, whatever the text is made of.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokens: StringTable,
    kinds: Vec<TokenKind>,
    ids: SpecialIds,
    /// Tokens that end a generation, in order.
    ends: Vec<u32>,
    specials: SpecialTokens,
    segmenter: Segmenter,
    add_bos: bool,
    add_eos: bool,
    /// A separator stands before the second of two texts, behind what ends the first.
    add_sep: bool,
    /// Text at the start is treated as if a space stood before it.
    add_space_prefix: bool,
    /// Text behind special tokens is too.
    add_space_behind_special: bool,
    /// That space is left out before text that begins with one.
    prefix_unless_spaced: bool,
    /// Text between special tokens is composed first.
    nfc: bool,
}

#[derive(Debug)]
enum Segmenter {
    SentencePiece(SentencePiece),
    Bpe(Bpe),
    Unigram(Unigram),
    WordPiece(WordPiece),
}

/// Longer texts are cut here, so that offsets into an escaped text (at most three times as long)
/// stay within [`MAX_WORD`].
const MAX_PART: usize = MAX_WORD / 4;

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata.
    ///
    /// # Errors
    /// Those of [`Vocab::from_metadata`] and [`new`](Self::new).
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        Self::new(Vocab::from_metadata(metadata)?)
    }

    /// The tokenizer that `vocab` describes.
    ///
    /// # Errors
    /// [`TextError::UnknownPreTokenizer`] for a BPE family that is not known,
    /// [`TextError::Vocabulary`] for a vocabulary that contradicts itself.
    pub fn new(mut vocab: Vocab) -> Result<Self, TextError> {
        let mut kinds = vocab.checked_kinds()?;
        let mut ids = vocab.special.clone();
        let ends = ids.detect(&vocab.tokens, &mut kinds);
        let specials = SpecialTokens::new(&vocab.tokens, &kinds, strips(&vocab));
        let flags = vocab.flags;
        let is_spm = vocab.model == TokenizerModel::SentencePiece;
        let add_space_prefix = flags.add_space_prefix.unwrap_or(is_spm);
        let segmenter = match vocab.model {
            TokenizerModel::SentencePiece => Segmenter::SentencePiece(SentencePiece::new(
                &vocab.tokens,
                &vocab.scores,
                vocab.merges,
                ids.unk,
            )),
            TokenizerModel::Bpe => {
                let mut pre = PreTokenizer::new(&vocab.pre)?;
                pre.ignore_merges = flags.ignore_merges.unwrap_or(pre.ignore_merges);
                Segmenter::Bpe(Bpe::new(&vocab.tokens, vocab.merges, pre, ids.unk))
            }
            TokenizerModel::Unigram => {
                Segmenter::Unigram(Unigram::new(&mut vocab, &kinds, ids.unk)?)
            }
            TokenizerModel::WordPiece => {
                let lowercase = flags.lowercase.unwrap_or(true);
                let strip_accents = flags.strip_accents.unwrap_or(lowercase);
                Segmenter::WordPiece(WordPiece {
                    lowercase,
                    strip_accents,
                    unknown: ids.unk,
                })
            }
        };
        let add_bos = match &segmenter {
            Segmenter::Bpe(bpe) => bpe.add_bos(),
            Segmenter::SentencePiece(_) | Segmenter::WordPiece(_) => true,
            Segmenter::Unigram(_) => false,
        };
        let is_unigram = matches!(segmenter, Segmenter::Unigram(_));
        Ok(Self(Arc::new(Inner {
            tokens: vocab.tokens,
            kinds,
            ids,
            ends,
            specials,
            segmenter,
            add_bos: flags.add_bos.unwrap_or(add_bos),
            add_eos: flags.add_eos.unwrap_or(is_unigram),
            // XLM-RoBERTa's; files of it often do not say so.
            add_sep: flags.add_sep.unwrap_or(is_unigram),
            add_space_prefix,
            add_space_behind_special: add_space_prefix
                && !flags.prefix_at_start_only.unwrap_or(false),
            prefix_unless_spaced: flags.prefix_unless_spaced.unwrap_or(false),
            nfc: flags.nfc.unwrap_or(false),
        })))
    }

    /// The tokens of `text`. `add_special` adds BOS and EOS (`[CLS]` and `[SEP]`) as the model asks
    /// for; `parse_special` takes the spelling of control tokens such as `<|im_end|>` for the
    /// tokens, which is right for a rendered chat template and wrong for what a user typed.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let inner = &*self.0;
        let mut out = Vec::with_capacity(text.len() / 4 + 2);
        let word_piece = matches!(inner.segmenter, Segmenter::WordPiece(_));
        if add_special && (inner.add_bos || word_piece) {
            out.extend(inner.ids.bos);
        }
        let mut prefix = inner.add_space_prefix;
        for fragment in inner.specials.partition(text, parse_special) {
            match fragment {
                Fragment::Token(id) => {
                    out.push(id);
                    prefix = inner.add_space_behind_special;
                }
                Fragment::Text(text) => {
                    let composed: Cow<'_, str> = match inner.nfc && !is_nfc(text) {
                        true => text.nfc().collect::<String>().into(),
                        false => text.into(),
                    };
                    let spaced =
                        inner.prefix_unless_spaced && composed.starts_with([' ', '\u{2581}']);
                    prefix &= !spaced;
                    for part in parts(&composed, MAX_PART) {
                        inner.segment(part, prefix, &mut out);
                        prefix = false;
                    }
                }
            }
        }
        if add_special && word_piece {
            out.extend(inner.ids.sep);
        } else if add_special && inner.add_eos {
            out.extend(inner.ids.eos);
        }
        out
    }

    /// The tokens of two texts as one sequence, such as `[CLS] first [SEP] second [SEP]` of BERT and
    /// `<s> first </s></s> second </s>` of XLM-RoBERTa. What spells a control token is text.
    pub fn encode_pair(&self, first: &str, second: &str) -> Vec<u32> {
        let ids = &self.0.ids;
        let separator = ids.sep.or(ids.eos);
        let mut out = self.encode(first, true, false);
        if self.0.add_sep {
            out.extend(separator);
        }
        out.extend(self.encode(second, false, false));
        out.extend(separator);
        out
    }

    /// The token that spells exactly `text`, e.g. `<|im_end|>`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.0.tokens.find(text.as_bytes())
    }

    /// The bytes that token `id` adds to a text; special tokens are spelled out. Empty for ids that
    /// are not in the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        self.0.bytes(id)
    }

    /// Token `id` as the vocabulary spells it, for showing to people: U+FFFD stands for what is
    /// not text. Empty for ids that are not in the vocabulary.
    pub fn piece(&self, id: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0.tokens.get(id).unwrap_or_default())
    }

    /// What token `id` is for.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.0.kinds.get(id as usize).copied()
    }

    /// Whether token `id` is a mark and not text: a control token or the unknown one.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// Whether token `id` ends a generation: end of text, of a turn, or of a message.
    pub fn is_eog(&self, id: u32) -> bool {
        self.0.ends.binary_search(&id).is_ok()
    }

    /// The tokens that end a generation, in order.
    pub fn eog(&self) -> &[u32] {
        &self.0.ends
    }

    /// The token for the beginning of a text.
    pub fn bos(&self) -> Option<u32> {
        self.0.ids.bos
    }

    /// The token for the end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.0.ids.eos
    }

    /// All tokens with a part to play.
    pub fn special_ids(&self) -> &SpecialIds {
        &self.0.ids
    }

    /// Whether [`encode`](Self::encode) puts BOS before a text if asked for special tokens.
    pub fn adds_bos(&self) -> bool {
        self.0.ids.bos.is_some()
            && (self.0.add_bos || matches!(self.0.segmenter, Segmenter::WordPiece(_)))
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.0.tokens.len()
    }
}

impl Inner {
    /// Appends the tokens of `text`, which holds no special token.
    fn segment(&self, text: &str, prefix: bool, out: &mut Vec<u32>) {
        match &self.segmenter {
            Segmenter::SentencePiece(spm) => spm.encode(&self.tokens, text, prefix, out),
            Segmenter::Bpe(bpe) => bpe.encode(&self.tokens, text, out),
            Segmenter::Unigram(unigram) => unigram.encode(&self.tokens, text, prefix, out),
            Segmenter::WordPiece(wordpiece) => wordpiece.encode(&self.tokens, text, out),
        }
    }

    fn bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let Some(token) = self.tokens.get(id) else {
            return Cow::default();
        };
        match self.kinds[id as usize] {
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => token.into(),
            TokenKind::Byte => match byte_of(token) {
                Some(byte) => vec![byte].into(),
                None => token.into(),
            },
            TokenKind::Normal | TokenKind::Unused => match &self.segmenter {
                Segmenter::Bpe(bpe) if !bpe.raw() => bpe::bytes_of(token).into(),
                _ => replace(token, SPACE.as_bytes(), b' '),
            },
        }
    }
}

/// The tokens `<0x00>` to `<0xFF>` that stand for single bytes.
#[derive(Clone, Debug)]
struct ByteTokens(Box<[Option<u32>; 256]>);

impl ByteTokens {
    fn new(tokens: &StringTable) -> Self {
        let mut ids = Box::new([None; 256]);
        for byte in 0..=255u8 {
            ids[byte as usize] = tokens
                .find(format!("<0x{byte:02X}>").as_bytes())
                .or_else(|| tokens.find(&[byte]));
        }
        Self(ids)
    }

    /// Whether every symbol has tokens.
    fn have_all(&self, unknown: Option<u32>) -> bool {
        unknown.is_some() || self.0.iter().all(Option::is_some)
    }

    /// Appends the tokens of the bytes of a symbol that has none of its own, or one unknown token
    /// where a byte has none.
    fn encode(&self, symbol: &[u8], unknown: Option<u32>, out: &mut Vec<u32>) {
        match symbol
            .iter()
            .map(|&byte| self.0[byte as usize])
            .collect::<Option<Vec<u32>>>()
        {
            Some(ids) => out.extend(ids),
            None => out.extend(unknown),
        }
    }
}

/// The words of a text and where their tokens stand: text repeats its words.
#[derive(Default)]
struct WordCache<'t>(HashMap<&'t str, (usize, usize), RandomState>);

impl<'t> WordCache<'t> {
    /// Appends to `out` what `encode` appended when `word` came first.
    fn encode(&mut self, word: &'t str, out: &mut Vec<u32>, encode: impl FnOnce(&mut Vec<u32>)) {
        match self.0.entry(word) {
            Entry::Occupied(entry) => {
                let &(start, end) = entry.get();
                out.extend_from_within(start..end);
            }
            Entry::Vacant(entry) => {
                let start = out.len();
                encode(out);
                entry.insert((start, out.len()));
            }
        }
    }
}

/// The byte that a token `<0xHH>` stands for.
fn byte_of(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `bytes` with `to` for every `from`.
fn replace<'a>(bytes: &'a [u8], from: &[u8], to: u8) -> Cow<'a, [u8]> {
    let mut found = memchr::memmem::find_iter(bytes, from).peekable();
    if found.peek().is_none() {
        return bytes.into();
    }
    let (mut out, mut start) = (Vec::with_capacity(bytes.len()), 0);
    for at in found {
        out.extend_from_slice(&bytes[start..at]);
        out.push(to);
        start = at + from.len();
    }
    out.extend_from_slice(&bytes[start..]);
    out.into()
}

/// `text` in parts of at most `max` bytes.
fn parts(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let part;
        (part, rest) = rest.split_at(rest.floor_char_boundary(max));
        (!part.is_empty()).then_some(part)
    })
}

/// Which tokens swallow the spaces beside them. GGUF has no key of its own for them; families known
/// to are told by their names where no key of ours says it.
fn strips(vocab: &Vocab) -> impl Fn(u32) -> Strip {
    let is = |name: &str, id| vocab.tokens.find(name.as_bytes()) == Some(id);
    let name = vocab.name.to_lowercase();
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    let mask_name = match () {
        () if ["jina-v2-de", "jina-v2-es", "jina-v2-code"]
            .iter()
            .any(|pre| vocab.pre.contains(pre)) =>
        {
            "<mask>"
        }
        () if name.contains("modern-bert") => "[MASK]",
        () => "",
    };
    let [lstrip, rstrip] = [&vocab.special.lstrip, &vocab.special.rstrip].map(|ids| {
        let mut ids = ids.clone()?;
        ids.sort_unstable();
        Some(ids)
    });
    let unstripped = ["<unk>", "<s>", "<|endoftext|>"];
    move |id| Strip {
        left: match &lstrip {
            Some(ids) => ids.binary_search(&id).is_ok(),
            None => is(mask_name, id),
        },
        right: match &rstrip {
            Some(ids) => ids.binary_search(&id).is_ok(),
            None => phi3 && !unstripped.iter().any(|name| is(name, id)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_between_characters() {
        assert!(parts("añb漢", 3).eq(["añ", "b", "漢"]));
        assert!(parts("", 4).eq([] as [&str; 0]));
        assert_eq!(parts("a漢字", 4).collect::<Vec<_>>(), ["a漢", "字"]);
    }

    #[test]
    fn byte_tokens_are_read() {
        assert_eq!(byte_of(b"<0x0A>"), Some(10));
        assert_eq!(
            (byte_of(b"<0xZZ>"), byte_of(b"<s>"), byte_of(b"<0x>")),
            (None, None, None)
        );
    }

    #[test]
    fn replace_copies_only_where_it_must() {
        assert!(matches!(replace(b"ab", b"xx", b' '), Cow::Borrowed(b"ab")));
        assert_eq!(
            &*replace("▁a▁▁b".as_bytes(), SPACE.as_bytes(), b' '),
            b" a  b"
        );
    }
}
