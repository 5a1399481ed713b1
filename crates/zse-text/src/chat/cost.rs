//! What each operation of a template costs, from its operands.

use std::slice::from_ref;
use std::sync::Arc;

use memchr::memmem;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::guard::Guard;
use super::json;
use super::meter::{Meter, Verdict, is_namespace, shallow};

/// The largest width, count or precision in formats and filters.
const MAX_COUNT: usize = 10_000;

/// Charges `meter` for the operation `guard` on `operands`, which stand in the order they were
/// pushed in. Replaces operands where Python would take them differently.
pub(super) fn charge(guard: &Guard, operands: &mut [Value], meter: &Meter) -> Result<(), Error> {
    meter.touch(operands.iter().map(shallow).fold(0, u64::saturating_add))?;
    match (guard, operands) {
        (Guard::Add, [left, right]) => add(left, right, meter),
        (Guard::Multiply, [left, right]) => {
            settle(left, meter)?;
            settle(right, meter)?;
            let times = [&*left, &*right]
                .iter()
                .find_map(|v| v.as_usize())
                .unwrap_or(1) as u64;
            let size =
                shallow(left).max(shallow(right)) + meter.items(left)? + meter.items(right)?;
            meter.create(size.saturating_mul(times))
        }
        (Guard::Concat, [left, right]) => meter.create(meter.weigh(left)? + meter.weigh(right)?),
        (Guard::Contains, [item, map]) if map.kind() == ValueKind::Map => {
            weigh(from_ref(item), meter)
        }
        (Guard::Compare | Guard::Contains, operands) => weigh(operands, meter),
        (Guard::Test(name), _) if FREE_TESTS.contains(&&**name) => Ok(()),
        (Guard::Test(name), operands) if COMPARING.contains(&&**name) => weigh(operands, meter),
        (Guard::Test(_), operands) => meter.create(spelled(operands, meter)?),
        (Guard::Item, [container, key]) => {
            weigh(from_ref(key), meter)?;
            match container.kind() {
                ValueKind::Iterable => meter.touch(meter.items(container)?),
                _ => Ok(()),
            }
        }
        (Guard::Slice, [value, start, stop, step]) => {
            settle(value, meter)?;
            meter.create(shallow(value) + meter.items(value)?)?;
            if step.as_i64().is_some_and(|step| step < 0) {
                *value = slice_backwards(value, start, stop, step, meter)?;
                [start, stop, step]
                    .into_iter()
                    .for_each(|bound| *bound = Value::from(()));
            }
            Ok(())
        }
        (Guard::SetAttribute, [value, _]) if value.as_object().is_some_and(is_namespace) => {
            Err(meter.stop(Verdict::Limit("the nesting of its values")))
        }
        (Guard::SetAttribute, [value, _]) => weigh(from_ref(value), meter),
        (Guard::Iterate, lists) => lists
            .iter()
            .try_for_each(|list| meter.create(meter.items(list)?)),
        (Guard::Filter(name), operands) => filter(name, operands, meter),
        (Guard::Method(name), operands) => method(name, operands, meter),
        (Guard::Call(name), operands) if matches!(&**name, "dict" | "namespace") => operands
            .iter()
            .try_for_each(|operand| meter.create(meter.weigh(operand)?)),
        (Guard::Made, [value]) => meter.create(meter.weigh(value)?),
        _ => Ok(()),
    }
}

/// Charges for going through lists and maps; strings are charged already.
fn weigh(values: &[Value], meter: &Meter) -> Result<(), Error> {
    let mut containers = values.iter().filter(|value| value.as_object().is_some());
    containers.try_for_each(|value| meter.weigh(value).map(drop))
}

/// The bytes of `values` written out, at most. A character of text in a list may take six.
fn spelled(values: &[Value], meter: &Meter) -> Result<u64, Error> {
    let spelled = |value: &Value| match value.as_object() {
        None => Ok(shallow(value)),
        Some(_) => Ok(meter.weigh(value)?.saturating_mul(6)),
    };
    let sizes = values.iter().map(spelled);
    sizes.sum::<Result<u64, _>>()
}

/// Turns a lazy list into one in memory. What is sliced, repeated or joined is lazy: each item of
/// it would cost as much as the lists are deep that it was made from, even where they are empty.
fn settle(value: &mut Value, meter: &Meter) -> Result<(), Error> {
    if value.kind() == ValueKind::Iterable {
        meter.touch(meter.items(value)?)?;
        *value = value.try_iter()?.collect::<Vec<_>>().into();
    }
    Ok(())
}

/// Some templates add a tool call's arguments to a string, taking them for the JSON text that
/// requests carry them as; others want them as a map, which is what they are here.
fn add(left: &mut Value, right: &mut Value, meter: &Meter) -> Result<(), Error> {
    let is_text = |value: &Value| value.as_str().is_some();
    if is_text(left) && right.kind() == ValueKind::Map {
        *right = json::compact(right, meter)?.into();
    } else if is_text(right) && left.kind() == ValueKind::Map {
        *left = json::compact(left, meter)?.into();
    }
    meter.create(shallow(left) + shallow(right))?;
    settle(left, meter)?;
    settle(right, meter)?;
    meter.touch(meter.items(left)?.saturating_add(meter.items(right)?))
}

/// `value[start:stop:step]` for a negative step, which the engine (minijinja 3.0.5) panics on for
/// some bounds.
fn slice_backwards(
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
    meter: &Meter,
) -> Result<Value, Error> {
    meter.create(shallow(value) * shallow(&Value::UNDEFINED))?;
    let items: Vec<Value> = match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        ValueKind::Undefined | ValueKind::None => Vec::new(),
        kind => {
            let problem = format!("value of type {kind} cannot be sliced");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
    };
    let len = items.len() as i64;
    // Bounds count from the end if they are negative; -1 is before the first item.
    let bound = |bound: &Value, default: i64| match bound.is_none() {
        true => Ok(default),
        false => i64::try_from(bound.clone()).map(|at| match at {
            negative @ ..0 => negative.saturating_add(len).max(-1),
            at => at.min(len - 1),
        }),
    };
    let (start, stop) = (bound(start, len - 1)?, bound(stop, -1)?);
    let by = i64::try_from(step.clone())?.unsigned_abs() as usize;
    let kept = items.into_iter().enumerate().rev().filter(|(at, _)| {
        let at = *at as i64;
        at <= start && at > stop && ((start - at) as usize).is_multiple_of(by)
    });
    let kept = kept.map(|(_, item)| item);
    Ok(match value.as_str() {
        Some(_) => kept.map(|c| c.to_string()).collect::<String>().into(),
        None => kept.collect::<Vec<_>>().into(),
    })
}

fn filter(name: &str, operands: &[Value], meter: &Meter) -> Result<(), Error> {
    let [value, arguments @ ..] = operands else {
        return Ok(());
    };
    if let (Some(text), true) = (value.as_str(), OVER_CHARACTERS.contains(&name)) {
        meter.create(shallow(&Value::UNDEFINED).saturating_mul(text.len() as u64))?;
    }
    if PER_ITEM.contains(&name) {
        // Each item is looked up by a path, or handed to a test or filter with the arguments.
        let arguments = spelled(arguments, meter)?.saturating_mul(4);
        meter.create(count(value, meter)?.saturating_mul(arguments))?;
    }
    match name {
        _ if FREE_FILTERS.contains(&name) => Ok(()),
        "attr" => weigh(arguments, meter),
        "last" => meter.create(meter.items(value)?),
        "trim" => trim(value, arguments.first(), meter),
        "replace" => replace(value, arguments, meter),
        "format" => format(value, arguments, meter),
        "join" => join(value, arguments.first(), meter),
        "split" => split(value, arguments.first(), meter),
        "lines" => split(value, Some(&Value::from("\n")), meter),
        "indent" => {
            let lines = value.as_str().map_or(0, |text| text.lines().count() as u64);
            let text = spelled(from_ref(value), meter)?;
            meter.create(text + lines * largest(arguments, meter)?)
        }
        "batch" | "slice" => {
            let added = largest(arguments, meter)? * shallow(&Value::UNDEFINED);
            meter.create(meter.items(value)? + added)
        }
        "sort" | "unique" | "groupby" | "min" | "max" | "dictsort" | "sum" => {
            // Each item is compared as often as a sort needs, or added to as many as there are.
            let items = count(value, meter)?;
            let log = u64::from(u64::BITS - items.leading_zeros());
            let passes = if name == "sum" { items } else { log };
            // A sort by several attributes copies each of them.
            let keys = 1 + texts(arguments)
                .map(|text| text.matches(',').count() as u64)
                .sum::<u64>();
            let weight = meter.weigh(value)?.saturating_mul(passes + 1);
            meter.create(weight.saturating_mul(keys))
        }
        "map" if !arguments.first().is_none_or(is_cheap) => Err(Error::new(
            ErrorKind::InvalidOperation,
            "map takes simple filters only",
        )),
        "map" => {
            let weight = meter.weigh(value)?;
            meter.create(weight.saturating_mul(6))?;
            match arguments {
                [filter, chars, ..] if filter.as_str() == Some("trim") => {
                    meter.touch(weight.saturating_mul(spelled(from_ref(chars), meter)?))
                }
                _ => Ok(()),
            }
        }
        "string" | "escape" | "e" => meter.create(meter.weigh(value)?.saturating_mul(6)),
        "select" | "reject" | "selectattr" | "rejectattr" => {
            meter.create(meter.items(value)?.saturating_mul(2))?;
            if texts(arguments).any(|test| matches!(&*test, "startingwith" | "endingwith")) {
                return meter.create(spelled(from_ref(value), meter)?);
            }
            weigh(from_ref(value), meter)
        }
        "list" | "reverse" | "items" => meter.create(shallow(value) + meter.items(value)?),
        // Writes through the meter.
        "tojson" => Ok(()),
        // A character may become three in upper case.
        _ => meter.create(spelled(operands, meter)?.saturating_mul(3)),
    }
}

/// The number of items of a list or map, or of characters of a text, about.
fn count(value: &Value, meter: &Meter) -> Result<u64, Error> {
    Ok(match value.as_str() {
        Some(text) => text.len() as u64,
        None => meter.items(value)? / shallow(&Value::UNDEFINED),
    })
}

/// The texts among `arguments`, named ones included.
fn texts(arguments: &[Value]) -> impl Iterator<Item = Arc<str>> {
    let named = arguments.iter().filter(|argument| argument.is_kwargs());
    let named = named.filter_map(|kwargs| kwargs.as_object()?.try_iter_pairs());
    let values = named.flatten().map(|(_, value)| value);
    let values = values.chain(arguments.iter().cloned());
    values.filter_map(|value| value.as_str().map(Arc::from))
}

/// Every character at the ends is looked for among `chars`.
fn trim(value: &Value, chars: Option<&Value>, meter: &Meter) -> Result<(), Error> {
    let size = spelled(from_ref(value), meter)?;
    let chars = match chars {
        None => 1,
        Some(chars) => match chars.as_str() {
            Some(text) => text.len() as u64,
            None => spelled(from_ref(chars), meter)?,
        },
    };
    meter.touch(size.saturating_mul(chars))?;
    meter.create(size)
}

/// Filters that look at their operand alone and not into it.
const FREE_FILTERS: &[&str] = &[
    "length", "count", "default", "d", "first", "bool", "int", "float", "abs", "round",
];

/// Filters that take their arguments to every item.
const PER_ITEM: &[&str] = &[
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "sort",
    "unique",
    "groupby",
    "min",
    "max",
    "sum",
    "join",
];

/// Tests that look at their operand alone and not into it.
const FREE_TESTS: &[&str] = &[
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "number",
    "integer",
    "int",
    "float",
    "odd",
    "even",
    "divisibleby",
    "string",
    "sequence",
    "iterable",
    "mapping",
    "safe",
    "escaped",
    "sameas",
    "filter",
    "test",
];

/// Tests that go into lists and maps.
const COMPARING: &[&str] = &[
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "in",
];

/// Filters that take a string as a list of its characters.
const OVER_CHARACTERS: &[&str] = &[
    "list",
    "reverse",
    "batch",
    "slice",
    "sort",
    "unique",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "groupby",
    "min",
    "max",
    "sum",
    "join",
];

/// Whether a filter named in `map` costs no more than a few times its operand.
fn is_cheap(filter: &Value) -> bool {
    const CHEAP: &[&str] = &[
        "upper",
        "lower",
        "trim",
        "title",
        "capitalize",
        "string",
        "length",
        "count",
        "int",
        "float",
        "abs",
        "first",
        "last",
        "tojson",
        "escape",
        "e",
        "safe",
        "attr",
        "default",
        "d",
        "bool",
    ];
    filter.is_kwargs() || filter.as_str().is_some_and(|name| CHEAP.contains(&name))
}

fn method(name: &str, operands: &[Value], meter: &Meter) -> Result<(), Error> {
    let [value, arguments @ ..] = operands else {
        return Ok(());
    };
    match (name, arguments) {
        ("replace", _) => replace(value, arguments, meter),
        ("format", _) => format(value, arguments, meter),
        ("join", [list, ..]) => join(list, Some(value), meter),
        ("split" | "rsplit", _) => split(value, arguments.first(), meter),
        ("splitlines", _) => split(value, Some(&Value::from("\n")), meter),
        ("count" | "changed" | "cycle", _) => weigh(operands, meter),
        ("items" | "keys" | "values", _) => meter.touch(meter.items(value)?),
        ("get" | "startswith" | "endswith", _) => weigh(arguments, meter),
        ("strip" | "lstrip" | "rstrip", _) => trim(value, arguments.first(), meter),
        _ => meter.create(spelled(operands, meter)?.saturating_mul(3)),
    }
}

/// The result is as much longer as the replacement is, for each place where it stands.
fn replace(value: &Value, arguments: &[Value], meter: &Meter) -> Result<(), Error> {
    let [old, new, ..] = arguments else {
        return Ok(());
    };
    let (text, old, new) = match (value.as_str(), old.as_str(), new.as_str()) {
        (Some(text), Some(old), Some(new)) => (text, old, new),
        _ => {
            meter.create(spelled(from_ref(old), meter)?)?;
            let text = spelled(from_ref(value), meter)?;
            return meter.create(text.saturating_mul(spelled(from_ref(new), meter)?));
        }
    };
    let places = memmem::find_iter(text.as_bytes(), old).count();
    meter.create((text.len() as u64).saturating_add(places as u64 * new.len() as u64))
}

fn join(list: &Value, separator: Option<&Value>, meter: &Meter) -> Result<(), Error> {
    let between = separator.map_or(0, shallow);
    let items = meter.items(list)?.max(shallow(list)) / shallow(&Value::UNDEFINED);
    meter.create(
        meter
            .weigh(list)?
            .saturating_add(items.saturating_mul(between)),
    )
}

/// Every piece is a value of its own.
fn split(value: &Value, separator: Option<&Value>, meter: &Meter) -> Result<(), Error> {
    let Some(text) = value.as_str() else {
        return Ok(());
    };
    let pieces = match separator.and_then(|separator| separator.as_str()) {
        Some("") => text.len(),
        Some(separator) => memmem::find_iter(text.as_bytes(), separator).count(),
        None => text.split_whitespace().count(),
    };
    meter.create((text.len() as u64) + (pieces as u64 + 1) * shallow(&Value::UNDEFINED))
}

/// Charges for a format, whose fields may ask for any width.
fn format(value: &Value, arguments: &[Value], meter: &Meter) -> Result<(), Error> {
    let Some(text) = value.as_str() else {
        return Ok(());
    };
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let (mut total, mut widest) = (0u64, 0);
    for width in widths {
        total = total.saturating_add(width as u64);
        widest = widest.max(width);
    }
    // A width that is itself an argument: "%*d" and "{:{}}".
    let bare = text.replace("{{", "").replace("}}", "");
    let nested = bare.split('}').any(|field| field.matches('{').count() > 1);
    if widest > MAX_COUNT || nested || text.contains('*') {
        return Err(meter.stop(Verdict::Limit("the width of a format")));
    }
    let fields = text.matches(['%', '{']).count() as u64;
    let argument = arguments
        .iter()
        .map(|a| meter.weigh(a))
        .sum::<Result<u64, _>>()?;
    meter.create(
        (text.len() as u64)
            .saturating_add(total)
            .saturating_add(fields.saturating_mul(argument)),
    )
}

/// The largest number among `arguments`, named ones included.
fn largest(arguments: &[Value], meter: &Meter) -> Result<u64, Error> {
    let number = |value: &Value| value.as_usize().unwrap_or(0);
    let named = arguments.iter().filter(|argument| argument.is_kwargs());
    let named = named.filter_map(|kwargs| kwargs.as_object()?.try_iter_pairs());
    let named = named.flatten().map(|(_, value)| number(&value));
    let largest = arguments.iter().map(number).chain(named).max().unwrap_or(0);
    if largest > MAX_COUNT {
        return Err(meter.stop(Verdict::Limit("the count given to a filter")));
    }
    Ok(largest as u64)
}
