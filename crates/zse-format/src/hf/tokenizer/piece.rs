//! `tokenizer.model`, the file of SentencePiece: a protocol buffer of which a few fields are read
//! (`sentencepiece_model.proto` in <https://github.com/google/sentencepiece>; wire format:
//! <https://protobuf.dev/programming-guides/encoding/>).

use super::{Entries, MAX_TOKENS, TokenizerFiles, check_size, error, keys};
use crate::{CharsmapParts, EncodedValue, FormatError};

/// A model of SentencePiece.
#[derive(Debug)]
pub(super) struct SentencePieceModel<'a> {
    /// By id.
    pub(super) pieces: Vec<Piece<'a>>,
    /// BOS, EOS, unknown, padding; none where the file has -1.
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) pad: Option<u32>,
    add_space_prefix: bool,
    is_unigram: bool,
    /// Of Unigram: characters that become others. None if empty.
    charsmap: &'a [u8],
    remove_extra_whitespaces: bool,
    /// Not as in any known model of the kinds that are supported.
    is_odd: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Of BPE: the higher, the earlier it is merged. Of Unigram: a log-probability.
    pub(super) score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: GGUF's numbers too.
    pub(super) kind: i32,
}

/// `TrainerSpec.ModelType`.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

/// What is wrong, and at which byte of the file.
type Outcome<T> = Result<T, (&'static str, usize)>;

impl<'a> SentencePieceModel<'a> {
    /// `beside_bpe`: whether a `tokenizer.json` of BPE says how text is split.
    pub(super) fn read(
        files: &TokenizerFiles<'_>,
        bytes: &'a [u8],
        beside_bpe: bool,
    ) -> Result<Self, FormatError> {
        const FILE: &str = "tokenizer.model";
        check_size(files, FILE, bytes)?;
        let (mut model, model_type) = Self::parse(bytes).map_err(|(problem, at)| {
            let what = format!("is not a SentencePiece model: at byte {at} {problem}");
            error(files, FILE, &what, "")
        })?;
        model.is_unigram = model_type == UNIGRAM;
        if !matches!(model_type, BPE | UNIGRAM) || model.is_unigram && beside_bpe {
            let what = format!(
                "has trainer_spec.model_type {model_type} ({}); SentencePiece models of Unigram (1) \
                 and BPE (2) are supported, beside a tokenizer.json of BPE the latter",
                match model_type {
                    1 => "Unigram",
                    3 => "words",
                    4 => "characters",
                    _ => "unknown",
                }
            );
            return Err(error(files, FILE, &what, ""));
        }
        if model.is_unigram {
            let charsmap = match model.charsmap {
                [] => Ok(()),
                charsmap => CharsmapParts::new(charsmap).map(drop),
            };
            let problem = charsmap.err().map(|p| ("precompiled_charsmap", p));
            let odd = model.is_odd.map(|field| (field, "is not supported"));
            if let Some((field, problem)) = problem.or(odd) {
                return Err(error(
                    files,
                    FILE,
                    &format!("has {field}, which {problem}"),
                    "",
                ));
            }
        }
        Ok(model)
    }

    /// The model, and its type.
    fn parse(bytes: &'a [u8]) -> Outcome<(Self, u64)> {
        let mut model = Self {
            pieces: Vec::new(),
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            pad: None,
            add_space_prefix: true,
            is_unigram: false,
            charsmap: &[],
            remove_extra_whitespaces: true,
            is_odd: None,
        };
        let mut model_type = UNIGRAM; // the default
        let mut fields = Fields::new(bytes, 0);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Field::Bytes(piece, at)) => {
                    if model.pieces.len() == MAX_TOKENS {
                        return Err(("has too many pieces", at));
                    }
                    model.pieces.push(Piece::parse(piece, at)?);
                }
                (2, Field::Bytes(trainer, at)) => model_type = model.trainer(trainer, at)?,
                (3, Field::Bytes(normalizer, at)) => model.normalizer(normalizer, at)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(("it ends without a piece", bytes.len()));
        }
        Ok((model, model_type))
    }

    /// Reads the `TrainerSpec`; gives the model's type.
    fn trainer(&mut self, bytes: &[u8], at: usize) -> Outcome<u64> {
        let mut model_type = UNIGRAM;
        // Negative numbers are written as 64-bit two's complements.
        let id = |number: u64| u32::try_from(number as i64).ok();
        let mut fields = Fields::new(bytes, at);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (3, Field::Varint(kind)) => model_type = kind,
                (24, Field::Varint(1..)) => self.is_odd = Some("treat_whitespace_as_suffix"),
                (40, Field::Varint(number)) => self.unk = id(number),
                (41, Field::Varint(number)) => self.bos = id(number),
                (42, Field::Varint(number)) => self.eos = id(number),
                (43, Field::Varint(number)) => self.pad = id(number),
                _ => {}
            }
        }
        Ok(model_type)
    }

    /// Reads the `NormalizerSpec`.
    fn normalizer(&mut self, bytes: &'a [u8], at: usize) -> Outcome<()> {
        let mut fields = Fields::new(bytes, at);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (2, Field::Bytes(charsmap, _)) => self.charsmap = charsmap,
                (3, Field::Varint(flag)) => self.add_space_prefix = flag != 0,
                (4, Field::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Varint(0)) => self.is_odd = Some("escape_whitespaces false"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the kind, and whether text gets a space before it.
    pub(super) fn write(&self, entries: &mut Entries) {
        let mut set = |key: &str, value: EncodedValue| entries.push((key.to_owned(), value));
        let model = if self.is_unigram { "t5" } else { "llama" };
        set("tokenizer.ggml.model", model.into());
        set("tokenizer.ggml.pre", "default".into());
        set(
            "tokenizer.ggml.add_space_prefix",
            self.add_space_prefix.into(),
        );
        if self.is_unigram {
            let remove = self.remove_extra_whitespaces;
            set("tokenizer.ggml.remove_extra_whitespaces", remove.into());
            if !self.charsmap.is_empty() {
                set("tokenizer.ggml.precompiled_charsmap", self.charsmap.into());
            }
            set(keys::UNIGRAM_LIBRARY, "sentencepiece".into());
        }
    }
}

impl<'a> Piece<'a> {
    fn parse(bytes: &'a [u8], at: usize) -> Outcome<Self> {
        let mut piece = Self {
            text: "",
            score: 0.0,
            kind: 1,
        };
        let mut fields = Fields::new(bytes, at);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Field::Bytes(text, at)) => {
                    piece.text =
                        std::str::from_utf8(text).map_err(|_| ("a piece is not UTF-8", at))?;
                }
                (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (3, Field::Varint(kind @ 1..=6)) => piece.kind = kind as i32,
                (3, _) => return Err(("a piece has an unknown type", at)),
                _ => {}
            }
        }
        Ok(piece)
    }
}

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    /// With their place in the file.
    Bytes(&'a [u8], usize),
    Fixed64,
}

/// The fields of a message, in order.
struct Fields<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the file.
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { rest: bytes, at }
    }

    /// The next field's number and value; `None` at the end.
    fn next(&mut self) -> Outcome<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| ("a length is too large", start))?;
                let at = self.at;
                Field::Bytes(self.take(len)?, at)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            _ => return Err(("a field has an unknown wire type", start)),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, len: usize) -> Outcome<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(("a field is cut off", self.at));
        };
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Outcome<u64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(("a number is longer than 10 bytes", start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8][..], content].concat()
    }

    fn model() -> Vec<u8> {
        let score = [0x15, 0, 0, 0x80, 0xbf]; // field 2: -1.0
        [
            bytes(1, &[&bytes(1, b"<unk>")[..], &[0x18, 2]].concat()),
            bytes(1, &[&bytes(1, "▁a".as_bytes())[..], &score].concat()),
            // model_type 2; bos_id -1; eos_id 1.
            bytes(
                2,
                &[&[0x18, 2, 0xc8, 2][..], &[0xff; 9], &[1, 0xd0, 2, 1]].concat(),
            ),
            bytes(3, &[0x18, 0]),
            vec![0x71, 0, 0, 0, 0, 0, 0, 0, 0], // an unknown field of 8 bytes
        ]
        .concat()
    }

    #[test]
    fn pieces_and_flags_are_read() {
        let bytes = model();
        let (model, model_type) = SentencePieceModel::parse(&bytes).unwrap();
        assert_eq!(model_type, BPE);
        assert_eq!((model.bos, model.eos, model.unk), (None, Some(1), Some(0)));
        assert!(!model.add_space_prefix);
        let [unk, a] = model.pieces[..] else { panic!() };
        assert_eq!((unk.text, unk.kind, unk.score), ("<unk>", 2, 0.0));
        assert_eq!((a.text, a.kind, a.score), ("▁a", 1, -1.0));
    }

    #[test]
    fn every_cut_of_a_model_is_an_error_or_a_shorter_model() {
        let bytes = model();
        for end in 0..bytes.len() {
            if let Ok((model, _)) = SentencePieceModel::parse(&bytes[..end]) {
                assert!(!model.pieces.is_empty() && model.pieces.len() <= 2);
            }
        }
        let outcome = SentencePieceModel::parse(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(outcome.unwrap_err(), ("a field is cut off", 6));
        let outcome = SentencePieceModel::parse(&[0xff; 11]);
        assert_eq!(
            outcome.unwrap_err(),
            ("a number is longer than 10 bytes", 0)
        );
        assert!(SentencePieceModel::parse(&[0x0b]).is_err());
    }
}
