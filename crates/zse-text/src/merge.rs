//! The merging of BPE: join the best pair of neighbours until no pair can be joined.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::work;

/// The symbols of one word, and the pairs that may be merged.
///
/// Symbols form a doubly linked list over the bytes of the word; candidates wait in a heap, and a
/// candidate that a merge has overtaken is recognised by its length when it comes up. So a word of
/// n symbols takes O(n log n), whatever it is made of.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Neighbours, or `NONE`.
    previous: u32,
    next: u32,
    start: u32,
    /// In bytes; 0 for a symbol that was merged into the one before it.
    len: u32,
}

/// A pair, ordered by rank and then from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    /// Bytes of both together when the candidate was found.
    len: u32,
}

const NONE: u32 = u32::MAX;

/// The longest word in bytes.
pub(crate) const MAX_WORD: usize = 1 << 30;

impl Merger {
    /// Merges `word`, which starts out as symbols of `lengths` bytes each, and hands the symbols
    /// that remain to `emit` in order. `rank(pair, left)` says how early the two symbols that make
    /// up the bytes `pair`, the left one `left` bytes long, are merged: lower is earlier, `None`
    /// never.
    ///
    /// `word` must be at most [`MAX_WORD`] bytes, which `lengths` add up to.
    pub(crate) fn merge<'w>(
        &mut self,
        word: &'w [u8],
        lengths: impl Iterator<Item = usize>,
        mut rank: impl FnMut(&[u8], usize) -> Option<u32>,
        mut emit: impl FnMut(&'w [u8]),
    ) {
        self.symbols.clear();
        self.queue.clear();
        let mut start = 0;
        for len in lengths {
            let i = self.symbols.len() as u32;
            let previous = i.checked_sub(1).unwrap_or(NONE);
            self.symbols.push(Symbol {
                previous,
                next: i + 1,
                start,
                len: len as u32,
            });
            start += len as u32;
        }
        let Some(last) = self.symbols.last_mut() else {
            return;
        };
        last.next = NONE;
        for right in 1..self.symbols.len() as u32 {
            self.consider(word, right - 1, right, &mut rank);
        }
        while let Some(Reverse(Candidate {
            left, right, len, ..
        })) = self.queue.pop()
        {
            work::step(1);
            let [a, b] = [self.symbols[left as usize], self.symbols[right as usize]];
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            self.symbols[left as usize] = Symbol {
                len,
                next: b.next,
                ..a
            };
            self.symbols[right as usize].len = 0;
            if b.next != NONE {
                self.symbols[b.next as usize].previous = left;
            }
            if a.previous != NONE {
                self.consider(word, a.previous, left, &mut rank);
            }
            if b.next != NONE {
                self.consider(word, left, b.next, &mut rank);
            }
        }
        for symbol in self.symbols.iter().filter(|symbol| symbol.len > 0) {
            emit(&word[symbol.start as usize..][..symbol.len as usize]);
        }
    }

    fn consider(
        &mut self,
        word: &[u8],
        left: u32,
        right: u32,
        rank: &mut impl FnMut(&[u8], usize) -> Option<u32>,
    ) {
        work::step(1);
        let [a, b] = [self.symbols[left as usize], self.symbols[right as usize]];
        let len = a.len + b.len;
        if let Some(rank) = rank(&word[a.start as usize..][..len as usize], a.len as usize) {
            self.queue.push(Reverse(Candidate {
                rank,
                left,
                right,
                len,
            }));
        }
    }
}

/// The lengths in bytes of the characters of `text`.
pub(crate) fn char_lengths(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.chars().map(char::len_utf8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Merges by rank the obvious way: find the best pair, join it, start again.
    fn naive(word: &str, rank: impl Fn(&[u8], usize) -> Option<u32>) -> Vec<Vec<u8>> {
        let mut symbols: Vec<Vec<u8>> = word.chars().map(|c| c.to_string().into_bytes()).collect();
        loop {
            let best = (1..symbols.len())
                .filter_map(|i| {
                    let pair = [&symbols[i - 1][..], &symbols[i][..]].concat();
                    rank(&pair, symbols[i - 1].len()).map(|rank| (rank, i))
                })
                .min();
            let Some((_, i)) = best else { return symbols };
            let right = symbols.remove(i);
            symbols[i - 1].extend(right);
        }
    }

    proptest! {
        #[test]
        fn equals_joining_the_best_pair_again_and_again(
            word in "[abcä]{0,40}",
            merges in proptest::collection::vec(("[abcä]{1,4}", 1..4usize), 0..30),
        ) {
            let rank = |pair: &[u8], left: usize| {
                let found = merges.iter().position(|(text, at)| text.as_bytes() == pair && *at == left);
                found.map(|rank| rank as u32 / 3) // several of one rank
            };
            let mut merged = Vec::new();
            Merger::default().merge(word.as_bytes(), char_lengths(&word), rank, |symbol| merged.push(symbol.to_vec()));
            prop_assert_eq!(merged, naive(&word, rank));
        }
    }
}
