//! What one rendering of a chat template may cost.
//!
//! Templates come with model files and are not trusted. Fuel bounds the number of operations, but
//! one operation may double a string or compare two of a gigabyte. So every operation whose cost
//! depends on its operands is charged for the bytes it touches and makes, before it runs (module
//! `guard`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{DynObject, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};

/// Bytes touched (those made count for four) beside those granted for the input's size: about a
/// tenth of a second's worth.
const WORK: u64 = 128 << 20;
const WORK_PER_BYTE: u64 = 256;
/// Bytes written beside those granted for the input's size.
const OUTPUT: u64 = 4 << 20;
const OUTPUT_PER_BYTE: u64 = 16;
/// Operations beside those granted for each message and tool.
const FUEL: u64 = 2_000_000;
const FUEL_PER_ITEM: u64 = 20_000;
/// Lists and maps inside each other; JSON from a request has at most 128.
const MAX_DEPTH: usize = 160;
/// What a value costs beside the bytes of its text.
const VALUE: u64 = 24;
/// What it costs to get an item of a lazy list, which may be a sum of many lists.
const LAZY_ITEM: u64 = 512;

/// The budget of one rendering.
#[derive(Debug)]
pub(super) struct Meter {
    work: AtomicU64,
    output: AtomicU64,
    /// Why the rendering was stopped.
    verdict: OnceLock<Verdict>,
}

/// Why a rendering was stopped, if not for a mistake in the template.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Limit(&'static str),
    Refused(String),
}

impl Meter {
    /// The budget for a source and an input of `bytes` together.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes as u64;
        Self {
            work: AtomicU64::new(WORK.saturating_add(bytes.saturating_mul(WORK_PER_BYTE))),
            output: AtomicU64::new(OUTPUT.saturating_add(bytes.saturating_mul(OUTPUT_PER_BYTE))),
            verdict: OnceLock::new(),
        }
    }

    /// The number of operations for an input of `items` messages and tools.
    pub(super) fn fuel(items: usize) -> u64 {
        FUEL.saturating_add((items as u64).saturating_mul(FUEL_PER_ITEM))
    }

    /// Ends the rendering, with the error to be returned.
    pub(super) fn stop(&self, verdict: Verdict) -> Error {
        let message = match &verdict {
            Verdict::Limit(limit) => (*limit).to_owned(),
            Verdict::Refused(message) => message.clone(),
        };
        let _ = self.verdict.set(verdict); // the first reason stands
        Error::new(ErrorKind::InvalidOperation, message)
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get().cloned()
    }

    /// Charges an operation that looks at `bytes`.
    pub(super) fn touch(&self, bytes: u64) -> Result<(), Error> {
        self.take(&self.work, bytes, "the work it makes")
    }

    /// Charges an operation that makes `bytes`.
    pub(super) fn create(&self, bytes: u64) -> Result<(), Error> {
        self.touch(bytes.saturating_mul(4))
    }

    /// Charges text on its way to the output.
    pub(super) fn emit(&self, bytes: u64) -> Result<(), Error> {
        self.create(bytes)?;
        self.take(&self.output, bytes, "the size of its output")
    }

    fn take(&self, from: &AtomicU64, amount: u64, what: &'static str) -> Result<(), Error> {
        let left = |left: u64| left.checked_sub(amount);
        match from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.stop(Verdict::Limit(what))),
        }
    }

    /// The size of `value` written out, about; charges for walking through it.
    ///
    /// Refuses values nested too deeply, which would overflow the stack when they are printed,
    /// compared or dropped, and namespaces in values, which could hold themselves.
    pub(super) fn weigh(&self, value: &Value) -> Result<u64, Error> {
        self.weigh_at(value, 0)
    }

    /// What the items of a list or map take beside their texts; charges for counting them.
    pub(super) fn items(&self, value: &Value) -> Result<u64, Error> {
        let Some(object) = value.as_object() else {
            return Ok(0);
        };
        if let Some(count) = object.enumerator_len() {
            return Ok(VALUE.saturating_mul(count as u64));
        }
        let items = object.try_iter().into_iter().flatten();
        items.map(|_| self.touch(VALUE).map(|()| VALUE)).sum()
    }

    fn weigh_at(&self, value: &Value, depth: usize) -> Result<u64, Error> {
        let mut weight = shallow(value);
        self.touch(weight)?;
        let Some(object) = value.as_object() else {
            return Ok(weight);
        };
        if depth > MAX_DEPTH || (depth > 0 && is_namespace(object)) {
            return Err(self.stop(Verdict::Limit("the nesting of its values")));
        }
        match object.repr() {
            ObjectRepr::Map => {
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    weight += self.weigh_at(&key, depth + 1)? + self.weigh_at(&value, depth + 1)?;
                }
            }
            repr @ (ObjectRepr::Seq | ObjectRepr::Iterable) => {
                let step = if repr == ObjectRepr::Iterable {
                    LAZY_ITEM
                } else {
                    0
                };
                for value in object.try_iter().into_iter().flatten() {
                    self.touch(step)?;
                    weight += self.weigh_at(&value, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(weight)
    }
}

/// The bytes of `value` itself, without what a list or map holds.
pub(super) fn shallow(value: &Value) -> u64 {
    VALUE + value.as_str().map_or(0, |text| text.len() as u64)
}

pub(super) fn is_namespace(object: &DynObject) -> bool {
    object.type_name().ends_with("::Namespace")
}
