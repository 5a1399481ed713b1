//! Runs a program's steps.

mod adapters;
mod load;
mod plan;
mod run;

use std::sync::Arc;
use std::time::Instant;

use zse_model::executor::{
    AdapterId, Batch, Budget, ExecError, Executor, Flight, Fuse, KvType, LoadError, Masks,
    MemoryReport, Output, Outputs, Profile, Squares, Ticket, Work, finish,
};
use zse_model::passes::{BufferPlan, GroupKind, Step, schedule};
use zse_model::program::{Op, ProgramOutput};
use zse_model::{Adapter, AdapterError, Model};

use crate::isa::Arch;
use crate::kv::KvStore;
use crate::ops::activations::Activations;
use crate::ops::moe::{MoeScratch, tokens_at_once};
use crate::ops::rope::Rotations;
use crate::par::for_parts;
use crate::pool::{Pool, available_threads};
use adapters::Adapters;
use load::Weights;
pub use load::tiled_tensors;
pub(crate) use plan::plan;
use run::Run;

/// The groups that have kernels.
const FUSED: [GroupKind; 3] = [
    GroupKind::Linears,
    GroupKind::GatedUp,
    GroupKind::RopeKvWrite,
];

/// The groups to claim.
fn claim(fuse: Fuse) -> &'static [GroupKind] {
    match fuse {
        Fuse::All => &FUSED,
        Fuse::None => &[],
    }
}

/// A model on the CPU.
pub(crate) struct CpuExecutor {
    model: Arc<Model>,
    budget: Budget,
    arch: Arch,
    threads: usize,
    weights: Weights,
    adapters: Adapters,
    /// By rope of the program.
    rotations: Vec<Rotations>,
    steps: Vec<Step>,
    plan: BufferPlan,
    kv: KvStore,
    memory: Memory,
    flight: Flight,
    /// What is being measured, if anything is.
    profile: Option<Profile>,
    /// What meets the weights, if that is wanted.
    squares: Option<Squares>,
}

/// What a step works in; grows to what the largest batch needs.
#[derive(Default)]
struct Memory {
    /// By buffer of the plan.
    buffers: Vec<Vec<f32>>,
    /// The input of the last quantized product.
    rounded: Activations,
    moe: MoeScratch,
    adapters: adapters::Scratch,
    /// 0, 1, 2, ...: the columns of a product that takes all.
    identity: Vec<u32>,
}

impl CpuExecutor {
    /// `model` within `budget`, where `available` bytes of memory are left (`None`: unknown).
    pub(crate) fn new(
        model: Arc<Model>,
        budget: &Budget,
        arch: Arch,
        available: Option<u64>,
    ) -> Result<Self, LoadError> {
        budget.check(&model.program)?;
        let threads = budget.threads.unwrap_or_else(available_threads).max(1);
        let forms = load::forms(&model, budget, available)?;
        let weights = Weights::load(&model, &forms, &Pool::global().step(threads))?;
        let rotations = weights.rotations(&model.program);
        let steps = schedule(&model.program, claim(budget.fuse));
        let plan = BufferPlan::new(&model.program, &steps);
        let kv = KvStore::new(&model.program, budget)?;
        let buffers = vec![Vec::new(); plan.buffers.len()];
        Ok(Self {
            model,
            budget: budget.clone(),
            arch,
            threads,
            weights,
            adapters: Adapters::default(),
            rotations,
            steps,
            plan,
            kv,
            memory: Memory {
                buffers,
                ..Memory::default()
            },
            flight: Flight::default(),
            profile: None,
            squares: None,
        })
    }

    /// The rows of the program's output.
    fn rows(&self) -> impl Iterator<Item = &[f32]> + Sync {
        let value = self.model.program.output.value();
        let cols = self.model.program.value(value).cols;
        self.memory.buffers[self.plan.buffer(value)].chunks_exact(cols)
    }
}

impl Executor for CpuExecutor {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        let is_loaded = |id| self.adapters.is_loaded(id);
        batch.check_with(&self.model.program, &self.budget, is_loaded)?;
        let ticket = self.flight.begin(batch);
        for op in &batch.kv_ops {
            self.kv.apply(op)?;
        }
        for rotations in &mut self.rotations {
            rotations.set(&batch.positions);
        }
        let pool = Pool::global().step(self.threads);
        let (mut profile, mut squares) = (self.profile.take(), self.squares.take());
        match (&mut profile, &mut squares) {
            (_, Some(squares)) => Run::new(self, batch, &pool).observed_steps(squares),
            (Some(profile), None) => {
                let (model, kv_type) = (Arc::clone(&self.model), self.budget.kv_type);
                let work = |step: &Step| Work::of(&model, step, batch, kv_type);
                Run::new(self, batch, &pool).profiled_steps(profile, work);
            }
            (None, None) => Run::new(self, batch, &pool).steps(),
        }
        (self.profile, self.squares) = (profile, squares);
        drop(pool);
        let rows = match self.model.program.output {
            ProgramOutput::Logits(_) => return Ok(ticket),
            ProgramOutput::Pooled(_) => {
                let rows = self.rows().take(batch.seqs.len());
                rows.map(|r| Output::Pooled(r.to_vec())).collect()
            }
            ProgramOutput::Hidden(_) => {
                let rows = self.rows().take(batch.tokens.len());
                rows.map(|r| Output::Hidden(r.to_vec())).collect()
            }
        };
        self.flight.finish(rows);
        Ok(ticket)
    }

    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError> {
        let Some(wants) = self.flight.wants(ticket)? else {
            return Ok(());
        };
        let start = self.profile.is_some().then(Instant::now);
        let logits: Vec<&[f32]> = self.rows().take(wants.len()).collect();
        let mut rows: Vec<Option<Result<Output, ExecError>>> = Vec::new();
        rows.resize_with(wants.len(), || None);
        for_parts(
            &Pool::global().step(self.threads),
            &mut rows,
            1,
            |row, part| {
                part[0] = Some(finish(row, &wants[row], logits[row], masks.get(row)));
            },
        );
        let rows = rows.into_iter().flatten().collect::<Result<_, _>>()?;
        self.flight.finish(rows);
        if let (Some(profile), Some(start)) = (&mut self.profile, start) {
            profile.sampling += start.elapsed();
        }
        Ok(())
    }

    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        self.flight.take(ticket)
    }

    fn load_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<(), AdapterError> {
        let step = Pool::global().step(self.threads);
        self.adapters.load(id, adapter, &step)
    }

    fn unload_adapter(&mut self, id: AdapterId) {
        self.adapters.unload(id);
    }

    fn swapped_type(&self) -> Option<KvType> {
        Some(self.kv.ty())
    }

    fn memory(&self) -> MemoryReport {
        let (weights, in_place) = self.weights.bytes();
        let rotations: usize = self.rotations.iter().map(Rotations::bytes).sum();
        let Memory {
            buffers,
            rounded,
            moe,
            adapters,
            identity,
        } = &self.memory;
        let floats: usize = buffers.iter().map(Vec::capacity).sum::<usize>() + identity.capacity();
        MemoryReport {
            weights: weights + self.adapters.bytes(),
            mapped: self.model.weights.mapped_bytes(in_place),
            kv: self.kv.bytes(),
            activations: (4 * floats + rounded.bytes() + moe.bytes() + adapters.bytes() + rotations)
                as u64,
        }
    }

    fn start_profile(&mut self) -> bool {
        self.profile = Some(Profile::new(&self.steps));
        true
    }

    fn end_profile(&mut self) -> Option<Profile> {
        self.profile.take()
    }

    fn start_squares(&mut self) -> bool {
        let program = &self.model.program;
        // Of more tokens, what lies within a mixture is computed part by part in the same memory.
        let is_whole = program.nodes.iter().all(|node| match node.op {
            Op::MoeFfn { route, .. } => {
                self.budget.max_tokens <= tokens_at_once(program.value(route).cols / 2)
            }
            _ => true,
        });
        self.squares = is_whole.then(|| Squares::new(program));
        is_whole
    }

    fn end_squares(&mut self) -> Option<Squares> {
        self.squares.take()
    }
}
