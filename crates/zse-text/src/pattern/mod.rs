//! The regular expressions of pre-tokenizers: a small backtracking matcher.
//!
//! Pre-tokenizers need Unicode categories, greedy repeats, alternatives and lookahead; no more.
//! A general engine with lookahead (`fancy-regex`) takes 2 to 4 ms to compile one such pattern,
//! because its Unicode classes become large automata; a start has better uses for them. Here a
//! class is a bit test, patterns compile in microseconds, and they stay the very strings that
//! models are published with.
//!
//! Repeats of a single character class, which is nearly all of them, keep one backtracking entry
//! however long the run is, so a megabyte of one letter needs no deep stack.

mod class;
mod parse;

use class::Class;
use parse::Node;

use crate::TextError;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    program: Vec<Inst>,
    classes: Vec<Class>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Inst {
    /// Takes one character of a class.
    Class(u32),
    /// Takes `min` to `max` characters of a class, as many as it can.
    Run {
        class: u32,
        min: u32,
        max: u32,
    },
    /// Goes on at the next instruction, or later at this one.
    Split(u32),
    Jump(u32),
    /// What follows up to a `Match` must match here (or must not); goes on at `next`.
    Look {
        negated: bool,
        next: u32,
    },
    End,
    Match,
}

/// Where to go on when a match fails.
#[derive(Clone, Copy, Debug)]
struct Retry {
    inst: u32,
    position: usize,
    /// The run may be shortened down to here; equal to `position` if it may not.
    floor: usize,
}

/// Scratch space of a search, reused from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<Retry>);

impl Pattern {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`TextError::Pattern`] for syntax that pre-tokenizers do not use.
    pub(crate) fn new(pattern: &str) -> Result<Self, TextError> {
        let mut compiled = Self {
            program: Vec::new(),
            classes: Vec::new(),
        };
        compiled.compile(&parse::parse(pattern)?);
        compiled.program.push(Inst::Match);
        Ok(compiled)
    }

    /// Cuts `text` into matches and what lies between them, and hands each piece to `emit` in
    /// order. No piece is empty; together they are `text`.
    pub(crate) fn split<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        emit: &mut dyn FnMut(&'t str, &mut Scratch),
    ) {
        let (mut start, mut gap) = (0, 0);
        while start < text.len() {
            match self.run(0, text, start, scratch) {
                Some(end) if end > start => {
                    if gap < start {
                        emit(&text[gap..start], scratch);
                    }
                    emit(&text[start..end], scratch);
                    (start, gap) = (end, end);
                }
                _ => start += char_at(text, start).map_or(1, char::len_utf8),
            }
        }
        if gap < text.len() {
            emit(&text[gap..], scratch);
        }
    }

    /// The end of the match of the program from `inst` that starts at `position` of `text`.
    fn run(&self, inst: u32, text: &str, position: usize, scratch: &mut Scratch) -> Option<usize> {
        let bottom = scratch.0.len();
        let (mut inst, mut position) = (inst as usize, position);
        loop {
            let advanced = match self.program[inst] {
                Inst::Match => {
                    scratch.0.truncate(bottom);
                    return Some(position);
                }
                Inst::Class(class) => self.take(class, text, position).map(|end| (inst + 1, end)),
                Inst::Run { class, min, max } => {
                    let (mut end, mut taken, mut floor) = (position, 0, position);
                    while taken < max {
                        let Some(next) = self.take(class, text, end) else {
                            break;
                        };
                        end = next;
                        taken += 1;
                        if taken == min {
                            floor = end;
                        }
                    }
                    if taken > min {
                        scratch.0.push(Retry {
                            inst: inst as u32 + 1,
                            position: end,
                            floor,
                        });
                    }
                    (taken >= min).then_some((inst + 1, end))
                }
                Inst::Split(other) => {
                    scratch.0.push(Retry {
                        inst: other,
                        position,
                        floor: position,
                    });
                    Some((inst + 1, position))
                }
                Inst::Jump(target) => Some((target as usize, position)),
                Inst::Look { negated, next } => {
                    let found = self.run(inst as u32 + 1, text, position, scratch).is_some();
                    (found != negated).then_some((next as usize, position))
                }
                Inst::End => (position == text.len()).then_some((inst + 1, position)),
            };
            (inst, position) = match advanced {
                Some(advanced) => advanced,
                None => retry(text, scratch, bottom)?,
            };
        }
    }

    fn take(&self, class: u32, text: &str, position: usize) -> Option<usize> {
        let class = &self.classes[class as usize];
        let &byte = text.as_bytes().get(position)?;
        if byte < 0x80 {
            return class.contains_ascii(byte).then_some(position + 1);
        }
        let c = char_at(text, position)?;
        class.contains(c).then_some(position + c.len_utf8())
    }

    fn compile(&mut self, node: &Node) {
        match node {
            Node::Class(class) => {
                let class = self.class(class);
                self.program.push(Inst::Class(class));
            }
            Node::Seq(nodes) => nodes.iter().for_each(|node| self.compile(node)),
            Node::Alt(nodes) => {
                let mut jumps = Vec::new();
                for (i, node) in nodes.iter().enumerate() {
                    let split = (i + 1 < nodes.len()).then(|| self.reserve());
                    self.compile(node);
                    if let Some(split) = split {
                        jumps.push(self.reserve());
                        self.program[split] = Inst::Split(self.here());
                    }
                }
                for jump in jumps {
                    self.program[jump] = Inst::Jump(self.here());
                }
            }
            Node::Repeat { node, min, max } => self.repeat(node, *min, *max),
            Node::Look { node, negated } => {
                let look = self.reserve();
                self.compile(node);
                self.program.push(Inst::Match);
                self.program[look] = Inst::Look {
                    negated: *negated,
                    next: self.here(),
                };
            }
            Node::End => self.program.push(Inst::End),
        }
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>) {
        if let Node::Class(class) = node {
            let class = self.class(class);
            self.program.push(Inst::Run {
                class,
                min,
                max: max.unwrap_or(u32::MAX),
            });
            return;
        }
        (0..min).for_each(|_| self.compile(node));
        match max {
            Some(max) => {
                let splits: Vec<usize> = (min..max)
                    .map(|_| {
                        let split = self.reserve();
                        self.compile(node);
                        split
                    })
                    .collect();
                for split in splits {
                    self.program[split] = Inst::Split(self.here());
                }
            }
            None => {
                let split = self.reserve();
                self.compile(node);
                self.program.push(Inst::Jump(split as u32));
                self.program[split] = Inst::Split(self.here());
            }
        }
    }

    /// The number of a class, shared between its uses.
    fn class(&mut self, class: &Class) -> u32 {
        let known = self.classes.iter().position(|other| other == class);
        known.unwrap_or_else(|| {
            self.classes.push(class.clone());
            self.classes.len() - 1
        }) as u32
    }

    fn reserve(&mut self) -> usize {
        self.program.push(Inst::Match);
        self.program.len() - 1
    }

    fn here(&self) -> u32 {
        self.program.len() as u32
    }
}

/// Takes back the latest choice above `bottom`.
fn retry(text: &str, scratch: &mut Scratch, bottom: usize) -> Option<(usize, usize)> {
    if scratch.0.len() == bottom {
        return None;
    }
    let Retry {
        inst,
        mut position,
        floor,
    } = scratch.0.pop()?;
    if position > floor {
        position -= 1;
        while !text.is_char_boundary(position) {
            position -= 1;
        }
        if position > floor {
            scratch.0.push(Retry {
                inst,
                position,
                floor,
            });
        }
    }
    Some((inst as usize, position))
}

pub(crate) fn char_at(text: &str, position: usize) -> Option<char> {
    text[position..].chars().next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let pattern = Pattern::new(pattern).unwrap();
        pattern.split(text, &mut Scratch::default(), &mut |piece, _| {
            pieces.push(piece)
        });
        pieces
    }

    #[test]
    fn repeats_give_back_what_the_rest_needs() {
        assert_eq!(split(r"a*ab", "aaab"), ["aaab"]);
        assert_eq!(
            split(r"\s+(?!\S)", "  \u{3000}x "),
            ["  ", "\u{3000}x", " "]
        );
        assert_eq!(split(r"\s*[\r\n]+|\s+", " \n \n  x"), [" \n \n", "  ", "x"]);
        assert_eq!(split(r"\p{N}{1,3}", "12345x"), ["123", "45", "x"]);
        assert_eq!(split(r"(ab|c){2,3}", "abcabccab"), ["abcab", "ccab"]);
        assert_eq!(
            split(r"(?:ab)+c|a", "ababc aba"),
            ["ababc", " ", "a", "b", "a"]
        );
    }

    #[test]
    fn alternatives_are_tried_in_order() {
        assert_eq!(split(r"a|ab", "ab"), ["a", "b"]);
        assert_eq!(
            split(r"(?i:'s|'[rx]e)|\p{L}+", "we'RE x's"),
            ["we", "'RE", " ", "x", "'s"]
        );
        assert_eq!(split(r"\s+$", " a  "), [" a", "  "]);
        assert_eq!(
            split(r"[^\s\p{L}]?\p{L}+", "-añb--c 漢"),
            ["-añb", "-", "-c", " ", "漢"]
        );
        assert_eq!(split(r"[\p{L}&&[^\p{Han}]]+", "ab漢c"), ["ab", "漢", "c"]);
    }

    #[test]
    fn syntax_outside_of_the_subset_is_refused() {
        for pattern in [
            "(", "a)", "[a", "a**", "a++", "(a*)*", "(?<n>a)", ".", "\\q", "a{9999}", "[b-a]",
            "\\p{Q}",
        ] {
            assert!(
                matches!(Pattern::new(pattern), Err(TextError::Pattern { .. })),
                "{pattern}"
            );
        }
        assert!(Pattern::new(&"(".repeat(1000)).is_err());
    }

    #[test]
    fn a_long_run_needs_no_deep_stack() {
        let text = "A".repeat(1 << 20);
        assert_eq!(split(r"\p{Lu}*\p{Ll}+|\p{Lu}+", &text).len(), 1);
        assert_eq!(split(r"\p{L}(?: ?\p{L}|\p{M})*", &text).len(), 1);
    }

    proptest! {
        #[test]
        fn pieces_are_not_empty_and_add_up(text in "\\PC*|[ a1\\n']*") {
            let pieces = split(r"'s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", &text);
            prop_assert!(pieces.iter().all(|p| !p.is_empty()));
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
