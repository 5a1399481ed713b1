//! Measuring speed, with the meanings of llama.cpp's `llama-bench`.
//!
//! The executor is driven directly, without the engine: a test computes `n_prompt` random tokens
//! in batches, or `n_gen` tokens one after another, for `n_batch_seqs` sequences at a time that have
//! `n_depth` tokens already. Tokens are drawn (greedily) where a generation would draw them.

mod driver;
mod profile;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use zse_format::Checkpoint;
use zse_model::Model;
use zse_model::executor::{Budget, Fuse};

use crate::{Device, Error, LoadOptions, adapters};
use driver::Driver;
pub use profile::{Bound, Profile, ProfileRow};
pub use statistics::Statistics;
pub use zse_cpu::Peaks;
pub use zse_model::executor::Work;

/// What a test computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchTest {
    /// Prompt tokens of each sequence.
    pub n_prompt: usize,
    /// Tokens that are generated for each sequence.
    pub n_gen: usize,
    /// Tokens that each sequence has before.
    pub n_depth: usize,
    /// Sequences; at least 1.
    pub n_batch_seqs: usize,
}

impl BenchTest {
    /// The test in short, such as `pp512 @ d4096`, as llama-bench calls it.
    pub fn name(&self) -> String {
        let mut name = match (self.n_prompt, self.n_gen) {
            (p, 0) => format!("pp{p}"),
            (0, n) => format!("tg{n}"),
            (p, n) => format!("pp{p}+tg{n}"),
        };
        if self.n_depth > 0 {
            name.push_str(&format!(" @ d{}", self.n_depth));
        }
        if self.n_batch_seqs > 1 {
            name.push_str(&format!(" b{}", self.n_batch_seqs));
        }
        name
    }

    /// Tokens that a sequence grows to.
    fn context(&self) -> usize {
        self.n_depth
            .saturating_add(self.n_prompt)
            .saturating_add(self.n_gen)
    }

    /// Tokens that are computed while time is taken.
    fn tokens(&self) -> usize {
        self.n_prompt
            .saturating_add(self.n_gen)
            .saturating_mul(self.n_batch_seqs)
    }

    fn check(&self) -> Result<(), Error> {
        match self.n_batch_seqs {
            0 => Err(Error::NoSequences { test: self.name() }),
            _ => Ok(()),
        }
    }
}

/// What a test measured.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchResult {
    /// The test.
    pub test: BenchTest,
    /// Time of each repetition.
    pub samples: Vec<Duration>,
    /// Tokens a second, of all sequences together.
    pub tokens_per_second: Statistics,
    /// Milliseconds: of a step that generates a token for each sequence, or, where nothing is
    /// generated, of the whole prompt.
    pub latency_ms: Statistics,
    /// Joules that the GPU took for all repetitions, where it counts them.
    pub joules: Option<f64>,
}

impl BenchResult {
    /// Tokens for each joule that the GPU took.
    pub fn tokens_per_joule(&self) -> Option<f64> {
        let tokens = (self.test.tokens() * self.samples.len()) as f64;
        self.joules
            .filter(|&joules| joules > 0.0)
            .map(|joules| tokens / joules)
    }
}

/// What the GPU that a model is on took since its driver was loaded, in joules.
fn energy(device: Device) -> Option<f64> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(number) = device.resolved() {
        return zse_cuda::energy(number).map(|millijoules| millijoules as f64 / 1e3);
    }
    let _ = device;
    None
}

/// A model ready to be measured.
pub struct Bench {
    driver: Driver,
    model: Arc<Model>,
    backend: String,
    /// Tokens of each sequence that there is room for.
    context: usize,
    /// Sequences that there is room for.
    sequences: usize,
    batch_tokens: usize,
    fuse: Fuse,
    device: Device,
    threads: Option<usize>,
}

impl Bench {
    /// Loads the model of `checkpoint` with room for `tests`, whose sequences use all
    /// [`LoadOptions::adapters`].
    ///
    /// # Errors
    /// If the model cannot be loaded, a test is longer than its context, or has no sequences.
    pub fn load(
        checkpoint: Arc<Checkpoint>,
        options: &LoadOptions,
        tests: &[BenchTest],
    ) -> Result<Self, Error> {
        tests.iter().try_for_each(BenchTest::check)?;
        let most = |of: fn(&BenchTest) -> usize| tests.iter().map(of).max().unwrap_or(0).max(1);
        let (context, sequences) = (most(BenchTest::context), most(|t| t.n_batch_seqs));
        let model = LoadOptions {
            context: options.context.or(Some(context)),
            ..options.clone()
        }
        .model(checkpoint)?;
        let max_context = model.info.context;
        if context > max_context {
            return Err(Error::TooLong {
                tokens: context,
                context: max_context,
            });
        }
        let batch_tokens = options.batch_tokens.max(sequences);
        let single = Budget::for_context(context, 1, batch_tokens);
        let budget = Budget {
            // More than can be counted is refused as more than there is.
            kv_blocks: single.kv_blocks.saturating_mul(sequences),
            kv_type: options.kv_type,
            // The last token of each sequence.
            max_outputs: sequences,
            threads: options.threads,
            fuse: options.fuse,
            ..single
        };
        let backend = options.backend()?;
        // Asked now: once loaded, the model itself takes of what is available.
        let place = backend.place(&model, &budget)?;
        let executor = backend.compile(Arc::clone(&model), &budget)?;
        let mut driver = Driver::new(executor, &model, &budget, context);
        for adapter in &options.adapters {
            driver.add_adapter(&adapters::read(&model, &adapter.path)?)?;
        }
        Ok(Self {
            driver,
            backend: place,
            model,
            context,
            sequences,
            batch_tokens,
            device: options.device,
            threads: options.threads,
            fuse: match options.device {
                Device::Reference => Fuse::None,
                Device::Auto | Device::Cpu | Device::CpuIsa(_) | Device::Cuda(_) => options.fuse,
            },
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Where it runs, such as `cpu (avx512)`.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Most tokens of a forward pass: [`LoadOptions::batch_tokens`], or one for each sequence where
    /// a test has more sequences than that.
    pub fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Which operations were fused: those that [`LoadOptions::fuse`] asked for, or none on a device
    /// that fuses none.
    pub fn fuse(&self) -> Fuse {
        self.fuse
    }

    /// Runs `test` once to warm up and then `repetitions` times; `progress` is told after each.
    ///
    /// # Errors
    /// If the test has no sequences, or needs more room than those that the model was loaded for, or
    /// the executor fails.
    pub fn run(
        &mut self,
        test: BenchTest,
        repetitions: usize,
        progress: impl FnMut(usize),
    ) -> Result<BenchResult, Error> {
        self.warm_up(&test)?;
        self.measure(test, repetitions, progress)
    }

    /// Computes the tokens that `test` begins behind, and the test once.
    fn warm_up(&mut self, test: &BenchTest) -> Result<(), Error> {
        test.check()?;
        // Blocks of KV were dealt to so many sequences, of so many tokens each.
        if test.context() > self.context || test.n_batch_seqs > self.sequences {
            return Err(Error::NotLoadedFor {
                test: test.name(),
                context: self.context,
                sequences: self.sequences,
            });
        }
        // What a repetition writes lies behind these tokens, so they serve all of them.
        self.driver.prompt(test.n_batch_seqs, 0, test.n_depth)?;
        self.once(test, &mut Vec::new())?;
        Ok(())
    }

    /// Runs `test` after its [`warm_up`](Self::warm_up).
    fn measure(
        &mut self,
        test: BenchTest,
        repetitions: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<BenchResult, Error> {
        let (mut samples, mut latencies) = (Vec::new(), Vec::new());
        let before = energy(self.device);
        for i in 0..repetitions {
            samples.push(self.once(&test, &mut latencies)?);
            progress(i + 1);
        }
        let rate = |time: &Duration| test.tokens() as f64 / time.as_secs_f64();
        let millis = |time: &Duration| 1000.0 * time.as_secs_f64();
        let steps = if test.n_gen > 0 { &latencies } else { &samples };
        Ok(BenchResult {
            test,
            tokens_per_second: Statistics::new(samples.iter().map(rate).collect()),
            latency_ms: Statistics::new(steps.iter().map(millis).collect()),
            joules: energy(self.device)
                .zip(before)
                .map(|(after, before)| after - before),
            samples,
        })
    }

    /// One repetition behind the tokens that are there; the time of each step that generates is added to `steps`.
    fn once(&mut self, test: &BenchTest, steps: &mut Vec<Duration>) -> Result<Duration, Error> {
        let seqs = test.n_batch_seqs;
        let start = Instant::now();
        self.driver.prompt(seqs, test.n_depth, test.n_prompt)?;
        for i in 0..test.n_gen {
            let step = Instant::now();
            self.driver
                .prompt(seqs, test.n_depth + test.n_prompt + i, 1)?;
            steps.push(step.elapsed());
        }
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_llama_bench_names_them() {
        let test = BenchTest {
            n_prompt: 512,
            n_gen: 0,
            n_depth: 0,
            n_batch_seqs: 1,
        };
        assert_eq!(test.name(), "pp512");
        let test = BenchTest {
            n_prompt: 0,
            n_gen: 128,
            n_depth: 4096,
            n_batch_seqs: 8,
        };
        assert_eq!(test.name(), "tg128 @ d4096 b8");
        assert_eq!((test.context(), test.tokens()), (4224, 1024));
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_the_largest() {
        let test = BenchTest {
            n_prompt: usize::MAX,
            n_gen: 2,
            n_depth: 3,
            n_batch_seqs: usize::MAX,
        };
        assert_eq!((test.context(), test.tokens()), (usize::MAX, usize::MAX));
    }

    #[cfg(feature = "builtin")]
    mod builtin {
        use super::*;
        use crate::ModelSource;

        const TEST: BenchTest = BenchTest {
            n_prompt: 3,
            n_gen: 2,
            n_depth: 4,
            n_batch_seqs: 2,
        };

        fn load(options: &LoadOptions, tests: &[BenchTest]) -> Result<Bench, Error> {
            Bench::load(ModelSource::Builtin.open().unwrap(), options, tests)
        }

        #[test]
        fn a_test_runs_only_in_the_room_that_was_loaded() {
            let options = LoadOptions {
                // The model's context, which is more than the tests were given.
                context: Some(64),
                ..LoadOptions::default()
            };
            let mut bench = load(&options, &[TEST]).unwrap();
            let result = bench.run(TEST, 2, |_| {}).unwrap();
            assert_eq!(result.samples.len(), 2);
            assert_eq!(result.latency_ms.samples().len(), 2 * TEST.n_gen);
            let longer = BenchTest { n_depth: 5, ..TEST };
            let longest = BenchTest {
                n_depth: usize::MAX,
                ..TEST
            };
            let wider = BenchTest {
                n_batch_seqs: 3,
                ..TEST
            };
            for test in [longer, longest, wider] {
                match bench.run(test, 1, |_| {}).unwrap_err() {
                    Error::NotLoadedFor {
                        context, sequences, ..
                    } => assert_eq!((context, sequences), (9, 2)),
                    other => panic!("{other}"),
                }
            }
            bench.run(TEST, 1, |_| {}).unwrap();
        }

        #[test]
        fn tests_that_cannot_be_are_refused() {
            let options = LoadOptions::default();
            let none = BenchTest {
                n_batch_seqs: 0,
                ..TEST
            };
            assert!(matches!(
                load(&options, &[TEST, none]),
                Err(Error::NoSequences { .. })
            ));
            let mut bench = load(&options, &[TEST]).unwrap();
            assert!(matches!(
                bench.run(none, 1, |_| {}),
                Err(Error::NoSequences { .. })
            ));
            let options = LoadOptions {
                context: Some(8),
                ..options
            };
            let error = load(&options, &[TEST]).err().unwrap();
            assert!(
                matches!(
                    error,
                    Error::TooLong {
                        tokens: 9,
                        context: 8
                    }
                ),
                "{error}"
            );
            assert!(error.to_string().contains("(--ctx)"), "{error}");
            let options = LoadOptions::default();
            let most = BenchTest {
                n_batch_seqs: usize::MAX,
                ..TEST
            };
            assert!(matches!(load(&options, &[most]), Err(Error::Load(_))));
        }

        #[test]
        fn it_says_what_it_computes_at_once() {
            let options = LoadOptions {
                batch_tokens: 1,
                ..LoadOptions::default()
            };
            let bench = load(&options, &[TEST]).unwrap();
            assert_eq!((bench.batch_tokens(), bench.fuse()), (2, Fuse::All));
            let options = LoadOptions {
                fuse: Fuse::None,
                ..LoadOptions::default()
            };
            let bench = load(&options, &[TEST]).unwrap();
            assert_eq!((bench.batch_tokens(), bench.fuse()), (512, Fuse::None));
            let options = LoadOptions {
                device: Device::Reference,
                ..LoadOptions::default()
            };
            assert_eq!(load(&options, &[TEST]).unwrap().fuse(), Fuse::None);
        }
    }
}
