//! How to load a model within an amount of memory, for people and programs.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value as Json, json};
use zse::format::Checkpoint;
use zse::plan::{Goal, Mode, Plan, plan};
use zse::{Device, LoadOptions};

use crate::args::Room;
use crate::term::{Table, bytes};

/// A plan and what it was made for.
pub(super) struct Planned<'a> {
    plan: Plan,
    goal: Goal,
    checkpoint: &'a Checkpoint,
    /// Tokens a second, where it can be told.
    speed: Option<f64>,
}

/// What a plan for `room` on a device is made for.
pub(super) fn goal(room: Room, device: Device) -> anyhow::Result<Goal> {
    match room {
        Room::Bytes(bytes) => Ok(Goal::for_memory(bytes)),
        Room::Auto => Goal::auto(device).with_context(|| {
            let device = device.resolved();
            format!("nobody says how much memory {device} has available: give --budget a number")
        }),
    }
}

impl<'a> Planned<'a> {
    /// Plans for `room`, of which the program itself takes `program` bytes.
    pub(super) fn new(
        checkpoint: &'a Arc<Checkpoint>,
        options: &LoadOptions,
        room: Room,
        mode: Mode,
        program: u64,
    ) -> anyhow::Result<Self> {
        let goal = goal(room, options.device)?;
        let goal = Goal {
            mode,
            program,
            ..goal
        };
        let plan = plan(Arc::clone(checkpoint), options, &goal)?;
        let peaks = options.device.peaks(options.threads);
        Ok(Self {
            speed: peaks.and_then(|peaks| plan.speed(peaks.read_gbs * 1e9)),
            plan,
            goal,
            checkpoint,
        })
    }

    /// The command that makes the file that is planned, if that is another.
    fn conversion(&self) -> Option<String> {
        let mixture = self.plan.mixture?.name;
        let file = self.checkpoint.metadata().file();
        // Where the command is run: the file's own place may be the hub's cache.
        let name = Path::new(file).file_stem().unwrap_or(file.as_ref());
        let mut tensors = self.checkpoint.tensors();
        let again = match tensors.any(|tensor| tensor.ty.is_quantized()) {
            true => " --allow-requantize",
            false => "",
        };
        Some(format!(
            "zse quantize {file} -o {}-{}.gguf --quant {mixture}{again}",
            name.display(),
            mixture.to_lowercase()
        ))
    }

    pub(super) fn json(&self) -> Json {
        let Plan {
            options, memory, ..
        } = &self.plan;
        json!({
            "mode": self.goal.mode.name(),
            "budget": self.goal.memory,
            "quant": self.plan.mixture.map(|mixture| mixture.name),
            "conversion": self.conversion(),
            "context": options.context,
            "kv_type": options.kv_type.name(),
            "layers": self.plan.layers,
            "resident_layers": self.plan.resident,
            "memory": {
                "weights": memory.weights,
                "mapped": memory.mapped,
                "kv": memory.kv,
                "activations": memory.activations,
                "process": self.plan.program,
                "total": self.plan.needed(),
            },
            "tokens_per_second": self.speed,
            "why": self.plan.why,
        })
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let plan = &self.plan;
        let budget = format!("{}, {}", bytes(self.goal.memory), self.goal.mode);
        let mut table = Table::new(["plan", &budget]);
        let weights = plan
            .mixture
            .map_or("as in the file", |mixture| mixture.name);
        let context = plan.options.context.unwrap_or_default();
        let speed = (self.speed).map_or("unknown".to_owned(), |t| format!("about {t:.0} tokens/s"));
        for (what, value) in [
            ("weights", weights.to_owned()),
            ("context", format!("{context} tokens")),
            ("KV cache", plan.options.kv_type.name().to_owned()),
            (
                "layers in memory",
                format!("{} of {}", plan.resident, plan.layers),
            ),
            ("memory", bytes(plan.needed())),
            ("speed", speed),
        ] {
            table.row([what.to_owned(), value]);
        }
        writeln!(out, "{}", table.plain())?;
        for reason in &plan.why {
            writeln!(out, "{reason}")?;
        }
        if let Some(command) = self.conversion() {
            writeln!(out, "Make that file from the best one you have: {command}")?;
        }
        Ok(())
    }
}
