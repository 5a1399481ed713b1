//! SentencePiece's map of characters (`precompiled_charsmap`): a double-array trie from characters to
//! what stands for them, as darts-clone lays it out (<https://github.com/s-yata/darts-clone>).
//!
//! SentencePiece itself replaces the longest key at each place. The library `tokenizers` looks up
//! short grapheme clusters, replaces all of one by what its shortest beginning becomes, and looks up
//! characters where nothing is found. Models are trained with the former and run with the latter.

use unicode_segmentation::UnicodeSegmentation;
use zse_format::CharsmapParts;

use crate::TextError;
use crate::work;

/// Grapheme clusters of more bytes are not looked up as a whole.
const MAX_CLUSTER: usize = 5;

#[derive(Clone, Debug)]
pub(super) struct Charsmap {
    units: Vec<Unit>,
    /// Each ended by a zero byte.
    texts: String,
}

/// A node of the trie.
#[derive(Clone, Copy, Debug)]
struct Unit(u32);

impl Unit {
    /// Whether a key ends here: then its value is in the node that the offset leads to.
    fn has_value(self) -> bool {
        (self.0 >> 8) & 1 == 1
    }

    fn value(self) -> u32 {
        self.0 & ((1 << 31) - 1)
    }

    /// The byte that leads here; no byte of a key where the highest bit is set.
    fn label(self) -> u32 {
        self.0 & ((1 << 31) | 0xff)
    }

    fn offset(self) -> u32 {
        (self.0 >> 10) << ((self.0 & (1 << 9)) >> 6)
    }
}

impl Charsmap {
    /// The map in `bytes`; `None` of no bytes.
    ///
    /// # Errors
    /// [`TextError::Vocabulary`] if they are not one.
    pub(super) fn new(bytes: &[u8]) -> Result<Option<Self>, TextError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let parts = CharsmapParts::new(bytes).map_err(|problem| TextError::Vocabulary {
            field: "tokenizer.ggml.precompiled_charsmap",
            problem: problem.to_owned(),
        })?;
        let units = parts.units.iter().map(|&u| Unit(u32::from_le_bytes(u)));
        Ok(Some(Self {
            units: units.collect(),
            texts: parts.texts.to_owned(),
        }))
    }

    /// Lengths and values of the keys that `text` begins with, the shortest first.
    fn keys<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let unit = |at: u32| self.units.get(at as usize).copied();
        // Past the trie's end nothing is found.
        let mut at = unit(0).map_or(u32::MAX, Unit::offset);
        let mut bytes = text.bytes().enumerate();
        std::iter::from_fn(move || {
            loop {
                work::step(1);
                let (i, byte) = bytes.next()?;
                at ^= u32::from(byte);
                let node = unit(at).filter(|node| node.label() == u32::from(byte))?;
                at ^= node.offset();
                if node.has_value() {
                    let value = unit(at)?.value() as usize;
                    // A value that points nowhere is of a damaged map.
                    let rest = self.texts.get(value..)?;
                    let end = rest.find('\0').unwrap_or(rest.len());
                    return Some((i + 1, &rest[..end]));
                }
            }
        })
    }

    /// `text` as SentencePiece has it.
    pub(super) fn longest(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            // Keys of a damaged map may end within a character.
            let keys = self
                .keys(rest)
                .filter(|(len, _)| rest.is_char_boundary(*len));
            let (len, value) = match keys.last() {
                Some(found) => found,
                None => (first.len_utf8(), &rest[..first.len_utf8()]),
            };
            out.push_str(value);
            rest = &rest[len..];
        }
        out
    }

    /// `text` as the library `tokenizers` has it.
    pub(super) fn by_clusters(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for cluster in text.graphemes(true) {
            let whole = self
                .keys(cluster)
                .next()
                .filter(|_| cluster.len() <= MAX_CLUSTER);
            if let Some((_, value)) = whole {
                out.push_str(value);
                continue;
            }
            for (at, c) in cluster.char_indices() {
                let one = &cluster[at..at + c.len_utf8()];
                let value = self.keys(one).next().map_or(one, |(_, value)| value);
                out.push_str(value);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of "a" to "xy" and "ab" to "z": the root's children are at 0x100 ^ byte, those of "a" at
    /// 0x200 ^ byte, values at 0x200 and 0x300.
    fn map() -> Charsmap {
        let offset = |to: u32| to << 10;
        let mut units = vec![0u32; 0x400];
        units[0] = offset(0x100);
        let a = 0x100 ^ 0x61;
        units[a as usize] = 0x61 | 1 << 8 | offset(a ^ 0x200);
        units[0x200] = 1 << 31;
        let b = 0x200 ^ 0x62;
        units[b as usize] = 0x62 | 1 << 8 | offset(b ^ 0x300);
        units[0x300] = 1 << 31 | 3;
        let trie: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let bytes = [&(trie.len() as u32).to_le_bytes(), &trie[..], b"xy\0z\0"].concat();
        Charsmap::new(&bytes).unwrap().unwrap()
    }

    #[test]
    fn the_longest_key_is_replaced_or_the_shortest() {
        let map = map();
        let keys: Vec<_> = map.keys("abc").collect();
        assert_eq!(keys, [(1, "xy"), (2, "z")]);
        assert_eq!(map.longest("cabaé"), "czxyé");
        assert_eq!(map.by_clusters("caba\u{301}é"), "cxybxyé");
    }

    #[test]
    fn damaged_maps_give_some_text() {
        let good = map();
        for seed in 0..2000u32 {
            let mut map = good.clone();
            for i in 0..8 {
                let hash = (seed * 8 + i).wrapping_mul(0x9e37_79b9);
                let at = [0, 0x161, 0x200, 0x262, 0x300][hash as usize % 5];
                map.units[at].0 ^= 1 << (hash >> 8 & 31);
            }
            map.longest("abé");
            map.by_clusters("abé");
        }
    }
}
