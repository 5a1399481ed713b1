//! Measuring speed, with the meanings of llama.cpp's `llama-bench`.
//!
//! The executor is driven directly, without the engine: a test computes `n_prompt` random tokens
//! in batches, or `n_gen` tokens one after another, for `n_batch_seqs` sequences at a time that have
//! `n_depth` tokens already. Tokens are drawn (greedily) where a generation would draw them.

mod driver;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use zse_format::Checkpoint;
use zse_model::Model;
use zse_model::executor::Budget;

use crate::{Error, LoadOptions};
use driver::Driver;
pub use statistics::Statistics;

/// What a test computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchTest {
    /// Prompt tokens of each sequence.
    pub n_prompt: usize,
    /// Tokens that are generated for each sequence.
    pub n_gen: usize,
    /// Tokens that each sequence has before.
    pub n_depth: usize,
    /// Sequences.
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
        self.n_depth + self.n_prompt + self.n_gen
    }

    /// Tokens that are computed while time is taken.
    fn tokens(&self) -> usize {
        (self.n_prompt + self.n_gen) * self.n_batch_seqs
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
}

/// A model ready to be measured.
pub struct Bench {
    driver: Driver,
    model: Arc<Model>,
    backend: String,
    max_context: usize,
}

impl Bench {
    /// Loads the model of `checkpoint` with room for `tests`.
    ///
    /// # Errors
    /// If the model cannot be loaded, or a test is longer than its context.
    pub fn load(
        checkpoint: Arc<Checkpoint>,
        options: &LoadOptions,
        tests: &[BenchTest],
    ) -> Result<Self, Error> {
        let context = tests
            .iter()
            .map(BenchTest::context)
            .max()
            .unwrap_or(0)
            .max(1);
        let sequences = tests
            .iter()
            .map(|t| t.n_batch_seqs)
            .max()
            .unwrap_or(0)
            .max(1);
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
        let budget = Budget {
            kv_type: options.kv_type,
            threads: options.threads,
            fuse: options.fuse,
            ..Budget::for_context(context, sequences, options.batch_tokens.max(sequences))
        };
        let backend = options.device.backend();
        let executor = backend.compile(Arc::clone(&model), &budget)?;
        Ok(Self {
            driver: Driver::new(executor, &model, &budget, context),
            backend: backend.caps().name,
            model,
            max_context,
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

    /// Runs `test` once to warm up and then `repetitions` times; `progress` is told after each.
    ///
    /// # Errors
    /// If the test is longer than the context, or the executor fails.
    pub fn run(
        &mut self,
        test: BenchTest,
        repetitions: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<BenchResult, Error> {
        if test.context() > self.max_context {
            return Err(Error::TooLong {
                tokens: test.context(),
                context: self.max_context,
            });
        }
        self.once(&test, &mut Vec::new())?;
        let (mut samples, mut latencies) = (Vec::new(), Vec::new());
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
            samples,
        })
    }

    /// One repetition; the time of each step that generates is added to `steps`.
    fn once(&mut self, test: &BenchTest, steps: &mut Vec<Duration>) -> Result<Duration, Error> {
        let seqs = test.n_batch_seqs;
        self.driver.prompt(seqs, 0, test.n_depth)?;
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
}
