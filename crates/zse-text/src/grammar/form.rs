//! From a form to the library's grammar, within limits.

use std::collections::BTreeSet;
use std::io;

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::notation::Rules;
use super::parts;
use super::{Grammar, GrammarError, TaggedCall};
use crate::Tokenizer;

/// Bytes of a grammar, or of a schema as JSON.
const MAX_BYTES: usize = 64 << 10;

/// Bytes of the grammar of calls, in which what schemas refer to stands more than once.
const MAX_RULES: usize = 512 << 10;

/// Values within one another in a schema.
const MAX_DEPTH: usize = 64;

/// Properties of an object: each is some items of the parser where another property may come.
const MAX_PROPERTIES: usize = 400;

/// Texts to choose from.
const MAX_CHOICES: usize = 1000;

/// Rules of a Lark grammar: they nest as deep as they refer to each other, and each may have 30 brackets
/// within each other.
const MAX_LARK_RULES: usize = 256;

/// Digits of all the different values of `multipleOf` together: an automaton has a state for each
/// remainder, by what they divide alike.
const MAX_MULTIPLE_DIGITS: usize = 4;

pub(super) fn compile(
    grammar: &Grammar,
    tokenizer: &Tokenizer,
) -> Result<TopLevelGrammar, GrammarError> {
    Ok(match grammar {
        Grammar::JsonSchema(schema) => {
            check_schema(schema)?;
            TopLevelGrammar::from_json_schema(plainly_spaced(schema))
        }
        Grammar::Regex(pattern) => {
            check_bytes(pattern.len())?;
            TopLevelGrammar::from_regex(pattern)
        }
        Grammar::Lark(text) => {
            check_lark(text)?;
            TopLevelGrammar::from_lark(text.clone())
        }
        Grammar::Choice(texts) => TopLevelGrammar::from_lark(choice(texts)?),
        Grammar::Tagged {
            open,
            schema,
            close,
            repeat,
        } => {
            check_schema(schema)?;
            check_bytes(open.len().saturating_add(close.len()))?;
            let [open, close] = [open, close].map(|mark| literal(mark, tokenizer));
            let repeat = if *repeat {
                "call (\"\\n\" call)*"
            } else {
                "call"
            };
            let schema = plainly_spaced(schema);
            let lark = format!("start: {repeat}\ncall: {open} json {close}\njson: %json {schema}");
            TopLevelGrammar::from_lark(lark)
        }
        Grammar::Calls {
            begin,
            calls,
            end,
            repeat,
            separator,
        } => {
            let separator = repeat.then_some(separator.as_str());
            TopLevelGrammar::from_lark(calls_of([begin, end], calls, separator, tokenizer)?)
        }
        Grammar::Parts(all) => parts::compile(all, tokenizer)?,
    })
}

/// The grammar of one of several calls, or of more with a separator between two. `around`: the marks
/// before and behind all.
fn calls_of(
    around: [&[String]; 2],
    calls: &[TaggedCall],
    separator: Option<&str>,
    tokenizer: &Tokenizer,
) -> Result<String, GrammarError> {
    check("the number of calls", calls.len(), MAX_CHOICES)?;
    let marks = |marks: &[String]| {
        let marks = marks.iter().map(|mark| literal(mark, tokenizer));
        marks.collect::<Vec<_>>().join(" ")
    };
    let names: Vec<String> = (0..calls.len()).map(|i| format!("call{i}")).collect();
    let [begin, end] = around.map(marks);
    let all = match separator {
        None => "call".to_owned(),
        Some("") => "call+".to_owned(),
        Some(separator) => format!("call ({} call)*", quoted(separator)),
    };
    let mut lark = format!("start: {begin} {all} {end}\ncall: {}", names.join(" | "));
    let mut notations: Vec<Rules<'_>> = Vec::new();
    let mut size = 0_usize;
    for (i, call) in calls.iter().enumerate() {
        size = size.saturating_add(check_schema(&call.schema)?);
        check_bytes(size)?;
        let at = notations.iter().position(|r| *r.notation == call.notation);
        let at = at.unwrap_or_else(|| {
            let name = format!("notation{}", notations.len());
            notations.push(Rules::new(name, &call.notation, tokenizer));
            notations.len() - 1
        });
        let arguments = notations[at].arguments(&call.schema)?;
        check("the size of the rules", notations[at].lark.len(), MAX_RULES)?;
        let (open, close) = (marks(&call.open), marks(&call.close));
        lark += &format!("\ncall{i}: {open} {arguments} {close}");
    }
    for rules in notations {
        lark += &rules.lark;
    }
    check("the size of the rules", lark.len(), MAX_RULES)?;
    Ok(lark)
}

/// `schema` with one way to space its JSON, as Python's `json.dumps` does: where any space may stand
/// between tokens, a weak model writes nothing else until its tokens are used up.
pub(super) fn plainly_spaced(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(keys) = &mut schema {
        let options = json!({
            "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
        });
        keys.insert("x-guidance".to_owned(), options);
    }
    schema
}

fn check_bytes(size: usize) -> Result<(), GrammarError> {
    check("the size in bytes", size, MAX_BYTES)
}

fn check(what: &'static str, size: usize, limit: usize) -> Result<(), GrammarError> {
    match size > limit {
        true => Err(GrammarError::TooLarge { what, size, limit }),
        false => Ok(()),
    }
}

/// A schema within a grammar is not parsed here, so it may not hold what costs most.
fn check_lark(text: &str) -> Result<(), GrammarError> {
    check_bytes(text.len())?;
    // Each has a line of its own, with a colon.
    let rules = text.lines().filter(|line| line.contains(':')).count();
    check("the number of rules", rules, MAX_LARK_RULES)?;
    if text.contains("%if") {
        let what = "%if is not allowed in a Lark grammar";
        return Err(GrammarError::Invalid(what.to_owned()));
    }
    let costly = |word: &&str| text.contains("%json") && text.contains(*word);
    match ["multipleOf", "\\u"].iter().find(|word| costly(word)) {
        Some(word) => Err(GrammarError::Invalid(format!(
            "{word} is not allowed in a Lark grammar with %json"
        ))),
        None => Ok(()),
    }
}

/// The grammar of one of `texts`.
fn choice(texts: &[String]) -> Result<String, GrammarError> {
    check("the number of choices", texts.len(), MAX_CHOICES)?;
    let bytes = texts.iter().map(String::len);
    check_bytes(bytes.fold(0, usize::saturating_add))?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        let what = "a choice needs texts, none of them empty";
        return Err(GrammarError::Invalid(what.to_owned()));
    }
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    Ok(format!("start: {}", texts.join(" | ")))
}

/// A text as Lark spells it.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A mark as Lark spells it: the special token of that name, line breaks beside it apart, or text.
pub(super) fn literal(mark: &str, tokenizer: &Tokenizer) -> String {
    let name = mark.trim_matches('\n');
    match tokenizer.token_id(name) {
        Some(id) if tokenizer.is_special(id) => {
            let break_of = |lines: usize| match lines {
                0 => String::new(),
                lines => quoted(&"\n".repeat(lines)),
            };
            let before = mark.len() - mark.trim_start_matches('\n').len();
            let behind = mark.len() - before - name.len();
            let parts = [break_of(before), format!("<[{id}]>"), break_of(behind)];
            parts.join(" ").trim().to_owned()
        }
        _ if mark.is_empty() => String::new(),
        _ => quoted(mark),
    }
}

/// Gives the size as JSON.
fn check_schema(schema: &Value) -> Result<usize, GrammarError> {
    // First, because nothing else here is safe for a value of any depth.
    check_depth(schema, MAX_DEPTH)?;
    let size = size(schema)?;
    let mut multiples = BTreeSet::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::Object(named)) = map.get("properties") {
                    check("the number of properties", named.len(), MAX_PROPERTIES)?;
                }
                if let Some(Value::Number(multiple)) = map.get("multipleOf") {
                    multiples.insert(multiple.to_string());
                }
                open.extend(map.values());
            }
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    let digits = multiples.iter().map(|number| digits(number));
    let digits = digits.fold(0, usize::saturating_add);
    check(
        "the number of digits of multipleOf",
        digits,
        MAX_MULTIPLE_DIGITS,
    )?;
    Ok(size)
}

/// Bytes of a value as JSON, which is written no further than it may be.
fn size(value: &Value) -> Result<usize, GrammarError> {
    /// Counts what is written.
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            match self.0 > MAX_BYTES {
                true => Err(io::ErrorKind::FileTooLarge.into()),
                false => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    // It fails only where it is too large, which is checked.
    let _ = serde_json::to_writer(&mut counter, value);
    check_bytes(counter.0)?;
    Ok(counter.0)
}

/// How many digits a number has, written without an exponent.
fn digits(number: &str) -> usize {
    match number.contains(['e', 'E']) {
        true => usize::MAX,
        false => number.trim_start_matches(['-', '0', '.']).len().max(
            number
                .split_once('.')
                .map_or(0, |(_, fraction)| fraction.len()),
        ),
    }
}

/// Checks that a value is at most `left` deep, going no deeper than that.
fn check_depth(value: &Value, left: usize) -> Result<(), GrammarError> {
    let Some(left) = left.checked_sub(1) else {
        let (size, limit) = (MAX_DEPTH + 1, MAX_DEPTH);
        return check("the depth", size, limit);
    };
    match value {
        Value::Object(map) => map.values().try_for_each(|v| check_depth(v, left)),
        Value::Array(values) => values.iter().try_for_each(|v| check_depth(v, left)),
        _ => Ok(()),
    }
}
