//! What fits into an amount of memory: the type of the weights, the context, the type of keys and
//! values, and how fast the model will be.
//!
//! ```
//! use zse::plan::{Goal, Mode, plan};
//! use zse::{LoadOptions, ModelSource};
//!
//! let goal = Goal { mode: Mode::MaxSpeed, ..Goal::for_memory(64 << 20) };
//! let plan = plan(ModelSource::Builtin.open()?, &LoadOptions::default(), &goal)?;
//! assert!(plan.needed() <= 64 << 20);
//! plan.why.iter().for_each(|reason| println!("{reason}"));
//! # Ok::<(), zse::Error>(())
//! ```

mod candidates;
mod size;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zse_format::Checkpoint;
use zse_model::executor::MemoryReport;

use crate::quantize::Mixture;
use crate::{Device, Error, LoadOptions};
use candidates::{candidates, is_sound};
use size::Sizes;

/// What a plan prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The least memory at which answers stay sound: weights of 4 bits, short keys and values.
    MinMemory,
    /// The best answers that fit, then the longest context.
    #[default]
    Balanced,
    /// The fewest bytes a token at which answers stay sound.
    MaxSpeed,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::MinMemory, Self::Balanced, Self::MaxSpeed];

    /// The mode's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMemory => "min_memory",
            Self::Balanced => "balanced",
            Self::MaxSpeed => "max_speed",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let same = |mode: &Self| mode.name() == name.replace('-', "_");
        let known = Self::ALL.map(Self::name).join(", ");
        (Self::ALL.into_iter().find(same)).ok_or_else(|| format!("the modes are {known}"))
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// What is preferred among what fits.
    pub mode: Mode,
    /// Bytes that the model may take, and the program with it.
    pub memory: u64,
    /// Bytes of these that the program takes besides its model.
    pub program: u64,
    /// Whether the weights may be planned in a type that the file does not have, for which it must
    /// be converted.
    pub may_convert: bool,
}

impl Goal {
    /// What the program takes, unless something else is known.
    const PROGRAM: u64 = 32 << 20;

    /// The shortest context that is proposed where none is asked for.
    const SHORTEST: usize = 1024;

    /// The best that fits into so many bytes.
    pub fn for_memory(bytes: u64) -> Self {
        Self {
            mode: Mode::default(),
            memory: bytes,
            program: Self::PROGRAM,
            may_convert: true,
        }
    }

    /// The best that fits into nine tenths of what this machine, or a GPU, has available; `None` where
    /// nobody says what that is.
    pub fn auto(device: Device) -> Option<Self> {
        Some(Self::for_available(device.available()?, device))
    }

    /// The best that fits into nine tenths of `available` bytes of a device.
    pub fn for_available(available: u64, device: Device) -> Self {
        let goal = Self::for_memory(available / 10 * 9);
        // A GPU is asked how much it has when its driver has taken its part already.
        match device.own_memory() {
            Some(program) => Self {
                memory: goal.memory.saturating_add(program),
                program,
                ..goal
            },
            None => goal,
        }
    }
}

/// A choice that fits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The weights' types; `None`: as the file has them.
    pub mixture: Option<&'static Mixture>,
    /// How to load the model: context, type of keys and values, and limit of memory are set.
    pub options: LoadOptions,
    /// Layers of the model.
    pub layers: usize,
    /// Layers whose weights stay in memory. The others are read from the file as they are needed.
    pub resident: usize,
    /// What the model takes. Of weights in the file ([`MemoryReport::mapped`]), the system keeps as
    /// many in memory as there is room for.
    pub memory: MemoryReport,
    /// What the program takes besides.
    pub program: u64,
    /// Bytes that the first token of an answer reads: the weights that it is computed with.
    pub token_bytes: u64,
    /// Why this was chosen, a sentence each.
    pub why: Vec<String>,
}

impl Plan {
    /// Part of the memory's bandwidth that weights are read with.
    const READ_SHARE: f64 = 0.85;

    /// Bytes that must be there: all that is planned, but of weights that are not resident only
    /// what cannot be left in the file.
    pub fn needed(&self) -> u64 {
        let mapped = match self.resident == self.layers {
            true => self.memory.mapped,
            false => 0,
        };
        let model = MemoryReport {
            mapped,
            ..self.memory
        };
        let held = self.options.device.holds(&model);
        held.saturating_add(self.program)
    }

    /// Tokens that one answer grows by in a second, about, at its start and on memory that reads
    /// `bandwidth` bytes a second; `None` where weights are read from a disk.
    pub fn speed(&self, bandwidth: f64) -> Option<f64> {
        let is_resident = self.resident == self.layers;
        is_resident.then(|| Self::READ_SHARE * bandwidth / self.token_bytes.max(1) as f64)
    }
}

/// Chooses how to load `checkpoint` for `goal`. A context that `options` ask for is kept, and so is
/// a type of keys and values other than the default.
///
/// # Errors
/// [`Error::NoFit`] with the least that would do, if nothing fits; or if the file is no model that
/// the device of `options` can run.
pub fn plan(
    checkpoint: Arc<Checkpoint>,
    options: &LoadOptions,
    goal: &Goal,
) -> Result<Plan, Error> {
    let sizes = Sizes::new(checkpoint, options)?;
    let room = goal.memory.saturating_sub(goal.program);
    let held = |memory: &MemoryReport| options.device.holds(memory);
    let total = |memory: &MemoryReport| text(held(memory).saturating_add(goal.program));
    let mut why = Vec::new();
    for candidate in candidates(&sizes, goal) {
        let mut memory = sizes.memory(&candidate)?;
        if held(&memory) > room {
            // The first is what one would want.
            if why.is_empty() {
                why.push(format!("{candidate} would need {}.", total(&memory)));
            }
            continue;
        }
        let mut chosen = candidate;
        while let Some(longer) = sizes
            .longer(&chosen)
            .filter(|_| goal.mode == Mode::Balanced)
        {
            let needed = sizes.memory(&longer)?;
            if held(&needed) > room {
                why.push(format!("{longer} would need {}.", total(&needed)));
                break;
            }
            (chosen, memory) = (longer, needed);
        }
        why.push(format!("{chosen} need {}.", total(&memory)));
        if chosen.mixture.is_some_and(|mixture| !is_sound(mixture)) {
            why.push("Answers suffer from weights of less than 4 bits.".to_owned());
        }
        return Ok(sizes.plan(&chosen, goal, memory, why));
    }
    // What is left: weights that stay in the file, of which the system keeps what there is room for.
    let least = sizes.least(Goal::SHORTEST);
    let memory = sizes.within(&least, room)?;
    let held = memory.total() - memory.mapped;
    if held > room {
        return Err(Error::NoFit {
            file: sizes.file().to_owned(),
            memory: goal.memory,
            needed: held.saturating_add(goal.program),
        });
    }
    why.push(
        "Weights stay in the file, from where each token reads what memory does not hold."
            .to_owned(),
    );
    let mut plan = sizes.plan(&least, goal, memory, why);
    let share = (room - held) as f64 / memory.mapped.max(1) as f64;
    plan.resident = (plan.layers as f64 * share.min(1.0)) as usize;
    Ok(plan)
}

/// A number of bytes for people.
fn text(bytes: u64) -> String {
    let (unit, name) = if bytes < 1 << 30 {
        (20, "MiB")
    } else {
        (30, "GiB")
    };
    format!("{:.2} {name}", bytes as f64 / (1_u64 << unit) as f64)
}
