//! The step loop.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use zse_model::executor::{
    Backend, Budget, ExecError, Executor, KvOp, LoadError, MemoryReport, Outputs, Ticket,
};
use zse_model::{Adapter, AdapterError, Model};
use zse_text::{GrammarState, Tokenizer};

use crate::adapters::{AdapterChoice, Adapters, LoadedAdapter, Registry, Wake};
use crate::batch;
use crate::channel::{EventStream, Sink, channel};
use crate::config::{EngineConfig, ModelShape};
use crate::constraint::Constraints;
use crate::event::{Event, FinishReason, Timings};
use crate::generation::Generation;
use crate::kv::BlockManager;
use crate::kv::swap::{SwapConfig, SwapStore};
use crate::masks::MaskMaker;
use crate::metrics::Metrics;
use crate::queue::{Place, Queue};
use crate::rebuild::{Rebuild, Replaceable};
use crate::request::{Limits, Request, RequestError, Task};
use crate::scheduler::{Plan, Scheduler, StepBudget};
use crate::sequence::{Goal, Rank, SeqId, Sequence};

/// Most continuations of one request: each is set up at once, even if it waits.
const MAX_CHOICES: u32 = 128;

/// A model that serves requests. See the crate's documentation.
pub struct Engine {
    executor: Replaceable,
    scheduler: Scheduler,
    masks: MaskMaker,
    tokenizer: Option<Tokenizer>,
    constraints: Arc<Constraints>,
    limits: Limits,
    channel_capacity: usize,
    queue: Arc<Queue>,
    /// What is counted here; what others count is added when somebody asks.
    counts: Metrics,
    /// As of the end of the last step.
    published: Arc<Mutex<Metrics>>,
    requests: BTreeMap<u64, Open>,
    next_request: u64,
    /// Most bytes of a KV block of all groups.
    block_bytes: usize,
    swap: SwapStore,
    adapters: Adapters,
}

/// A request that has events to come.
struct Open {
    sink: Sink,
    priority: i32,
    /// Whether its channel is full.
    stalled: bool,
    /// Until its first step.
    place: Option<Place>,
    /// Sequences that have not ended.
    live: u32,
    /// What they use, which stays loaded until they have ended.
    _adapters: Vec<AdapterChoice>,
}

impl Open {
    /// Its first continuation, where it is request `id`.
    fn first(&self, id: u64) -> SeqId {
        SeqId {
            rank: Rank::Of(self.priority),
            request: id,
            choice: 0,
        }
    }
}

impl Engine {
    /// Compiles `model` and makes an engine of it. Without a tokenizer, requests give no text.
    ///
    /// # Errors
    /// If the backend cannot run the model within `budget`.
    pub fn load(
        backend: &dyn Backend,
        model: Arc<Model>,
        tokenizer: Option<Tokenizer>,
        budget: &Budget,
        config: EngineConfig,
    ) -> Result<Self, LoadError> {
        let shape = ModelShape::of(&model);
        Ok(Self::new(
            backend.compile(model, budget)?,
            shape,
            tokenizer,
            budget,
            config,
        ))
    }

    /// An engine over an executor that was compiled with `budget` for a model of this shape.
    pub fn new(
        executor: Box<dyn Executor>,
        shape: ModelShape,
        tokenizer: Option<Tokenizer>,
        budget: &Budget,
        config: EngineConfig,
    ) -> Self {
        let kv_tokens = match shape.kv_groups {
            0 => usize::MAX,
            _ => budget.kv_blocks.saturating_mul(budget.block_len),
        };
        let limits = Limits {
            vocab: shape.vocab,
            context: shape.context,
            kv_tokens,
            batch_tokens: budget.max_tokens,
            whole_prompts: !shape.causal || shape.pools,
            pools: shape.pools,
            ranks: shape.ranks,
            choices: MAX_CHOICES,
        };
        let step = StepBudget {
            tokens: budget.max_tokens,
            outputs: budget.max_outputs,
            sequences: config
                .max_sequences
                .min(budget.max_tokens)
                .min(budget.max_outputs)
                .max(1),
            whole_prompts: limits.whole_prompts,
        };
        let blocks = BlockManager::new(shape.kv_groups, budget.kv_blocks, budget.block_len);
        let kv_bytes = usize::try_from(executor.memory().kv).unwrap_or(usize::MAX);
        Self {
            // More by little where the executor rounds its memory up.
            block_bytes: kv_bytes / budget.kv_blocks.max(1),
            swap: SwapStore::default(),
            adapters: Adapters::default(),
            executor: Replaceable::new(executor),
            scheduler: Scheduler::new(step, blocks),
            masks: MaskMaker::default(),
            constraints: Arc::new(Constraints::new(tokenizer.clone())),
            tokenizer,
            limits,
            channel_capacity: config.channel_capacity,
            queue: Queue::new(config.max_waiting, step.sequences),
            counts: Metrics::default(),
            published: Arc::default(),
            requests: BTreeMap::new(),
            next_request: 0,
        }
    }

    /// Lets keys and values of earlier requests be swapped when their blocks are needed.
    ///
    /// # Errors
    /// If the file for them cannot be made, or they cannot be compacted as asked for.
    pub fn with_swap(mut self, config: &SwapConfig) -> io::Result<Self> {
        self.swap = SwapStore::new(config, self.block_bytes, self.executor.swapped_type())?;
        let (slots, at_once) = (self.swap.slots(), self.swap.at_once());
        self.scheduler.set_slots(slots, at_once);
        Ok(self)
    }

    /// Lets another executor take the place of one whose device has failed for good.
    #[must_use]
    pub fn with_rebuild(mut self, rebuild: Box<dyn Rebuild>) -> Self {
        self.executor.set_rebuild(rebuild);
        self
    }

    /// What it can take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Events that a request's channel holds.
    pub(crate) fn channel_capacity(&self) -> usize {
        self.channel_capacity
    }

    /// What happened so far, and what is in use now.
    pub fn metrics(&self) -> Metrics {
        let (blocks, prefix) = (self.scheduler.blocks(), self.scheduler.prefix_counts());
        let [waiting, running] = self.scheduler.counts();
        Metrics {
            waiting,
            running,
            kv_blocks: blocks.blocks(),
            kv_blocks_used: blocks.blocks() - blocks.free_blocks().unwrap_or_default(),
            kv_blocks_cached: blocks.cached_blocks(),
            kv_blocks_swapped: blocks.swapped_blocks(),
            refused: self.queue.refused(),
            prefix_queried_tokens: prefix.queried,
            prefix_found_tokens: prefix.found,
            preemptions: self.scheduler.preemptions(),
            ..self.counts
        }
    }

    /// Where its handle finds [`metrics`](Self::metrics) as of the last step.
    pub(crate) fn published(&self) -> &Arc<Mutex<Metrics>> {
        &self.published
    }

    pub(crate) fn constraints(&self) -> &Arc<Constraints> {
        &self.constraints
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Bytes in use by the executor.
    pub fn memory(&self) -> MemoryReport {
        self.executor.memory()
    }

    /// KV blocks that no request holds, those of the prefix cache included, as they can be had;
    /// `None` for a model without keys and values.
    pub fn free_blocks(&self) -> Option<usize> {
        self.scheduler.blocks().free_blocks()
    }

    /// KV blocks that no request holds and that the prefix cache can give to one that asks for what
    /// they hold.
    pub fn cached_blocks(&self) -> usize {
        self.scheduler.blocks().cached_blocks()
    }

    /// Forgets what the prefix cache holds. Requests that run keep what they found.
    pub fn clear_cache(&mut self) {
        self.scheduler.forget();
        self.swap.drop_slots(self.scheduler.take_drops());
        if self.is_idle() {
            self.swap.clear();
        }
        self.note_lost();
        self.publish();
    }

    /// Whether no request is left.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_empty()
    }

    /// Loads an adapter for the requests to come.
    ///
    /// # Errors
    /// If the executor has no kernels for adapters, or memory does not suffice.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<LoadedAdapter, AdapterError> {
        self.load_adapter_with(adapter, None)
    }

    /// As [`load_adapter`](Self::load_adapter); `wake` is called when it is to be unloaded.
    pub(crate) fn load_adapter_with(
        &mut self,
        adapter: &Adapter,
        wake: Option<Wake>,
    ) -> Result<LoadedAdapter, AdapterError> {
        self.adapters.load(&mut *self.executor, adapter, wake)
    }

    /// What knows its adapters.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.adapters.registry()
    }

    /// Takes a request in; [`step`](Self::step) works on it.
    ///
    /// # Errors
    /// If it can never be served.
    pub fn submit(&mut self, request: Request) -> Result<EventStream, RequestError> {
        self.limits.check(&request)?;
        self.registry().check(&request.adapters)?;
        let grammar = self.constraints.compile(&request)?;
        let (sink, stream) = channel(self.channel_capacity, None);
        self.open(request, grammar, sink, None);
        Ok(stream)
    }

    /// Serves one request to its end, on this thread, beside whatever else was submitted. It is
    /// cancelled when `on_event` breaks.
    ///
    /// # Errors
    /// If it can never be served.
    pub fn complete(
        &mut self,
        request: Request,
        mut on_event: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), RequestError> {
        let stream = self.submit(request)?;
        loop {
            self.step();
            loop {
                match stream.try_recv() {
                    Ok(event) => {
                        if on_event(event).is_break() {
                            drop(stream);
                            self.admit();
                            return Ok(());
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
        }
    }

    /// Takes in a request that was checked, and that holds `place` until it starts.
    pub(crate) fn open(
        &mut self,
        request: Request,
        grammar: Option<GrammarState>,
        sink: Sink,
        place: Option<Place>,
    ) {
        let now = Instant::now();
        self.counts.requests += 1;
        let id = self.next_request;
        self.next_request += 1;
        let live = request.choices();
        let (salt, priority) = (request.salt(), request.priority());
        let adapters = request.adapter_uses();
        for choice in 0..live {
            let goal = match &request.task {
                Task::Generate(g) => Goal::Generate(Box::new(Generation::new(
                    g,
                    &request.prompt,
                    self.tokenizer.as_ref(),
                    self.limits.sequence(),
                    grammar.clone(),
                ))),
                Task::Score(score) => Goal::Score {
                    from: score.from,
                    top: score.top,
                    done: 0,
                },
                Task::Embed => Goal::Embed,
            };
            let id = SeqId {
                rank: Rank::Of(priority),
                request: id,
                choice,
            };
            let (prompt, salt) = (request.prompt.clone(), salt.clone());
            let seq = Sequence::new(id, prompt, salt, goal, now);
            self.scheduler.push(seq.with_adapters(adapters.clone()));
        }
        let open = Open {
            sink,
            priority,
            stalled: false,
            place,
            live,
            _adapters: request.adapters,
        };
        self.requests.insert(id, open);
    }

    /// One step of everything that can run; false if nothing can.
    pub fn step(&mut self) -> bool {
        let worked = self.work();
        self.publish();
        worked
    }

    fn publish(&self) {
        let metrics = self.metrics();
        // Nobody panics while holding it, and if somebody did: it is replaced as a whole.
        let published = self.published.lock();
        let mut published = published.unwrap_or_else(PoisonError::into_inner);
        *published = metrics;
    }

    fn work(&mut self) -> bool {
        if self.executor.is_lost() {
            self.start_again();
            self.counts.rebuilds += u64::from(self.executor.replace());
        }
        self.adapters.unload_dropped(&mut *self.executor);
        self.admit();
        let plan = self.scheduler.plan();
        if plan.parts.is_empty() {
            return false;
        }
        let groups = self.scheduler.kv_groups();
        let Ok(kv_ops) = self.swap.kv_ops(&plan.ops, groups) else {
            // What was swapped is lost: it is computed again.
            self.start_again();
            self.note_lost();
            return true;
        };
        let swaps_in = |op: &&KvOp| matches!(op, KvOp::SwapIn { .. });
        self.counts.kv_blocks_restored += kv_ops.iter().filter(swaps_in).count() as u64;
        self.counts.steps += 1;
        let outputs = self.compute(&plan, kv_ops);
        let wanted: usize = plan.parts.iter().map(|part| part.results).sum();
        match outputs {
            Ok(outputs) if outputs.rows.len() == wanted => self.emit(&plan, outputs),
            // Whose row is missing, or too much, nobody knows.
            Ok(outputs) => {
                let rows = outputs.rows.len();
                let what = format!("the executor gave {rows} results where {wanted} were wanted");
                self.fail(&plan, &what);
            }
            Err(error) => self.fail_by(&plan, &error),
        }
        // Nothing is written that is not needed any more.
        self.swap.drop_slots(self.scheduler.take_drops());
        self.swap.settle();
        self.note_lost();
        self.retire();
        true
    }

    /// Forgets what swapping failed to keep.
    fn note_lost(&mut self) {
        if let Some(lost) = self.swap.take_lost() {
            self.counts.swap_failures += 1;
            self.scheduler.lose(&lost);
            let (slots, at_once) = (self.swap.slots(), self.swap.at_once());
            self.scheduler.set_slots(slots, at_once);
        }
    }

    /// Hears what callers did: cancelled requests end, requests whose channel is full pause. Then
    /// lets sequences start.
    fn admit(&mut self) {
        for (&id, open) in &mut self.requests {
            let stalled = !open.sink.flush();
            let cancelled = open.sink.is_cancelled();
            // Most of those that wait in a long queue have nothing to tell.
            if !cancelled && stalled == open.stalled {
                continue;
            }
            open.stalled = stalled;
            for seq in self.scheduler.of_request(open.first(id)) {
                seq.stalled = stalled;
                if cancelled {
                    seq.finish(FinishReason::Cancelled);
                }
            }
        }
        self.retire();
        self.scheduler.admit();
    }

    fn submit_plan(&mut self, plan: &Plan, kv_ops: Vec<KvOp>) -> Result<Ticket, ExecError> {
        let now = Instant::now();
        for part in &plan.parts {
            if let Some(seq) = self.scheduler.get_mut(part.id)
                && let Some(waited) = seq.start(now)
            {
                self.counts.queue_time.observe(waited);
                if part.id.choice == 0 {
                    self.counts.prompt_tokens += seq.prompt_len() as u64;
                }
            }
            if let Some(open) = self.requests.get_mut(&part.id.request) {
                open.place = None;
            }
        }
        let batch = batch::build(plan, &self.scheduler, kv_ops);
        self.executor.submit(&batch)
    }

    /// Computes a step, and meanwhile which tokens may be drawn; then draws them.
    fn compute(&mut self, plan: &Plan, kv_ops: Vec<KvOp>) -> Result<Outputs, ExecError> {
        self.masks.begin(plan, &mut self.scheduler);
        let submitted = self.submit_plan(plan, kv_ops);
        // Sequences have their grammars back, whatever came of the step.
        let masks = self.masks.finish(plan, &mut self.scheduler);
        let ticket = submitted?;
        self.executor.sample(ticket, &masks)?;
        self.executor.wait(ticket)
    }

    /// Hands each sequence its results, and each caller the events.
    fn emit(&mut self, plan: &Plan, outputs: Outputs) {
        let now = Instant::now();
        let mut rows = outputs.rows.into_iter();
        for part in &plan.parts {
            let results = rows.by_ref().take(part.results).collect();
            let seq = self.scheduler.get_mut(part.id);
            let Some(seq) = seq.filter(|seq| !seq.is_finished()) else {
                continue;
            };
            let last = seq.last_result();
            let event = seq.advance(part.tokens.end, results, now);
            if let Some(Event::Tokens { tokens, .. }) = &event {
                let (histogram, since) = match last {
                    Some(last) => (&mut self.counts.time_between_tokens, last),
                    None => (&mut self.counts.time_to_first_token, seq.queued()),
                };
                histogram.observe(now.saturating_duration_since(since));
                self.counts.generated_tokens += tokens.len() as u64;
            }
            self.scheduler.keep(part.id, part.tokens.start);
            if let (Some(event), Some(open)) = (event, self.requests.get_mut(&part.id.request)) {
                open.sink.push(event);
            }
        }
    }

    /// Ends the sequences that an error touched. Where it has a row, the others computed nothing that
    /// counts, and will be in the next plan again.
    fn fail_by(&mut self, plan: &Plan, error: &ExecError) {
        let row = match error {
            ExecError::NotFinite { row } | ExecError::Sample { row, .. } => Some(*row),
            _ => None,
        };
        let Some(id) = row.and_then(|row| plan.of_row(row)) else {
            return self.fail(plan, &error.to_string());
        };
        if let ExecError::Sample { source, .. } = error {
            return self.fail_request(id.request, &source.to_string());
        }
        if let Some(seq) = self.scheduler.get_mut(id) {
            let what = "the logits are not finite; the model file may be damaged";
            seq.finish(FinishReason::Failed(what.to_owned()));
        }
        // Perhaps it was the keys and values that others would find.
        self.scheduler.forget_salt_of(id);
    }

    /// Ends all continuations of a request: what forbids every token to one forbids it to the rest, each of
    /// which would cost everybody a step.
    fn fail_request(&mut self, request: u64, what: &str) {
        if let Some(open) = self.requests.get(&request) {
            for seq in self.scheduler.of_request(open.first(request)) {
                seq.finish(FinishReason::Failed(what.to_owned()));
            }
        }
    }

    /// Ends all sequences of a step. No block can be trusted: those that were not in it start again.
    fn fail(&mut self, plan: &Plan, what: &str) {
        for part in &plan.parts {
            if let Some(seq) = self.scheduler.get_mut(part.id) {
                seq.finish(FinishReason::Failed(what.to_owned()));
            }
        }
        self.start_again();
    }

    /// Lets all sequences compute everything again: no block can be trusted.
    fn start_again(&mut self) {
        self.scheduler.preempt_all();
        self.swap.clear();
    }

    /// Lets go of what has ended: blocks at once, a channel once its last event is sent.
    fn retire(&mut self) {
        for seq in self.scheduler.take_finished() {
            let count = match seq.finish_reason() {
                Some(FinishReason::Cancelled) => &mut self.counts.cancelled,
                Some(FinishReason::Failed(_)) => &mut self.counts.failed,
                _ => &mut self.counts.completed,
            };
            *count += 1;
            if let Some(open) = self.requests.get_mut(&seq.id.request) {
                open.live -= 1;
                let finished = seq.into_finished();
                if open.live == 0 && open.place.is_none() {
                    let Timings { prompt, decode, .. } = finished.timings;
                    self.queue.note_served(prompt + decode);
                }
                open.sink.push(Event::Finished(finished));
            }
        }
        // Whoever hears of an end finds it counted.
        self.publish();
        // What is dropped hands over what is left.
        self.requests.retain(|_, open| open.live > 0);
        for open in self.requests.values_mut() {
            open.sink.flush();
        }
    }
}
