//! Many short byte strings in one allocation, found by content in O(1).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::TextError;

/// Strings numbered 0, 1, 2, ... in order of insertion, with a hash index over their bytes.
///
/// Tokens and merges live in one of these each. All bytes stand in one buffer, so a table of
/// 150,000 strings costs three allocations, not 150,000. Hashes are seeded at random: a hostile
/// file cannot aim for collisions.
#[derive(Clone, Debug)]
pub struct StringTable {
    bytes: Vec<u8>,
    /// `ends[i]` is where string `i` ends in `bytes`, and string `i + 1` starts.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    longest: usize,
}

impl StringTable {
    /// The table of `strings`. Of equal strings the first is the one found.
    ///
    /// # Errors
    /// [`TextError::Vocabulary`] naming `field` if the strings take 4 GiB or more.
    pub fn new<'a>(
        field: &'static str,
        strings: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<Self, TextError> {
        let too_large = || TextError::Vocabulary {
            field,
            problem: "takes 4 GiB or more, which no tokenizer does".to_owned(),
        };
        let count = strings.len();
        u32::try_from(count).map_err(|_| too_large())?;
        let mut table = Self {
            bytes: Vec::with_capacity(count.saturating_mul(8)),
            ends: Vec::with_capacity(count),
            index: HashTable::with_capacity(count),
            hasher: RandomState::default(),
            longest: 0,
        };
        for string in strings {
            table.bytes.extend_from_slice(string);
            table
                .ends
                .push(u32::try_from(table.bytes.len()).map_err(|_| too_large())?);
            table.longest = table.longest.max(string.len());
        }
        let Self {
            bytes,
            ends,
            index,
            hasher,
            ..
        } = &mut table;
        for id in 0..ends.len() as u32 {
            let string = slice(bytes, ends, id);
            index
                .entry(
                    hash(hasher, string),
                    |&other| slice(bytes, ends, other) == string,
                    |&other| hash(hasher, slice(bytes, ends, other)),
                )
                .or_insert(id);
        }
        Ok(table)
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Length in bytes of the longest string.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// String `id`, or `None` if there are not that many.
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        (usize::try_from(id).ok()? < self.len()).then(|| slice(&self.bytes, &self.ends, id))
    }

    /// The number of the first string equal to `string`.
    pub fn find(&self, string: &[u8]) -> Option<u32> {
        if string.len() > self.longest {
            return None;
        }
        let equal = |&id: &u32| slice(&self.bytes, &self.ends, id) == string;
        self.index.find(hash(&self.hasher, string), equal).copied()
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|id| slice(&self.bytes, &self.ends, id as u32))
    }
}

fn hash(hasher: &RandomState, string: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(string);
    state.finish()
}

/// String `id`, which must exist.
fn slice<'a>(bytes: &'a [u8], ends: &[u32], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &bytes[start..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_string_and_the_first_of_equal_ones() {
        let strings: [&[u8]; 5] = [b"a", b"", b"bc", b"a", b"\xff"];
        let table = StringTable::new("test", strings.iter().copied()).unwrap();
        assert_eq!(
            (table.len(), table.longest(), table.is_empty()),
            (5, 2, false)
        );
        assert!(table.iter().eq(strings));
        assert_eq!(table.find(b"a"), Some(0));
        assert_eq!(table.find(b""), Some(1));
        assert_eq!(table.find(b"bc"), Some(2));
        assert_eq!(table.find(b"\xff"), Some(4));
        assert_eq!((table.find(b"b"), table.find(b"bcd")), (None, None));
        assert_eq!((table.get(2), table.get(5)), (Some(&b"bc"[..]), None));
    }
}
