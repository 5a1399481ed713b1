//! Grammars of which others are parts.

use llguidance::api::TopLevelGrammar;

use super::form::{self, literal, quoted};
use super::{GrammarError, Part};
use crate::Tokenizer;

/// Parts within one another.
const MAX_DEPTH: usize = 8;

/// The grammar of `parts`, one after the other.
pub(super) fn compile(
    parts: &[Part],
    tokenizer: &Tokenizer,
) -> Result<TopLevelGrammar, GrammarError> {
    let mut rules = Rules {
        lark: String::new(),
        count: 0,
        others: Vec::new(),
        tokenizer,
    };
    let start = rules.sequence(parts, MAX_DEPTH)?;
    let lark = format!("start: {start}{}", rules.lark);
    let mut whole = TopLevelGrammar::from_lark(lark);
    for (i, other) in rules.others.into_iter().enumerate() {
        for mut grammar in other.grammars {
            grammar.name = Some(name(i));
            whole.grammars.push(grammar);
        }
    }
    Ok(whole)
}

/// What the grammar of this number is called.
fn name(i: usize) -> String {
    format!("part{i}")
}

struct Rules<'a> {
    lark: String,
    count: usize,
    /// The grammars that are parts.
    others: Vec<TopLevelGrammar>,
    tokenizer: &'a Tokenizer,
}

impl Rules<'_> {
    /// A rule of its own, by its name.
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("rule{}", self.count);
        self.count += 1;
        self.lark += &format!("\n{name}{attributes}: {body}");
        name
    }

    fn sequence(&mut self, parts: &[Part], left: usize) -> Result<String, GrammarError> {
        let left = left.checked_sub(1);
        let left =
            left.ok_or_else(|| GrammarError::Invalid("it has too many levels".to_owned()))?;
        let parts = parts.iter().map(|part| self.part(part, left));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(match parts.is_empty() {
            true => "\"\"".to_owned(),
            false => parts.join(" "),
        })
    }

    fn part(&mut self, part: &Part, left: usize) -> Result<String, GrammarError> {
        Ok(match part {
            Part::Mark(mark) => literal(mark, self.tokenizer),
            Part::Text => self.rule("", "/(?s:.*)/"),
            Part::Until(mark) => {
                let end = literal(mark, self.tokenizer);
                match end == quoted(mark) {
                    true => self.rule(&format!("[suffix={end}]"), "/(?s:.*)/"),
                    // A token that no text spells.
                    false => self.rule("", &format!("/(?s:.+)/? {end}")),
                }
            }
            Part::Of(grammar) => {
                let other = form::compile(grammar, self.tokenizer)?;
                if other.grammars.len() != 1 {
                    let what = "a grammar of parts is no part of another";
                    return Err(GrammarError::Invalid(what.to_owned()));
                }
                self.others.push(other);
                format!("@{}", name(self.others.len() - 1))
            }
            Part::OneOf(all) => {
                let all = all.iter().map(|parts| self.sequence(parts, left));
                let all = all.collect::<Result<Vec<_>, _>>()?;
                self.rule("", &all.join(" | "))
            }
            Part::Repeated(parts) => {
                let parts = self.sequence(parts, left)?;
                self.rule("", &format!("({parts})*"))
            }
        })
    }
}
