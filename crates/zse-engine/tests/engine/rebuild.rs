//! A device that fails for good: whoever was in that step hears of it, all others are served by another executor.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use zse_engine::{Engine, EngineConfig, EventStream, FinishReason, Generate, Rebuild, Request};
use zse_model::executor::{
    Batch, Budget, ExecError, Executor, LoadError, Masks, MemoryReport, Outputs, Ticket,
};

use crate::common::*;

/// What a test decides, and sees.
#[derive(Default)]
struct Gpu {
    /// Steps until it fails, counted over all executors.
    fails_in: Mutex<Option<usize>>,
    /// Its context answers with errors alone.
    is_lost: AtomicBool,
    /// How often it cannot be set up again.
    refuses: AtomicUsize,
    /// Executors that are there.
    executors: AtomicUsize,
}

struct OnGpu {
    fake: Fake,
    gpu: Arc<Gpu>,
}

impl OnGpu {
    fn new(gpu: &Arc<Gpu>, budget: &Budget) -> Box<Self> {
        let others = gpu.executors.fetch_add(1, SeqCst);
        assert_eq!(others, 0, "two have no room");
        let (fake, gpu) = (Fake::new(budget, false), Arc::clone(gpu));
        Box::new(Self { fake, gpu })
    }

    fn look(&self) -> Result<(), ExecError> {
        match self.gpu.is_lost.load(SeqCst) {
            true => Err(ExecError::Device("an illegal address".into())),
            false => Ok(()),
        }
    }
}

impl Drop for OnGpu {
    fn drop(&mut self) {
        self.gpu.executors.fetch_sub(1, SeqCst);
    }
}

impl Executor for OnGpu {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        self.look()?;
        self.fake.submit(batch)
    }

    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError> {
        let mut left = self.gpu.fails_in.lock().unwrap();
        *left = match *left {
            Some(0) => {
                self.gpu.is_lost.store(true, SeqCst);
                None
            }
            left => left.map(|left| left - 1),
        };
        self.look()?;
        self.fake.sample(ticket, masks)
    }

    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        self.look()?;
        self.fake.wait(ticket)
    }

    fn memory(&self) -> MemoryReport {
        self.fake.memory()
    }
}

struct SetUp(Arc<Gpu>, Budget);

impl Rebuild for SetUp {
    fn is_lost(&self) -> bool {
        self.0.is_lost.load(SeqCst)
    }

    fn rebuild(&mut self) -> Result<Box<dyn Executor>, LoadError> {
        if self.0.refuses.load(SeqCst) > 0 {
            self.0.refuses.fetch_sub(1, SeqCst);
            return Err(LoadError::Device("no memory is free".into()));
        }
        self.0.is_lost.store(false, SeqCst);
        Ok(OnGpu::new(&self.0, &self.1))
    }
}

fn engine(blocks: usize, max_tokens: usize) -> (Engine, Arc<Gpu>) {
    let (gpu, budget) = (Arc::default(), budget(blocks, max_tokens));
    let config = EngineConfig {
        channel_capacity: 100,
        ..EngineConfig::default()
    };
    let executor = OnGpu::new(&gpu, &budget);
    let engine = Engine::new(executor, SHAPE, Some(tokenizer()), &budget, config);
    let rebuild = SetUp(Arc::clone(&gpu), budget);
    (engine.with_rebuild(Box::new(rebuild)), gpu)
}

fn settings(seed: u64) -> Generate {
    Generate {
        max_tokens: Some(20),
        ignore_eos: false,
        ..generate(seed)
    }
}

fn request(seed: u64, len: usize) -> Request {
    Request::generate(prompt(seed, len), settings(seed))
}

/// The tokens that `request` gives, by definition.
fn right(seed: u64, len: usize) -> Vec<u32> {
    expected(&prompt(seed, len), &settings(seed), 0, SHAPE.context)
}

/// Steps until nothing is left to do, then reads.
fn end(engine: &mut Engine, stream: EventStream) -> Result<Vec<u32>, String> {
    while engine.step() {}
    let completion = stream.completions().remove(0);
    match &completion.finished.reason {
        FinishReason::Failed(what) => Err(what.clone()),
        _ => Ok(ids(&completion)),
    }
}

#[test]
fn a_lost_device_fails_its_step_and_is_set_up_again() {
    let (mut engine, gpu) = engine(100, 8);
    // The long prompt leaves no room in a step for the one that waits behind it.
    let touched = engine.submit(request(1, 40)).unwrap();
    let waiting = engine.submit(request(2, 6)).unwrap();
    *gpu.fails_in.lock().unwrap() = Some(3);
    let failed = end(&mut engine, touched).expect_err("it was in the step");
    assert!(failed.contains("illegal address"), "{failed}");
    assert_eq!(end(&mut engine, waiting), Ok(right(2, 6)));
    // The same prompt finds nothing of what the lost blocks held.
    let again = engine.submit(request(1, 40)).unwrap();
    assert_eq!(end(&mut engine, again), Ok(right(1, 40)));
    let metrics = engine.metrics();
    assert_eq!((metrics.rebuilds, metrics.failed), (1, 1));
    assert_eq!(engine.free_blocks(), Some(100));
}

/// As where another model's step broke the context that both share.
#[test]
fn a_device_lost_between_steps_fails_nobody() {
    let (mut engine, gpu) = engine(100, 64);
    let stream = engine.submit(request(3, 9)).unwrap();
    (0..5).for_each(|_| assert!(engine.step()));
    gpu.is_lost.store(true, SeqCst);
    assert_eq!(end(&mut engine, stream), Ok(right(3, 9)));
    assert_eq!(engine.metrics().rebuilds, 1);
    // While nothing runs, too.
    gpu.is_lost.store(true, SeqCst);
    let stream = engine.submit(request(3, 9)).unwrap();
    assert_eq!(end(&mut engine, stream), Ok(right(3, 9)));
    assert_eq!(engine.metrics().rebuilds, 2);
    assert_eq!(engine.metrics().failed, 0);
}

#[test]
fn a_device_that_stays_away_fails_requests_until_it_is_back() {
    let (mut engine, gpu) = engine(100, 64);
    gpu.refuses.store(2, SeqCst);
    gpu.is_lost.store(true, SeqCst);
    for _ in 0..2 {
        let stream = engine.submit(request(4, 5)).unwrap();
        assert!(engine.step());
        let failed = stream.completions().remove(0).finished.reason;
        let FinishReason::Failed(what) = failed else {
            panic!("{failed:?}")
        };
        assert!(what.contains("no memory is free"), "{what}");
    }
    let stream = engine.submit(request(4, 5)).unwrap();
    assert_eq!(end(&mut engine, stream), Ok(right(4, 5)));
    assert_eq!(engine.metrics().rebuilds, 1);
}
