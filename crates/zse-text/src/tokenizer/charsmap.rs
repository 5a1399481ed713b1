//! SentencePiece's compiled normalization table: which strings are replaced by which.
//!
//! The table is a little-endian `u32`, the size in bytes of a compressed double array (Kanda 2018,
//! "XCDA") that follows it, and then replacements, each ended by a zero byte. A unit of the array
//! holds the offset to its children in bits 10 to 30 (shifted by 8 more if bit 9 is set), whether
//! a key ends there in bit 8, and its own label in bits 0 to 7; bit 31 marks the unit of a value,
//! which is the offset of a replacement.

use crate::TextError;
use crate::pattern::char_at;

#[derive(Clone, Debug, Default)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads a table; an empty one maps nothing.
    pub(super) fn new(table: &[u8]) -> Result<Self, TextError> {
        let malformed = |problem: &str| TextError::Vocabulary {
            field: "tokenizer.ggml.precompiled_charsmap",
            problem: problem.to_owned(),
        };
        if table.is_empty() {
            return Ok(Self::default());
        }
        let (size, rest) = table
            .split_first_chunk()
            .ok_or_else(|| malformed("has no size"))?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest
            .split_at_checked(size)
            .ok_or_else(|| malformed("is shorter than its size says"))?;
        let units = units
            .as_chunks()
            .0
            .iter()
            .map(|unit| u32::from_le_bytes(*unit))
            .collect();
        Ok(Self {
            units,
            replacements: replacements.to_vec(),
        })
    }

    /// Hands the characters that `text` is mapped to to `emit`, in order.
    pub(super) fn map(&self, text: &str, mut emit: impl FnMut(char)) {
        let mut at = 0;
        while let Some(first) = char_at(text, at) {
            match self.longest_match(&text.as_bytes()[at..]) {
                Some((len, replacement)) if text.is_char_boundary(at + len) => {
                    replacement.chars().for_each(&mut emit);
                    at += len;
                }
                _ => {
                    emit(first);
                    at += first.len_utf8();
                }
            }
        }
    }

    /// The length of the longest key that `text` starts with, and its replacement.
    fn longest_match(&self, text: &[u8]) -> Option<(usize, &str)> {
        let children = |unit: u32| (unit >> 10) << ((unit & 1 << 9) >> 6);
        let mut node = children(*self.units.first()?);
        let mut longest = None;
        for (i, &byte) in text.iter().enumerate() {
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else {
                break;
            };
            if byte == 0 || unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            node ^= children(unit);
            if unit >> 8 & 1 == 1 {
                let value = self
                    .units
                    .get(node as usize)
                    .map(|value| value & !(1 << 31));
                longest = value.map(|value| (i + 1, value as usize));
            }
        }
        let (len, at) = longest?;
        let tail = self.replacements.get(at..)?;
        let end = tail.iter().position(|&byte| byte == 0)?;
        Some((len, std::str::from_utf8(&tail[..end]).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(charsmap: &Charsmap, text: &str) -> String {
        let mut out = String::new();
        charsmap.map(text, |c| out.push(c));
        out
    }

    /// A table with the one key "a", replaced by "xy".
    fn table() -> Vec<u8> {
        // The root's children are found at 1 << 7 ^ byte; the leaf's value right beside its unit.
        let root = 0x80u32 << 10;
        let mut units = vec![root; 1];
        units.resize(256, 0);
        let node = 0x80 ^ u32::from(b'a');
        units[node as usize] = 1 << 10 | 1 << 8 | u32::from(b'a');
        units[(node ^ 1) as usize] = 1 << 31 | 3;
        let mut table = 1024u32.to_le_bytes().to_vec();
        units
            .iter()
            .for_each(|unit| table.extend(unit.to_le_bytes()));
        table.extend(b"no\0xy\0");
        table
    }

    #[test]
    fn keys_are_replaced_and_the_rest_kept() {
        let charsmap = Charsmap::new(&table()).unwrap();
        assert_eq!(mapped(&charsmap, "bañ a"), "bxyñ xy");
        assert_eq!(mapped(&Charsmap::new(&[]).unwrap(), "a"), "a");
    }

    #[test]
    fn broken_tables_are_refused_or_harmless() {
        assert!(Charsmap::new(&[1, 2]).is_err());
        assert!(Charsmap::new(&[9, 0, 0, 0, 1]).is_err());
        for i in 4..table().len() {
            let mut broken = table();
            broken[i] ^= 0xff;
            mapped(&Charsmap::new(&broken).unwrap(), "bañ a");
        }
    }
}
