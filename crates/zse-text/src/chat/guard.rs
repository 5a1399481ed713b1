//! Puts a guard before every operation of a compiled template whose cost depends on its operands.
//!
//! The template engine compiles to a list of instructions. An instruction to be guarded is replaced
//! by a jump to the end of the list, where its operands are packed into a tuple and handed to a
//! function that charges the [`Meter`]; they are then unpacked, the instruction runs, and control
//! jumps back. So operations keep the engine's own meaning, and no jump target moves.

use std::sync::Arc;

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Tuple;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::cost;
use super::meter::Meter;
use crate::TextError;

/// Functions that templates cannot name.
const GUARD: &str = "zse:guard";
const EMIT: &str = "zse:emit";

/// An operation to be charged for, with what its operands do not tell.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    Add,
    Multiply,
    Concat,
    Compare,
    Contains,
    Item,
    Slice,
    SetAttribute,
    Iterate,
    Filter(String),
    Test(String),
    Method(String),
    Call(String),
    /// A value that was just made.
    Made,
}

/// The guards of one template, by number.
#[derive(Debug, Default)]
pub(super) struct Guards(Vec<Guard>);

impl Guards {
    /// Rewrites `instructions`.
    ///
    /// # Errors
    /// [`TextError::Template`] for operations that cannot be guarded: a number of arguments known
    /// only at run time (`f(*args)`).
    pub(super) fn install<'s>(
        &mut self,
        mut instructions: Instructions<'s>,
    ) -> Result<Instructions<'s>, TextError> {
        let count = (0..)
            .find(|&i| instructions.get(i).is_none())
            .unwrap_or(u32::MAX);
        // The list's end used to end the template.
        let past = instructions.add(Instruction::Jump(0));
        for i in 0..count {
            let Some(instruction) = instructions.get(i).cloned() else {
                break;
            };
            let line = instructions.get_line(i).unwrap_or(0) as u16;
            let mut guarded = Vec::new();
            match &instruction {
                Instruction::EmitRaw(text) => guarded.extend([
                    Instruction::LoadConst(Value::from(text.len())),
                    Instruction::CallFunction(EMIT, Some(1)),
                    Instruction::DiscardTop,
                ]),
                _ => {
                    if let Some((guard, operands)) = before(&instruction, line)? {
                        guarded.extend(self.guard(guard, operands));
                    }
                }
            }
            let made = makes_a_container(&instruction);
            if guarded.is_empty() && !made {
                continue;
            }
            guarded.push(instruction);
            if made {
                guarded.extend(self.guard(Guard::Made, 1));
            }
            guarded.push(Instruction::Jump(i + 1));
            let mut lines = guarded
                .into_iter()
                .map(|new| instructions.add_with_line(new, line));
            let start = lines.next();
            lines.for_each(drop);
            if let (Some(start), Some(old)) = (start, instructions.get_mut(i)) {
                *old = Instruction::Jump(start);
            }
        }
        let end = instructions.add(Instruction::Jump(0)) + 1;
        for jump in [past, end - 1] {
            if let Some(jump) = instructions.get_mut(jump) {
                *jump = Instruction::Jump(end);
            }
        }
        Ok(instructions)
    }

    /// Charges `guard` for the topmost `operands` values, which it leaves in place.
    fn guard<'s>(&mut self, guard: Guard, operands: u16) -> [Instruction<'s>; 4] {
        self.0.push(guard);
        let operands = usize::from(operands);
        [
            Instruction::BuildTuple(Some(operands)),
            Instruction::LoadConst(Value::from(self.0.len() - 1)),
            Instruction::CallFunction(GUARD, Some(2)),
            Instruction::UnpackList(operands),
        ]
    }

    /// Makes the functions that guarded templates call known to `env`.
    pub(super) fn register(self, env: &mut Environment<'_>, meter: &Arc<Meter>) {
        let charged = Arc::clone(meter);
        env.add_function(EMIT, move |bytes: u64| {
            charged.emit(bytes).map(|()| Value::UNDEFINED)
        });
        let meter = Arc::clone(meter);
        env.add_function(GUARD, move |operands: &Value, guard: usize| {
            let mut operands: Vec<Value> = operands.try_iter()?.collect();
            let guard = self.0.get(guard).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidOperation,
                    "a guard that was not installed",
                )
            })?;
            cost::charge(guard, &mut operands, &meter)?;
            operands.reverse(); // unpacking puts the first on top
            Ok::<_, Error>(Value::from(Tuple::from(operands)))
        });
    }
}

/// The guard that `instruction` needs before it runs, and the number of its operands.
fn before(instruction: &Instruction<'_>, line: u16) -> Result<Option<(Guard, u16)>, TextError> {
    let named = |guard: fn(String) -> Guard, name: &str, arguments: Option<u16>| match arguments {
        Some(arguments) => Ok(Some((guard(name.to_owned()), arguments))),
        None => Err(TextError::Template {
            message: format!("line {line}: unpacking of arguments (*args) is not supported"),
        }),
    };
    Ok(Some(match instruction {
        Instruction::Add => (Guard::Add, 2),
        Instruction::Mul => (Guard::Multiply, 2),
        Instruction::StringConcat => (Guard::Concat, 2),
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::CompareAndPreserve(_) => (Guard::Compare, 2),
        Instruction::In => (Guard::Contains, 2),
        Instruction::GetItem => (Guard::Item, 2),
        Instruction::Slice => (Guard::Slice, 4),
        Instruction::SetAttr(_) => (Guard::SetAttribute, 2),
        Instruction::PushLoop(_) | Instruction::FastRecurse | Instruction::UnpackList(_) => {
            (Guard::Iterate, 1)
        }
        Instruction::UnpackLists(lists) => {
            (Guard::Iterate, u16::try_from(*lists).unwrap_or(u16::MAX))
        }
        Instruction::ApplyFilter(name, arguments, _) => {
            return named(Guard::Filter, name, *arguments);
        }
        Instruction::PerformTest(name, arguments, _) => {
            return named(Guard::Test, name, *arguments);
        }
        Instruction::CallMethod(name, arguments) => return named(Guard::Method, name, *arguments),
        Instruction::CallFunction(name, arguments) => return named(Guard::Call, name, *arguments),
        Instruction::CallObject(arguments) => return named(Guard::Call, "", *arguments),
        _ => return Ok(None),
    }))
}

fn makes_a_container(instruction: &Instruction<'_>) -> bool {
    matches!(
        instruction,
        Instruction::BuildList(_)
            | Instruction::BuildTuple(_)
            | Instruction::BuildMap(_)
            | Instruction::BuildKwargs(_)
            | Instruction::MergeKwargs(_)
            | Instruction::ApplyFilter("batch" | "slice" | "groupby", ..)
    )
}
