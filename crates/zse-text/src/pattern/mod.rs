//! The regular expressions of pre-tokenizers: a small backtracking matcher.
//!
//! Pre-tokenizers need Unicode categories, greedy repeats, alternatives and lookahead; no more.
//! A general engine with lookahead (`fancy-regex`) takes 2 to 4 ms to compile one such pattern,
//! because its Unicode classes become large automata; a start has better uses for them. Here a
//! class is a bit test, patterns compile in microseconds, and they stay the very strings that
//! models are published with.
//!
//! Repeats of a single character class, which is nearly all of them, keep one backtracking entry
//! however long the run is, so a megabyte of one letter needs no deep stack. A long run that
//! nothing could follow is remembered, so that it is not gone through again from its every place.

mod class;
mod parse;

use class::Class;
use parse::Node;

use crate::{TextError, work};

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
enum Retry {
    At {
        inst: u32,
        position: usize,
        /// The run may be shortened down to here; equal to `position` if it may not.
        floor: usize,
    },
    /// Nowhere: nothing that may follow the run matches.
    Failed(FailedRun),
}

/// A run without an upper limit, after which nothing matched, however it was shortened.
///
/// What follows a place does not depend on how the search came there. So a run of the same
/// instruction that starts within this one, and hence ends with it, fails too.
#[derive(Clone, Copy, Debug)]
struct FailedRun {
    inst: u32,
    start: usize,
    end: usize,
}

/// The shortest run in characters that is worth remembering.
const LONG_RUN: u32 = 64;

/// Scratch space of a search, reused from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<Retry>);

/// What is known of a text.
struct FailedRuns {
    /// For each instruction the latest run that failed.
    latest: Vec<FailedRun>,
    /// The shortest run in characters that is remembered.
    shortest: u32,
}

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
        self.split_remembering(LONG_RUN, text, scratch, emit);
    }

    /// [`split`](Self::split), remembering runs of at least `shortest` characters.
    fn split_remembering<'t>(
        &self,
        shortest: u32,
        text: &'t str,
        scratch: &mut Scratch,
        emit: &mut dyn FnMut(&'t str, &mut Scratch),
    ) {
        let (mut start, mut gap) = (0, 0);
        let mut failed = FailedRuns {
            latest: Vec::new(),
            shortest,
        };
        while start < text.len() {
            match self.run(0, text, start, scratch, &mut failed) {
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
    fn run(
        &self,
        inst: u32,
        text: &str,
        position: usize,
        scratch: &mut Scratch,
        failed: &mut FailedRuns,
    ) -> Option<usize> {
        let bottom = scratch.0.len();
        let (mut inst, mut position) = (inst as usize, position);
        loop {
            work::step(1);
            let advanced = match self.program[inst] {
                Inst::Match => {
                    scratch.0.truncate(bottom);
                    return Some(position);
                }
                Inst::Class(class) => self.take(class, text, position).map(|end| (inst + 1, end)),
                Inst::Run { max, .. } if max == u32::MAX && failed.holds(inst, position) => None,
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
                    work::step(taken);
                    let next = inst as u32 + 1;
                    if taken >= failed.shortest && max == u32::MAX {
                        scratch.0.push(Retry::Failed(FailedRun {
                            inst: inst as u32,
                            start: position,
                            end,
                        }));
                    }
                    if taken > min {
                        scratch.0.push(Retry::At {
                            inst: next,
                            position: end,
                            floor,
                        });
                    }
                    (taken >= min).then_some((next as usize, end))
                }
                Inst::Split(other) => {
                    scratch.0.push(Retry::At {
                        inst: other,
                        position,
                        floor: position,
                    });
                    Some((inst + 1, position))
                }
                Inst::Jump(target) => Some((target as usize, position)),
                Inst::Look { negated, next } => {
                    let found = self.run(inst as u32 + 1, text, position, scratch, failed);
                    (found.is_some() != negated).then_some((next as usize, position))
                }
                Inst::End => (position == text.len()).then_some((inst + 1, position)),
            };
            (inst, position) = match advanced {
                Some(advanced) => advanced,
                None => retry(text, scratch, failed, bottom)?,
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

impl FailedRuns {
    /// Whether the run of instruction `inst` at `position` is known to fail.
    fn holds(&self, inst: usize, position: usize) -> bool {
        let within = |run: &FailedRun| run.start <= position && position < run.end;
        let mut of_inst = self.latest.iter().filter(|run| run.inst as usize == inst);
        of_inst.any(within)
    }

    fn add(&mut self, run: FailedRun) {
        self.latest.retain(|known| known.inst != run.inst);
        self.latest.push(run);
    }
}

/// Takes back the latest choice above `bottom`.
fn retry(
    text: &str,
    scratch: &mut Scratch,
    failed: &mut FailedRuns,
    bottom: usize,
) -> Option<(usize, usize)> {
    while scratch.0.len() > bottom {
        let (inst, mut position, floor) = match scratch.0.pop()? {
            Retry::At {
                inst,
                position,
                floor,
            } => (inst, position, floor),
            Retry::Failed(run) => {
                failed.add(run);
                continue;
            }
        };
        if position > floor {
            position -= 1;
            while !text.is_char_boundary(position) {
                position -= 1;
            }
            if position > floor {
                scratch.0.push(Retry::At {
                    inst,
                    position,
                    floor,
                });
            }
        }
        return Some((inst as usize, position));
    }
    None
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
    fn long_runs_that_failed_are_not_gone_through_again() {
        let spaces = " ".repeat(1000);
        for (pattern, end, pieces) in [
            (r"\s+$", "1", 1),
            (r"\s+$", "", 1),
            (r"\s*\n|\s", "1", 1001),
            (r"\s*\n|\s", "\n", 1),
            (r"\s*\n\s*x|\s{9}", "\n", 112),
            (r"(\s+x|\s+y)", "y", 1),
            (r"(?:\s+x|\s)+y", "y", 1),
            (r"\s(?!\s+y)", "x", 1001),
        ] {
            let text = format!("{spaces}{end}");
            work::start();
            assert_eq!(split(pattern, &text).len(), pieces, "{pattern} {end:?}");
            let steps = work::steps();
            assert!(steps < 100 * 1000, "{pattern} {end:?}: {steps}");
        }
    }

    #[test]
    fn a_long_run_needs_no_deep_stack() {
        let text = "A".repeat(1 << 20);
        assert_eq!(split(r"\p{Lu}*\p{Ll}+|\p{Lu}+", &text).len(), 1);
        assert_eq!(split(r"\p{L}(?: ?\p{L}|\p{M})*", &text).len(), 1);
    }

    proptest! {
        #[test]
        fn remembered_runs_change_nothing(
            pattern in prop::sample::select(&[
                r"\s+$|a\s*",
                r"\s*[\r\n]+|\s{4}(?!\S)|\s{1,2}(?!\S)|\s",
                r"\s+\n\s*a|\s(?!\s+1)|\S+",
                r"(?:\s+a|\s)+1|[a1]+\n",
                r"\s*a*\s*1|(a|\s)+\n|a",
                r"(\s+a|a+\s+)+\n*1",
            ]),
            text in "[ a1\n]{0,12}|( {0,5}|a{0,5}|1|\n){0,9}",
        ) {
            let pattern = Pattern::new(pattern).unwrap();
            let pieces = |shortest| {
                let mut pieces = Vec::new();
                pattern.split_remembering(shortest, &text, &mut Scratch::default(), &mut |piece, _| {
                    pieces.push(piece.to_owned())
                });
                pieces
            };
            prop_assert_eq!(pieces(0), pieces(u32::MAX));
        }

        #[test]
        fn pieces_are_not_empty_and_add_up(text in "\\PC*|[ a1\\n']*") {
            let pieces = split(r"'s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", &text);
            prop_assert!(pieces.iter().all(|p| !p.is_empty()));
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
