//! Rendering one template: the environment that Hugging Face's templates expect, within limits.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::machinery::{
    CodeGenerator, Instructions, Token, eval, make_string_output, parse, tokenize,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, escape_formatter};

use super::guard::Guards;
use super::json;
use super::meter::{Meter, Verdict, shallow};
use crate::TextError;

/// The largest template in bytes; the longest in use has about 20,000.
const MAX_SOURCE: usize = 256 << 10;
/// Operators and names in one tag, and `elif`s in one template: each may put the rest one level
/// deeper in the syntax tree, which is walked by recursion.
const MAX_LINKS: usize = 1000;
const MAX_ELIFS: usize = 200;
/// Loops, blocks and macros (which count for four) inside each other.
const MAX_RECURSION: usize = 200;
/// The longest format of a date.
const MAX_DATE_FORMAT: usize = 256;

type Blocks<'s> = BTreeMap<&'s str, Instructions<'s>>;

/// Checks that `source` is a template that can be rendered.
pub(super) fn check(source: &str) -> Result<(), TextError> {
    compile(&mask_generation(source)?, &mut Guards::default()).map(drop)
}

/// Whether `source` reads the variable `name`: what only its comments, its text and the fields of others are
/// called does not count. One that does not parse reads none.
pub(super) fn reads(source: &str, name: &str) -> bool {
    let Ok(syntax) = syntax() else {
        return false;
    };
    let mut is_field = false;
    tokenize(source, false, syntax)
        .map_while(Result::ok)
        .any(|(token, _)| {
            let is_read = !is_field && matches!(token, Token::Ident(ident) if ident == name);
            is_field = matches!(token, Token::Dot);
            is_read
        })
}

/// Whether `source` has the text constant `text`, as one that compares a message's role with it does: comments, and
/// longer texts that hold it, do not count.
pub(super) fn has_constant(source: &str, text: &str) -> bool {
    let Ok(syntax) = syntax() else {
        return false;
    };
    tokenize(source, false, syntax)
        .map_while(Result::ok)
        .any(|(token, _)| match token {
            Token::Str(constant) => constant == text,
            Token::String(constant) => &*constant == text,
            _ => false,
        })
}

fn syntax() -> Result<SyntaxConfig, TextError> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    syntax.map_err(|error| failed(&error))
}

/// Renders `source` with the variables in `context`, a JSON object with `items` messages and tools.
/// `now` is what `strftime_now` takes for now, in UTC; by default now, in the local time zone.
pub(super) fn render(
    source: &str,
    context: &serde_json::Value,
    items: usize,
    now: Option<SystemTime>,
) -> Result<String, TextError> {
    let source = mask_generation(source)?;
    let mut guards = Guards::default();
    let (instructions, blocks) = compile(&source, &mut guards)?;
    let meter = Arc::new(Meter::new(source.len() + size(context)));
    let mut env = environment(&meter, now);
    env.set_fuel(Some(Meter::fuel(items)));
    guards.register(&mut env, &meter);
    let context = Value::from(Serde(context));
    let mut text = String::new();
    let run = || {
        let mut out = make_string_output(&mut text);
        eval(
            &env,
            &instructions,
            context,
            &blocks,
            &mut out,
            AutoEscape::None,
        )
        .map(drop)
    };
    // The engine is not free of panics; a template must not take the caller down.
    let Ok(rendered) = catch_unwind(AssertUnwindSafe(run)) else {
        return Err(TextError::Template {
            message: "the template engine failed".to_owned(),
        });
    };
    match (rendered, meter.verdict()) {
        (Ok(()), None) => Ok(text),
        // A template cannot go on after a verdict, whatever became of the error.
        (_, Some(Verdict::Limit(limit))) => Err(TextError::TemplateLimit { limit }),
        (_, Some(Verdict::Refused(message))) => Err(TextError::Refused { message }),
        (Err(error), None) if error.kind() == ErrorKind::OutOfFuel => {
            Err(TextError::TemplateLimit {
                limit: "the number of its operations",
            })
        }
        (Err(error), None) => Err(failed(&error)),
    }
}

fn compile<'s>(
    source: &'s str,
    guards: &mut Guards,
) -> Result<(Instructions<'s>, Blocks<'s>), TextError> {
    let syntax = syntax()?;
    check_depth(source, &syntax)?;
    let name = "chat template";
    let tree = parse(source, name, syntax).map_err(|error| failed(&error))?;
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&tree);
    let (instructions, blocks) = generator.finish();
    let instructions = guards.install(instructions)?;
    let blocks = blocks
        .into_iter()
        .map(|(name, block)| Ok((name, guards.install(block)?)));
    Ok((instructions, blocks.collect::<Result<_, TextError>>()?))
}

/// Refuses templates whose syntax tree could be too deep to walk.
fn check_depth(source: &str, syntax: &SyntaxConfig) -> Result<(), TextError> {
    let (mut links, mut elifs) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        match token.map_err(|error| failed(&error))?.0 {
            Token::BlockStart | Token::VariableStart => links = 0,
            Token::Comma | Token::Colon | Token::Str(_) | Token::String(_) => {}
            Token::Int(_) | Token::Int128(_) | Token::Float(_) | Token::TemplateData(_) => {}
            token => {
                links += 1;
                elifs += usize::from(matches!(token, Token::Ident("elif")));
            }
        }
        if links > MAX_LINKS || elifs > MAX_ELIFS {
            return Err(TextError::TemplateLimit {
                limit: "the nesting of its source",
            });
        }
    }
    Ok(())
}

fn failed(error: &Error) -> TextError {
    let line = error
        .line()
        .map_or(String::new(), |line| format!("line {line}: "));
    let detail = error
        .detail()
        .map_or(String::new(), |detail| format!(": {detail}"));
    TextError::Template {
        message: format!("{line}{}{detail}", error.kind()),
    }
}

/// `source` with the tags of Hugging Face's `{% generation %}` block, which marks what a model is
/// trained on, turned into tags without effect.
fn mask_generation(source: &str) -> Result<String, TextError> {
    if source.len() > MAX_SOURCE {
        return Err(TextError::TemplateLimit {
            limit: "the size of its source",
        });
    }
    let mut masked = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((segment, after)) = rest.split_once("%}") {
        let start = segment.rfind("{%").map_or(segment.len(), |at| at + 2);
        let (before, tag) = segment.split_at(start);
        let bare = tag.trim_matches(['-', '+']).trim();
        let replacement = match bare {
            "generation" => "if true",
            "endgeneration" => "endif",
            other => other,
        };
        masked.push_str(before);
        match replacement == bare {
            true => masked.push_str(tag),
            false => masked.push_str(&tag.replace(bare, &format!(" {replacement} "))),
        }
        masked.push_str("%}");
        rest = after;
    }
    masked.push_str(rest);
    Ok(masked)
}

/// The functions, filters and methods that templates may use.
fn environment(meter: &Arc<Meter>, now: Option<SystemTime>) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_recursion_limit(MAX_RECURSION);
    // Not in Jinja, and costly to bound.
    ["chain", "zip", "pprint"]
        .iter()
        .for_each(|name| env.remove_filter(name));
    env.remove_global("debug");
    env.set_unknown_method_callback(unknown_method);

    let charged = Arc::clone(meter);
    env.set_formatter(move |out, state, value| {
        let weight = match value.kind() {
            ValueKind::String => shallow(value),
            _ => charged.weigh(value)?,
        };
        charged.emit(weight)?;
        escape_formatter(out, state, value)
    });
    let charged = Arc::clone(meter);
    env.add_filter("tojson", move |value: &Value, arguments: Kwargs| {
        json::tojson(value, &arguments, &charged)
    });
    let stopped = Arc::clone(meter);
    env.add_function(
        "raise_exception",
        move |message: String| -> Result<Value, Error> {
            Err(stopped.stop(Verdict::Refused(message)))
        },
    );
    env.add_function("strftime_now", move |format: &str| date(format, now));
    env
}

/// Methods of Python's types that the engine itself lacks.
fn unknown_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method) {
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        (Some(text), "rsplit") => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            // Negative: as many as there are.
            let most = most.and_then(|most| usize::try_from(most).ok());
            rsplit(text, separator, most.unwrap_or(usize::MAX))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// Python's `str.rsplit`: `text` cut at the last `most` separators, by default runs of spaces.
fn rsplit(text: &str, separator: Option<&str>, most: usize) -> Result<Value, Error> {
    let mut pieces: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(most.saturating_add(1), separator).collect(),
        None => {
            let (mut rest, mut words) = (text.trim_end(), Vec::new());
            while !rest.is_empty() && words.len() < most {
                let word = rest.rsplit(char::is_whitespace).next().unwrap_or(rest);
                words.push(word);
                rest = rest[..rest.len() - word.len()].trim_end();
            }
            words.extend(Some(rest).filter(|rest| !rest.is_empty()));
            words
        }
    };
    pieces.reverse();
    Ok(pieces.into_iter().map(Value::from).collect())
}

/// The date and time in a format of C's `strftime`.
fn date(format: &str, now: Option<SystemTime>) -> Result<String, Error> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    if format.len() > MAX_DATE_FORMAT {
        return Err(invalid("the format of strftime_now is too long".to_owned()));
    }
    let now = match now {
        None => Zoned::now(),
        Some(time) => Timestamp::try_from(time)
            .map_err(|error| invalid(error.to_string()))?
            .to_zoned(TimeZone::UTC),
    };
    strtime::format(format, &now).map_err(|error| invalid(format!("strftime_now: {error}")))
}

/// The size of a JSON value written out, about.
fn size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        serde_json::Value::Object(map) => {
            map.iter()
                .map(|(key, value)| key.len() + size(value) + 4)
                .sum::<usize>()
                + 2
        }
        _ => 8,
    }
}
