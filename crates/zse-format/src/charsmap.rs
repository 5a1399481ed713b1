//! SentencePiece's compiled map of characters, `precompiled_charsmap`: a length, a trie, and the
//! texts that its values point into (`Normalizer` in
//! <https://github.com/google/sentencepiece/blob/master/src/normalizer.cc>).

/// Most bytes of a text that stands for characters: NFKC's longest have 33. Every character of a
/// text may become one.
const MAX_TEXT: usize = 256;

/// The parts of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CharsmapParts<'a> {
    /// Nodes of a double-array trie as darts-clone builds it, 4 bytes each (little-endian).
    pub units: &'a [[u8; 4]],
    /// Texts, each ended by a zero byte.
    pub texts: &'a str,
}

impl<'a> CharsmapParts<'a> {
    /// The parts of `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let (length, rest) = bytes.split_first_chunk().ok_or("ends in its length")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (trie, texts) = rest.split_at_checked(length).ok_or("is cut off")?;
        let (units, left) = trie.as_chunks();
        if units.is_empty() || !left.is_empty() {
            return Err("has a trie of no whole number of nodes");
        }
        if texts.split(|&byte| byte == 0).any(|t| t.len() > MAX_TEXT) {
            return Err("puts more than 256 bytes in a character's place");
        }
        let texts = std::str::from_utf8(texts).map_err(|_| "has texts that are not UTF-8")?;
        Ok(Self { units, texts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_agree() {
        let map = |length: u32, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
        let good = map(4, b"\x01\x02\x03\x04ab\0");
        let parts = CharsmapParts::new(&good).unwrap();
        assert_eq!((parts.units, parts.texts), (&[[1, 2, 3, 4]][..], "ab\0"));
        for bad in [
            map(0, b"ab\0"),
            map(3, b"abc"),
            map(8, b"abcd"),
            map(u32::MAX, b"abcd"),
            map(4, b"abcd\xff"),
            map(4, &[b'x'; 400]),
            b"ab".to_vec(),
            Vec::new(),
        ] {
            assert!(CharsmapParts::new(&bad).is_err(), "{bad:?}");
        }
    }
}
