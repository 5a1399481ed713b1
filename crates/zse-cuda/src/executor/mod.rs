//! Runs a program's steps on a GPU.

mod draws;
mod experts;
mod graphs;
mod library;
mod library_fp8;
mod lives;
mod load;
mod meta;
mod mixture;
mod plan;
mod products;
mod run;
mod scratch;

use std::sync::Arc;

use zse_model::Model;
use zse_model::executor::{
    Batch, Budget, ExecError, Executor, Flight, KvType, LoadError, Masks, MemoryReport, Output,
    Outputs, SampleJob, Sampled, Ticket, Want, finish,
};
use zse_model::program::{EmbedIndex, Op, Program, ProgramOutput};
use zse_model::sampler::SampleError;

use crate::device::{Cublas, Device, DeviceMemory, Graph, PinnedMemory, Ptr};
use crate::error::CudaError;
use crate::kv::KvStore;
use crate::ops::attention::BatchShape;
use crate::ops::{draw, sample};
use crate::weights::Layouts;
use draws::{Draws, Wanted};
use graphs::Graphs;
use load::Weights;
use meta::{Meta, Size};
use plan::Plan;
pub(crate) use plan::{Target, report};
use run::Run;

/// Bytes to leave free for recorded launches and what the driver wants besides.
pub(crate) const RESERVE: u64 = 64 << 20;

/// A model on a GPU.
pub(crate) struct CudaExecutor {
    /// Launches of batches that decode, by what fixes their arguments.
    graphs: Graphs<Graph>,
    model: Arc<Model>,
    budget: Budget,
    weights: Weights,
    plan: Plan,
    kv: KvStore,
    meta: Meta,
    work: DeviceMemory,
    /// The best token of each row ([`sample::WORDS`] words), then rows that are fetched.
    best: PinnedMemory,
    draws: Draws,
    cublas: Option<Cublas>,
    flight: Flight,
    /// Where the rows go that come with a batch, for a program that takes them.
    hidden: Option<Ptr>,
    device: Device,
}

impl CudaExecutor {
    /// `model` within `budget` on `device`, which errors call by its name.
    pub(crate) fn new(
        model: Arc<Model>,
        budget: &Budget,
        device: Device,
        (name, mut target): (&str, Target),
    ) -> Result<Self, LoadError> {
        budget.check(&model.program)?;
        plan::check(&model.program, budget, name)?;
        let health = Arc::clone(device.health());
        let _using = health.enter().map_err(LoadError::from)?;
        device.make_current()?;
        let layouts = Layouts::new(&model, target.fp8);
        let mut plan = Plan::new(&model, &layouts, budget, target);
        let cublas = plan
            .cublas
            .then(|| library::open(&device, &model, &layouts, budget))
            .flatten();
        if plan.cublas && cublas.is_none() {
            target.cublas = false;
            plan = Plan::new(&model, &layouts, budget, target);
        }
        let groups = model.program.kv_groups().len();
        let needed = report(&model, budget, name, target)?;
        let needed = needed.weights + needed.kv + needed.activations + RESERVE;
        let (available, _) = device.memory()?;
        if needed > available {
            return Err(LoadError::OutOfMemory {
                what: "weights, keys and values and intermediate results on the GPU",
                needed,
                available: Some(available),
            });
        }
        let weights = Weights::load(&device, &model, &layouts)?;
        let kv = KvStore::new(&device, &model.program, budget)?;
        let work = device.allocate("intermediate results", plan.bytes)?;
        // Some of it is counters that are zero between launches.
        device.clear(&work)?;
        let separator = separator(&model.program);
        let meta = Meta::new(&device, plan.words, groups, budget.block_len, separator)?;
        let best = device.pin(sample::WORDS * budget.max_outputs)?;
        let draws = Draws::new(&device, plan.outputs)?;
        let hidden = model.program.nodes.iter().find_map(|node| match node.op {
            Op::Hidden { .. } => node.out,
            _ => None,
        });
        let hidden = hidden.map(|v| work.at().offset(plan.value(v)));
        device.synchronize()?;
        Ok(Self {
            graphs: Graphs::new(),
            model,
            budget: budget.clone(),
            weights,
            plan,
            kv,
            meta,
            work,
            best,
            draws,
            cublas,
            flight: Flight::default(),
            hidden,
            device,
        })
    }

    /// Where the program's output lies, and its columns.
    fn output(&self) -> (Ptr, usize) {
        let value = self.model.program.output.value();
        let offset = self.plan.value(value);
        (
            self.work.at().offset(offset),
            self.model.program.value(value).cols,
        )
    }

    /// Puts a forward pass on the stream.
    fn forward(&mut self, batch: &Batch) -> Result<(), ExecError> {
        self.device.make_current()?;
        // A step that nobody waited for may still read its words.
        self.device.synchronize()?;
        for op in &batch.kv_ops {
            self.kv.apply(&self.device, op)?;
        }
        if self.meta.set(&self.device, batch)? {
            self.graphs.clear();
        }
        if let Some(to) = self.hidden {
            // SAFETY: there is room for the tokens of a batch that was checked; the numbers are not pinned.
            unsafe { self.device.upload(to, &batch.hidden) }?;
        }
        let key = (Size::of(batch), BatchShape::of(batch));
        let decodes = batch.tokens.len() == batch.seqs.len();
        let known = if decodes {
            self.graphs.note(&key)
        } else {
            None
        };
        let graph = match known {
            None => return Ok(Run::new(self, batch).all()?),
            Some(Some(graph)) => graph,
            Some(None) => {
                let graph = self.device.record(|| Run::new(self, batch).all())?;
                self.graphs.keep(&key, graph).expect("noted above")
            }
        };
        // SAFETY: recorded for these arenas, which live as long as `self`; the words did not move since.
        unsafe { self.device.replay(graph) }?;
        Ok(())
    }

    /// Starts a step, of a batch that was checked.
    fn start(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        let ticket = self.flight.begin(batch);
        self.forward(batch)?;
        match self.model.program.output {
            ProgramOutput::Pooled(_) => {
                let rows = self.fetch(0, batch.seqs.len(), Output::Pooled)?;
                self.flight.finish(rows);
            }
            ProgramOutput::Hidden(_) => {
                let rows = self.fetch(0, batch.tokens.len(), Output::Hidden)?;
                self.flight.finish(rows);
            }
            ProgramOutput::Logits(_) => {
                let words = sample::WORDS * batch.outputs.len();
                let from = self.work.at().offset(self.plan.best[1]);
                // SAFETY: as many results; read only after the stream was waited for.
                unsafe {
                    self.device
                        .download(&mut self.best.words_mut()[..words], from)
                }?;
            }
        }
        Ok(ticket)
    }

    /// `n` rows of the output from `first` on, each as an output.
    fn fetch(
        &self,
        first: usize,
        n: usize,
        as_output: fn(Vec<f32>) -> Output,
    ) -> Result<Vec<Output>, CudaError> {
        let (_, cols) = self.output();
        let rows = self.fetch_numbers(first, n)?;
        let rows = rows.chunks_exact(cols);
        Ok(rows.map(|row| as_output(row.to_vec())).collect())
    }

    /// The numbers of `n` rows of the output from `first` on.
    fn fetch_numbers(&self, first: usize, n: usize) -> Result<Vec<f32>, CudaError> {
        let (at, cols) = self.output();
        let at = at.offset(4 * first * cols);
        let mut rows = vec![0.0; n * cols];
        // SAFETY: the output has as many rows; waited for before they are read.
        unsafe { self.device.download(&mut rows, at) }?;
        self.device.synchronize()?;
        Ok(rows)
    }

    /// The results of the step in flight.
    fn results(&mut self, ticket: Ticket, masks: &Masks) -> Result<Option<Vec<Output>>, ExecError> {
        let Some(wants) = self.flight.wants(ticket)? else {
            return Ok(None);
        };
        self.device.make_current()?;
        let (logits, vocab) = self.output();
        let mut wanted = Wanted::default();
        let ways: Vec<Way> = wants
            .iter()
            .enumerate()
            .map(|(row, want)| match want {
                Want::Sample(job) if takes_best(job) && masks.get(row).is_none() => Way::Best,
                Want::Sample(job) if wanted.add(row, job, masks.get(row), vocab) => Way::Drawn,
                _ => Way::Host,
            })
            .collect();
        let drawn: Vec<_> = if wanted.is_empty() {
            self.device.synchronize()?;
            Vec::new()
        } else {
            let from = [logits, self.work.at().offset(self.plan.best[1])];
            self.draws
                .run(&self.device, from, &wanted, vocab)?
                .collect()
        };
        let (mut drawn, words) = (
            drawn.into_iter(),
            self.best.words().as_chunks::<{ sample::WORDS }>().0,
        );
        let result = |(row, (want, way)): (usize, (&Want, &Way))| {
            let best = &words[row];
            let known = match way {
                Way::Best => Some((best[1], f32::from_bits(best[0]))),
                Way::Drawn => drawn.next().filter(|(token, _)| *token != draw::UNDECIDED),
                Way::Host => None,
            };
            match known {
                Some(_) if best[3] != 0 => Err(ExecError::NotFinite { row }),
                Some(drawn) => sampled(row, want, drawn),
                None => finish(row, want, &self.fetch_numbers(row, 1)?, masks.get(row)),
            }
        };
        let rows = wants.iter().zip(&ways).enumerate();
        rows.map(result).collect::<Result<_, _>>().map(Some)
    }
}

/// The token that ends the first of two texts, where a program tells them apart.
fn separator(program: &Program) -> Option<u32> {
    program.nodes.iter().find_map(|node| match node.op {
        Op::Embed {
            index: EmbedIndex::Segment { separator },
            ..
        } => Some(separator),
        _ => None,
    })
}

/// Whether a draw is that of the most likely token, with no other said.
fn takes_best(job: &SampleJob) -> bool {
    let p = &*job.params;
    p.temperature == 0.0 && p.logit_bias.is_empty() && p.top_logprobs == 0 && p.lookback() == 0
}

/// How a row gets its result.
enum Way {
    /// Its most likely token is known.
    Best,
    /// The device draws.
    Drawn,
    /// From its logits, here.
    Host,
}

/// The result of a row whose token the device found, with the logarithm of its probability.
fn sampled(row: usize, want: &Want, (token, logprob): (u32, f32)) -> Result<Output, ExecError> {
    if token == draw::NONE {
        let source = SampleError::NoCandidates;
        return Err(ExecError::Sample { row, source });
    }
    let mu = match want {
        Want::Sample(job) => job.mu,
        Want::Logits | Want::LogProb(_) => 0.0,
    };
    Ok(Output::Sampled(Sampled {
        token,
        logprob,
        top: Vec::new(),
        mu,
    }))
}

impl Executor for CudaExecutor {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        batch.check(&self.model.program, &self.budget)?;
        let health = Arc::clone(self.device.health());
        let _using = health.enter()?;
        let started = self.start(batch);
        self.device.look_after(started)
    }

    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError> {
        let health = Arc::clone(self.device.health());
        let _using = health.enter()?;
        let results = self.results(ticket, masks);
        if let Some(rows) = self.device.look_after(results)? {
            self.flight.finish(rows);
        }
        Ok(())
    }

    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        self.flight.take(ticket)
    }

    fn swapped_type(&self) -> Option<KvType> {
        Some(self.kv.ty)
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            weights: self.weights.bytes(),
            mapped: self.model.weights.mapped_bytes(0),
            kv: self.kv.bytes(),
            activations: (self.work.bytes() + self.meta.bytes() + self.draws.bytes()) as u64,
        }
    }
}

impl Drop for CudaExecutor {
    fn drop(&mut self) {
        // What still runs uses memory that goes now. Where the context is lost, nothing does.
        if self.device.make_current().is_ok() {
            let _ = self.device.synchronize();
        }
    }
}
