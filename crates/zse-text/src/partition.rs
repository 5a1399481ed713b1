//! Cutting text at its special tokens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::string_table::StringTable;
use crate::vocab::TokenKind;
use crate::work;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    /// A special token that the text spells out.
    Token(u32),
    /// Text in between; not empty.
    Text(&'t str),
}

/// The tokens that text is cut at before it is tokenized.
#[derive(Clone, Debug)]
pub(crate) struct SpecialTokens {
    /// Longest first: a longer token wins over a shorter one wherever they overlap.
    by_length: Vec<Special>,
    /// Indices of `by_length` in the order of their spelling, a prefix before what it starts.
    by_spelling: Vec<u32>,
    /// For each of `by_length`, the next that is spelled the same, or else the first of the longest
    /// that are spelled as its beginning.
    shorter: Vec<Option<u32>>,
}

#[derive(Clone, Debug)]
struct Special {
    id: u32,
    spelling: Vec<u8>,
    /// Only found where the caller asks for special tokens.
    hidden: bool,
    strip: Strip,
}

/// Which spaces a special token swallows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strip {
    /// Those before it.
    pub(crate) left: bool,
    /// Those behind it.
    pub(crate) right: bool,
}

impl SpecialTokens {
    /// The special tokens among `tokens`: user-defined ones are always cut out, control and
    /// unknown ones where the caller asks for them. No text spells those that are not UTF-8.
    pub(crate) fn new(
        tokens: &StringTable,
        kinds: &[TokenKind],
        strip: impl Fn(u32) -> Strip,
    ) -> Self {
        use TokenKind::{Control, Unknown, UserDefined};
        let is_special = |spelling: &[u8], kind| {
            let is_text = !spelling.is_empty() && std::str::from_utf8(spelling).is_ok();
            is_text && matches!(kind, Control | Unknown | UserDefined)
        };
        let mut by_length: Vec<Special> = tokens
            .iter()
            .zip(kinds)
            .zip(0..)
            .filter(|((spelling, kind), _)| is_special(spelling, **kind))
            .map(|((spelling, &kind), id)| Special {
                id,
                spelling: spelling.to_vec(),
                hidden: kind != UserDefined,
                strip: strip(id),
            })
            .collect();
        by_length.sort_by_key(|special| Reverse(special.spelling.len()));
        let mut by_spelling: Vec<u32> = (0..by_length.len() as u32).collect();
        by_spelling.sort_by_key(|&i| &by_length[i as usize].spelling);
        let shorter = shorter(&by_length, &by_spelling);
        Self {
            by_length,
            by_spelling,
            shorter,
        }
    }

    /// Whether any of them swallows spaces.
    pub(crate) fn strip_spaces(&self) -> bool {
        let strips = |special: &Special| special.strip != Strip::default();
        self.by_length.iter().any(strips)
    }

    /// Cuts `text` at its special tokens; hidden ones only if `hidden`.
    ///
    /// Each token in turn, longest first, is cut out of what text is left, from left to right.
    pub(crate) fn partition<'t>(&self, text: &'t str, hidden: bool) -> Vec<Fragment<'t>> {
        // What is still to be tried, in order; of the tokens at one place the longest that fits.
        let mut hits = self.hits(text.as_bytes(), hidden);
        let mut found: Vec<(usize, u32)> = Vec::new();
        // What text is left: where each part of it starts and ends.
        let mut left: BTreeMap<usize, usize> = BTreeMap::new();
        if !text.is_empty() {
            left.insert(0, text.len());
        }
        while let Some(Reverse((i, at))) = hits.pop() {
            work::step(1);
            let part = left.range(..=at).next_back();
            let Some((start, end)) = part
                .map(|(&start, &end)| (start, end))
                .filter(|&(_, end)| at < end)
            else {
                continue;
            };
            let special = &self.by_length[i as usize];
            let after = at + special.spelling.len();
            if after > end {
                let fits = |i: &u32| {
                    let special = &self.by_length[*i as usize];
                    special.spelling.len() <= end - at && (hidden || !special.hidden)
                };
                let shorter = |i: &u32| self.shorter[*i as usize];
                let next = std::iter::successors(shorter(&i), shorter).find(fits);
                hits.extend(next.map(|i| Reverse((i, at))));
                continue;
            }
            found.push((at, special.id));
            let kept = match special.strip.left {
                true => start + text[start..at].trim_end_matches(is_c_space).len(),
                false => at,
            };
            let rest = match special.strip.right {
                true => end - text[after..end].trim_start_matches(is_c_space).len(),
                false => after,
            };
            left.remove(&start);
            let parts = [(start, kept), (rest, end)];
            left.extend(parts.into_iter().filter(|(from, to)| from < to));
        }
        let tokens = found.into_iter().map(|(at, id)| (at, Fragment::Token(id)));
        let texts = left
            .into_iter()
            .map(|(from, to)| (from, Fragment::Text(&text[from..to])));
        let mut fragments: Vec<_> = tokens.chain(texts).collect();
        fragments.sort_by_key(|&(at, _)| at);
        fragments
            .into_iter()
            .map(|(_, fragment)| fragment)
            .collect()
    }

    /// The places in `text` where tokens start, each with the index in `by_length` of the longest.
    fn hits(&self, text: &[u8], hidden: bool) -> BinaryHeap<Reverse<(u32, usize)>> {
        let wanted = |i: u32| hidden || !self.by_length[i as usize].hidden;
        let spelled = |i: &u32| &self.by_length[*i as usize].spelling;
        let mut starts = [false; 256];
        for i in (0..self.by_length.len() as u32).filter(|&i| wanted(i)) {
            starts[spelled(&i)[0] as usize] = true;
        }
        let longest_at = |at: usize| {
            let mut longest: Option<u32> = None;
            // Narrow the sorted spellings to those that start with 1, 2, 3, ... bytes of the text.
            let mut candidates = &self.by_spelling[..];
            for (depth, byte) in text[at..].iter().enumerate() {
                work::step(1);
                let from = candidates.partition_point(|i| spelled(i)[depth] < *byte);
                candidates = &candidates[from..];
                candidates =
                    &candidates[..candidates.partition_point(|i| spelled(i)[depth] == *byte)];
                while let Some((&i, rest)) = candidates
                    .split_first()
                    .filter(|(i, _)| spelled(i).len() == depth + 1)
                {
                    // The first of those that are spelled the same.
                    if wanted(i) && longest.is_none_or(|l| spelled(&l).len() <= depth) {
                        longest = Some(i);
                    }
                    candidates = rest;
                }
                if candidates.is_empty() {
                    break;
                }
            }
            longest.map(|i| Reverse((i, at)))
        };
        (0..text.len())
            .filter(|&at| starts[text[at] as usize])
            .filter_map(longest_at)
            .collect()
    }
}

/// [`SpecialTokens::shorter`].
fn shorter(by_length: &[Special], by_spelling: &[u32]) -> Vec<Option<u32>> {
    let spelled = |i: u32| &by_length[i as usize].spelling[..];
    let mut shorter = vec![None; by_length.len()];
    // Each starts the next, and the last the spelling that comes next.
    let mut beginnings: Vec<u32> = Vec::new();
    let mut before: Option<u32> = None;
    for &i in by_spelling {
        match before.filter(|&before| spelled(before) == spelled(i)) {
            Some(before) => {
                shorter[i as usize] = shorter[before as usize].replace(i);
            }
            None => {
                while beginnings
                    .pop_if(|last| !spelled(i).starts_with(spelled(*last)))
                    .is_some()
                {}
                shorter[i as usize] = beginnings.last().copied();
                beginnings.push(i);
            }
        }
        before = Some(i);
    }
    shorter
}

/// What `isspace` of C calls a space.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Fragment::{Text, Token};
    use super::*;

    /// [`SpecialTokens::partition`] the obvious way: token after token is cut out of all parts of
    /// the text.
    fn simple<'t>(tokens: &SpecialTokens, text: &'t str, hidden: bool) -> Vec<Fragment<'t>> {
        let mut parts = vec![Text(text)];
        for special in &tokens.by_length {
            if special.hidden && !hidden {
                continue;
            }
            let spelling = std::str::from_utf8(&special.spelling).unwrap();
            let cut = |part| match part {
                Token(_) => vec![part],
                Text(mut text) => {
                    let mut cut = Vec::new();
                    while let Some((before, after)) = text.split_once(spelling) {
                        cut.push(Text(match special.strip.left {
                            true => before.trim_end_matches(is_c_space),
                            false => before,
                        }));
                        cut.push(Token(special.id));
                        text = match special.strip.right {
                            true => after.trim_start_matches(is_c_space),
                            false => after,
                        };
                    }
                    cut.push(Text(text));
                    cut
                }
            };
            parts = parts.into_iter().flat_map(cut).collect();
        }
        parts.retain(|part| *part != Text(""));
        parts
    }

    proptest! {
        #[test]
        fn equals_cutting_out_one_token_after_the_other(
            text in "[ab \u{e9}]{0,40}",
            special in prop::collection::vec(
                ("[ab \u{e9}]{1,5}", any::<bool>(), any::<bool>(), any::<bool>()), 0..12),
            hidden: bool,
        ) {
            let spellings = special.iter().map(|(spelling, ..)| spelling.as_bytes());
            let table = StringTable::new("test", spellings).unwrap();
            let kinds = special.iter().map(|(_, hidden, ..)| match hidden {
                true => TokenKind::Control,
                false => TokenKind::UserDefined,
            });
            let tokens = SpecialTokens::new(&table, &kinds.collect::<Vec<_>>(), |id| {
                let (_, _, left, right) = special[id as usize];
                Strip { left, right }
            });
            prop_assert_eq!(tokens.partition(&text, hidden), simple(&tokens, &text, hidden));
        }
    }

    fn tokens(strip: Strip) -> SpecialTokens {
        let spellings = ["a", "<s>", "<s>>", "  ", "é"];
        let table = StringTable::new("test", spellings.iter().map(|s| s.as_bytes())).unwrap();
        use TokenKind::*;
        let kinds = [Normal, Control, Control, UserDefined, UserDefined];
        SpecialTokens::new(&table, &kinds, |id| {
            if id == 1 { strip } else { Strip::default() }
        })
    }

    #[test]
    fn longer_tokens_win_and_control_tokens_must_be_asked_for() {
        let tokens = tokens(Strip::default());
        assert_eq!(
            tokens.partition("a<s>>b<s>", true),
            [Text("a"), Token(2), Text("b"), Token(1)]
        );
        assert_eq!(
            tokens.partition("a<s>   é", false),
            [Text("a<s>"), Token(3), Text(" "), Token(4)]
        );
        assert_eq!(tokens.partition("", true), []);
        assert_eq!(tokens.partition("<s", true), [Text("<s")]);
    }

    #[test]
    fn characters_are_not_cut() {
        let spellings = [&"é".as_bytes()[..1], &"é".as_bytes()[1..], b"\xff", b""];
        let table = StringTable::new("test", spellings.into_iter()).unwrap();
        let kinds = [TokenKind::UserDefined; 4];
        let tokens = SpecialTokens::new(&table, &kinds, |_| Strip::default());
        assert_eq!(tokens.partition("aéb", true), [Text("aéb")]);
    }

    #[test]
    fn stripping_tokens_swallow_spaces_that_are_not_tokens_already() {
        let both = tokens(Strip {
            left: true,
            right: true,
        });
        assert_eq!(
            both.partition("x \n<s>\t\ty", true),
            [Text("x"), Token(1), Text("y")]
        );
        let right = tokens(Strip {
            left: false,
            right: true,
        });
        assert_eq!(right.partition(" <s> ", true), [Text(" "), Token(1)]);
        // "<s>" is longer than the token of two spaces, so it is cut out first.
        assert_eq!(right.partition("<s>  x", true), [Token(1), Text("x")]);
    }
}
