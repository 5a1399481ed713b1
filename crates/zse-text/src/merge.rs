//! The merging of BPE (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>): join the best pair
//! of neighbours until no pair can be joined.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::work;

/// The symbols of one word, and the pairs of neighbours that may be joined.
///
/// Pairs wait in a binary heap, so that a word of n symbols takes O(n log n) whatever it is made of
/// (Kudo and Richardson 2018, <https://arxiv.org/abs/1808.06226>, section 3.1). Those that a join
/// has changed are not looked for in the heap: they are out of date by their generation.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Reverse<Pair>>,
}

/// A part of the word.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Its bytes.
    start: u32,
    end: u32,
    /// Its neighbours, or `NONE`.
    before: u32,
    after: u32,
    /// How often the pair of this symbol and the one after it has changed.
    generation: u32,
}

/// A symbol and the one after it, ordered by rank and then from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    left: u32,
    /// That of the left symbol when the pair was found.
    generation: u32,
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
        self.start(lengths);
        for left in 0..self.symbols.len() as u32 {
            self.renew(word, left, &mut rank);
        }
        while let Some(Reverse(pair)) = self.pairs.pop() {
            work::step(1);
            let left = self.symbols[pair.left as usize];
            if left.generation == pair.generation {
                self.join(pair.left);
                self.renew(word, pair.left, &mut rank);
                if left.before != NONE {
                    self.renew(word, left.before, &mut rank);
                }
            }
        }
        // The first symbol is never on the right of a pair, so it is still there.
        let mut next = self.symbols.first();
        while let Some(symbol) = next {
            emit(&word[symbol.start as usize..symbol.end as usize]);
            next = self.symbols.get(symbol.after as usize);
        }
    }

    /// Lines up symbols of `lengths` bytes.
    fn start(&mut self, lengths: impl Iterator<Item = usize>) {
        self.symbols.clear();
        self.pairs.clear();
        let (mut start, mut before) = (0, NONE);
        for (len, i) in lengths.zip(0..) {
            let end = start + len as u32;
            self.symbols.push(Symbol {
                start,
                end,
                before,
                after: i + 1,
                generation: 0,
            });
            (start, before) = (end, i);
        }
        if let Some(last) = self.symbols.last_mut() {
            last.after = NONE;
        }
    }

    /// Joins the symbol `left`, which has one after it, with that one.
    fn join(&mut self, left: u32) {
        let right = self.symbols[left as usize].after;
        let gone = &mut self.symbols[right as usize];
        gone.generation += 1;
        let Symbol { end, after, .. } = *gone;
        let joined = &mut self.symbols[left as usize];
        (joined.end, joined.after) = (end, after);
        if let Some(after) = self.symbols.get_mut(after as usize) {
            after.before = left;
        }
    }

    /// Starts a new generation of the pair of `left` and the symbol after it.
    fn renew(
        &mut self,
        word: &[u8],
        left: u32,
        rank: &mut impl FnMut(&[u8], usize) -> Option<u32>,
    ) {
        work::step(1);
        let symbol = &mut self.symbols[left as usize];
        symbol.generation += 1;
        let Symbol {
            start,
            end: middle,
            after,
            generation,
            ..
        } = *symbol;
        let Some(&Symbol { end, .. }) = self.symbols.get(after as usize) else {
            return;
        };
        let bytes = &word[start as usize..end as usize];
        if let Some(rank) = rank(bytes, (middle - start) as usize) {
            self.pairs.push(Reverse(Pair {
                rank,
                left,
                generation,
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
