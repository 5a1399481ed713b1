//! Cutting text at its special tokens.

use memchr::memmem;

use crate::string_table::StringTable;
use crate::vocab::TokenKind;

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
    /// unknown ones where the caller asks for them.
    pub(crate) fn new(
        tokens: &StringTable,
        kinds: &[TokenKind],
        strip: impl Fn(u32) -> Strip,
    ) -> Self {
        use TokenKind::{Control, Unknown, UserDefined};
        let is_special = |kind| matches!(kind, Control | Unknown | UserDefined);
        let mut by_length: Vec<Special> = tokens
            .iter()
            .zip(kinds)
            .zip(0..)
            .filter(|((spelling, kind), _)| is_special(**kind) && !spelling.is_empty())
            .map(|((spelling, &kind), id)| Special {
                id,
                spelling: spelling.to_vec(),
                hidden: kind != UserDefined,
                strip: strip(id),
            })
            .collect();
        by_length.sort_by_key(|special| std::cmp::Reverse(special.spelling.len()));
        let mut by_spelling: Vec<u32> = (0..by_length.len() as u32).collect();
        by_spelling.sort_by_key(|&i| &by_length[i as usize].spelling);
        Self {
            by_length,
            by_spelling,
        }
    }

    /// Cuts `text` at its special tokens; hidden ones only if `hidden`.
    ///
    /// Each token in turn, longest first, is cut out of what text is left. Which tokens occur at
    /// all is found in one pass, so the many that do not cost nothing.
    pub(crate) fn partition<'t>(&self, text: &'t str, hidden: bool) -> Vec<Fragment<'t>> {
        let mut found: Vec<(usize, u32)> = Vec::new();
        let mut texts = if text.is_empty() {
            vec![]
        } else {
            vec![(0, text.len())]
        };
        for i in self.occurring(text.as_bytes(), hidden) {
            let special = &self.by_length[i];
            let finder = memmem::Finder::new(&special.spelling);
            let mut left = Vec::with_capacity(texts.len());
            for (mut start, end) in texts {
                while let Some(at) = finder.find(&text.as_bytes()[start..end]) {
                    let (before, after) = (start + at, start + at + special.spelling.len());
                    found.push((before, special.id));
                    let kept = match special.strip.left {
                        true => start + text[start..before].trim_end_matches(is_c_space).len(),
                        false => before,
                    };
                    if kept > start {
                        left.push((start, kept));
                    }
                    start = match special.strip.right {
                        true => end - text[after..end].trim_start_matches(is_c_space).len(),
                        false => after,
                    };
                }
                if start < end {
                    left.push((start, end));
                }
            }
            texts = left;
        }
        let tokens = found.into_iter().map(|(at, id)| (at, Fragment::Token(id)));
        let texts = texts
            .into_iter()
            .map(|(from, to)| (from, Fragment::Text(&text[from..to])));
        let mut fragments: Vec<_> = tokens.chain(texts).collect();
        fragments.sort_by_key(|&(at, _)| at);
        fragments
            .into_iter()
            .map(|(_, fragment)| fragment)
            .collect()
    }

    /// Indices of `by_length`, in order, of the tokens that occur in `text`.
    fn occurring(&self, text: &[u8], hidden: bool) -> Vec<usize> {
        let mut starts = [false; 256];
        for special in self
            .by_length
            .iter()
            .filter(|special| hidden || !special.hidden)
        {
            starts[special.spelling[0] as usize] = true;
        }
        let mut occurs = vec![false; self.by_length.len()];
        for (at, _) in text
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| starts[byte as usize])
        {
            // Narrow the sorted spellings to those that start with 1, 2, 3, ... bytes of the text.
            let mut candidates = &self.by_spelling[..];
            for (depth, byte) in text[at..].iter().enumerate() {
                let spelled = |&i: &u32| &self.by_length[i as usize].spelling;
                let from = candidates.partition_point(|i| spelled(i)[depth] < *byte);
                candidates = &candidates[from..];
                candidates =
                    &candidates[..candidates.partition_point(|i| spelled(i)[depth] == *byte)];
                while let Some((&i, rest)) = candidates
                    .split_first()
                    .filter(|(i, _)| spelled(i).len() == depth + 1)
                {
                    occurs[i as usize] = true;
                    candidates = rest;
                }
                if candidates.is_empty() {
                    break;
                }
            }
        }
        let wanted = |&i: &usize| occurs[i] && (hidden || !self.by_length[i].hidden);
        (0..occurs.len()).filter(wanted).collect()
    }
}

/// What `isspace` of C calls a space.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::Fragment::{Text, Token};
    use super::*;

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
