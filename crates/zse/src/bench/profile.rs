//! Where the time of a test goes, by operation and by part of a layer.

use std::time::Duration;

use zse_cpu::Peaks;
use zse_model::Model;
use zse_model::executor::{Profile as Measured, ProfilePart, Work};
use zse_model::program::{Op, Program};

use super::{Bench, BenchResult, BenchTest};
use crate::Error;

/// Where the time of a test went.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The time of all repetitions: what the rows of either list add up to.
    pub wall: Duration,
    /// Forward passes.
    pub passes: u64,
    /// What the machine does at most, measured before and after; `None` where it could not be.
    pub peaks: Option<Peaks>,
    /// By operations that run as one and the weights that they read, the longest first; then
    /// `sampling` and `other`, which is what lies between.
    pub by_op: Vec<ProfileRow>,
    /// By `embedding`, `attention`, `feed-forward` or `experts`, and `output`, in this order; then
    /// as above.
    pub by_layer: Vec<ProfileRow>,
}

/// The time of something, and its work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileRow {
    /// Operations, or a part of a layer.
    pub name: String,
    /// The weights that they multiply or look up, without numbers of layers.
    pub weights: Vec<String>,
    /// How often it ran.
    pub calls: u64,
    /// How long, in all.
    pub time: Duration,
    /// What was moved and computed, in all.
    pub work: Work,
}

/// What keeps something from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Reading memory.
    Bandwidth,
    /// Products of 8-bit integers, or of f32.
    Arithmetic,
}

impl ProfileRow {
    /// 10^9 bytes a second.
    pub fn gbs(&self) -> f64 {
        self.per_second(self.work.bytes as f64)
    }

    /// 10^9 operations a second.
    pub fn gops(&self) -> f64 {
        self.per_second((self.work.int8_ops + self.work.f32_ops) as f64)
    }

    /// How much of `peaks` was reached: the time that the bytes or the products need at least, the
    /// longer of both, over the time that was taken. More than 1 where bytes came out of caches.
    pub fn achieved(&self, peaks: &Peaks) -> Option<(f64, Bound)> {
        let moving = self.work.bytes as f64 / peaks.read_gbs;
        let computing = self.work.int8_ops as f64 / peaks.int8_gops
            + self.work.f32_ops as f64 / peaks.f32_gflops;
        let (floor, bound) = if moving >= computing {
            (moving, Bound::Bandwidth)
        } else {
            (computing, Bound::Arithmetic)
        };
        (floor > 0.0 && !self.time.is_zero()).then(|| (self.per_second(floor), bound))
    }

    fn per_second(&self, amount: f64) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 {
            amount / seconds / 1e9
        } else {
            0.0
        }
    }

    fn add(&mut self, part: &ProfilePart, passes: u64) {
        self.calls += passes;
        self.time += part.time;
        self.work.add(part.work);
    }
}

impl Bench {
    /// As [`Bench::run`], and says where the time went.
    ///
    /// # Errors
    /// As [`Bench::run`]; if the device does not tell its operations apart.
    pub fn profile(
        &mut self,
        test: BenchTest,
        repetitions: usize,
        progress: impl FnMut(usize),
    ) -> Result<(BenchResult, Profile), Error> {
        self.warm_up(&test)?;
        let backend = self.backend.clone();
        let unable = || Error::NoProfile {
            backend: backend.clone(),
        };
        if !self.driver.executor.start_profile() {
            return Err(unable());
        }
        let before = self.device.peaks(self.threads);
        let result = self.measure(test, repetitions, progress);
        let measured = self.driver.executor.end_profile().ok_or_else(unable)?;
        let result = result?;
        let after = self.device.peaks(self.threads);
        let profile = Profile::new(
            &self.model,
            &measured,
            result.samples.iter().sum(),
            before.zip(after).map(|(a, b)| a.max(b)),
        );
        Ok((result, profile))
    }
}

impl Profile {
    fn new(model: &Model, measured: &Measured, wall: Duration, peaks: Option<Peaks>) -> Self {
        let places = places(&model.program);
        let (mut by_op, mut by_layer) = (Vec::new(), Vec::new());
        for part in &measured.parts {
            let (name, weights) = title(model, part);
            row(&mut by_op, name, weights).add(part, measured.passes);
            let place = places[part.step.nodes()[0].index()];
            row(&mut by_layer, place.to_owned(), Vec::new()).add(part, measured.passes);
        }
        by_op.sort_by_key(|row| std::cmp::Reverse(row.time));
        let known = measured.sampling + measured.parts.iter().map(|p| p.time).sum::<Duration>();
        for rows in [&mut by_op, &mut by_layer] {
            for (name, time) in [
                ("sampling", measured.sampling),
                ("other", wall.saturating_sub(known)),
            ] {
                rows.push(ProfileRow {
                    name: name.to_owned(),
                    calls: measured.passes,
                    time,
                    ..ProfileRow::default()
                });
            }
        }
        Self {
            wall,
            passes: measured.passes,
            peaks,
            by_op,
            by_layer,
        }
    }
}

/// The row of this name and these weights, made where there is none.
fn row(rows: &mut Vec<ProfileRow>, name: String, weights: Vec<String>) -> &mut ProfileRow {
    let known = rows
        .iter()
        .position(|r| r.name == name && r.weights == weights);
    let at = known.unwrap_or_else(|| {
        rows.push(ProfileRow {
            name,
            weights,
            ..ProfileRow::default()
        });
        rows.len() - 1
    });
    &mut rows[at]
}

/// The operations of a part, such as `rms_norm + 2 linear + glu`, and the weights that they
/// multiply or look up.
fn title(model: &Model, part: &ProfilePart) -> (String, Vec<String>) {
    let mut names: Vec<(&str, usize)> = Vec::new();
    let mut weights = Vec::new();
    for node in part.step.nodes() {
        let op = &model.program.nodes[node.index()].op;
        match names.last_mut() {
            Some((name, n)) if *name == op.name() => *n += 1,
            _ => names.push((op.name(), 1)),
        }
        let tensors = match *op {
            Op::Linear { weight, .. } => vec![weight],
            Op::Embed { .. } | Op::MoeFfn { .. } => op.tensors(),
            _ => Vec::new(),
        };
        weights.extend(
            tensors
                .into_iter()
                .map(|t| base_name(model.weights.get(t).name)),
        );
    }
    let name = |&(name, n): &(&str, usize)| match n {
        1 => name.to_owned(),
        n => format!("{n} {name}"),
    };
    let names: Vec<String> = names.iter().map(name).collect();
    (names.join(" + "), weights)
}

/// `attn_q` of `blk.3.attn_q.weight`.
fn base_name(tensor: &str) -> String {
    let name = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let of_layer = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    of_layer.map_or(name, |(_, name)| name).to_owned()
}

/// By node, the part of the model that it belongs to. The attention of a layer ends with the first
/// sum behind it, where the residual is added.
fn places(program: &Program) -> Vec<&'static str> {
    let has_experts = |layer: u32| {
        let of_layer = program.nodes.iter().filter(|n| n.layer == Some(layer));
        of_layer
            .into_iter()
            .any(|n| matches!(n.op, Op::MoeFfn { .. }))
    };
    let mut places = Vec::with_capacity(program.nodes.len());
    let (mut layer, mut attended, mut added, mut second) = (None, false, false, "feed-forward");
    for node in &program.nodes {
        let Some(of) = node.layer else {
            places.push(if layer.is_none() {
                "embedding"
            } else {
                "output"
            });
            continue;
        };
        if layer != Some(of) {
            (layer, attended, added) = (Some(of), false, false);
            second = if has_experts(of) {
                "experts"
            } else {
                "feed-forward"
            };
        }
        places.push(if added { second } else { "attention" });
        attended |= matches!(node.op, Op::Attention { .. });
        added |= attended && matches!(node.op, Op::Add { .. });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEAKS: Peaks = Peaks {
        read_gbs: 40.0,
        int8_gops: 1000.0,
        f32_gflops: 100.0,
    };

    fn row_of(millis: u64, bytes: u64, int8_ops: u64, f32_ops: u64) -> ProfileRow {
        ProfileRow {
            time: Duration::from_millis(millis),
            work: Work {
                bytes,
                int8_ops,
                f32_ops,
            },
            ..ProfileRow::default()
        }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn what_takes_longer_at_best_is_the_bound() {
        // 20 ms to read, 10 ms to multiply.
        let decode = row_of(40, 800_000_000, 10_000_000_000, 0);
        let (share, bound) = decode.achieved(&PEAKS).unwrap();
        assert!(near(share, 0.5) && bound == Bound::Bandwidth, "{share}");
        assert!(near(decode.gbs(), 20.0) && near(decode.gops(), 250.0));
        // 10 ms in bytes, 20 ms in both kinds of products.
        let prefill = row_of(25, 400_000_000, 10_000_000_000, 1_000_000_000);
        let (share, bound) = prefill.achieved(&PEAKS).unwrap();
        assert!(near(share, 0.8) && bound == Bound::Arithmetic, "{share}");
    }

    #[test]
    fn what_has_no_work_or_took_no_time_reaches_nothing() {
        assert_eq!(row_of(1, 0, 0, 0).achieved(&PEAKS), None);
        let idle = row_of(0, 1, 1, 1);
        assert_eq!(
            (idle.achieved(&PEAKS), idle.gbs(), idle.gops()),
            (None, 0.0, 0.0)
        );
    }

    #[test]
    fn weights_are_named_without_their_layer() {
        for (tensor, name) in [
            ("blk.12.attn_q.weight", "attn_q"),
            ("output.weight", "output"),
            ("blk.0.ffn_gate_inp.weight", "ffn_gate_inp"),
        ] {
            assert_eq!(base_name(tensor), name);
        }
    }

    #[cfg(feature = "builtin")]
    mod builtin {
        use super::*;
        use crate::{Device, LoadOptions, ModelSource};

        const TEST: BenchTest = BenchTest {
            n_prompt: 0,
            n_gen: 3,
            n_depth: 4,
            n_batch_seqs: 2,
        };

        fn load(options: &LoadOptions) -> Bench {
            let checkpoint = ModelSource::Builtin.open().unwrap();
            Bench::load(checkpoint, options, &[TEST]).unwrap()
        }

        #[test]
        fn rows_add_up_to_the_whole_and_name_every_part() {
            let mut bench = load(&LoadOptions::default());
            let (result, profile) = bench.profile(TEST, 2, |_| {}).unwrap();
            assert_eq!(profile.wall, result.samples.iter().sum());
            assert_eq!(profile.passes, 6);
            for rows in [&profile.by_op, &profile.by_layer] {
                let sum: Duration = rows.iter().map(|r| r.time).sum();
                assert_eq!(sum, profile.wall);
                assert!(rows.iter().all(|r| r.calls >= profile.passes));
            }
            let places: Vec<&str> = profile.by_layer.iter().map(|r| r.name.as_str()).collect();
            assert_eq!(
                places,
                [
                    "embedding",
                    "attention",
                    "feed-forward",
                    "output",
                    "sampling",
                    "other"
                ]
            );
            let down = profile.by_op.iter().find(|r| r.weights == ["ffn_down"]);
            let down = down.expect("every layer has one");
            let layers = bench.model().info.layers as u64;
            assert_eq!(
                (down.name.as_str(), down.calls),
                ("linear", 6 * layers),
                "{down:?}"
            );
            let work = |rows: &[ProfileRow]| rows.iter().map(|r| r.work.bytes).sum::<u64>();
            assert_eq!(work(&profile.by_op), work(&profile.by_layer));
            // Nothing goes on being measured.
            assert_eq!(bench.driver.executor.end_profile(), None);
        }

        #[test]
        fn a_device_that_tells_nothing_apart_is_refused() {
            let mut bench = load(&LoadOptions {
                device: Device::Reference,
                ..LoadOptions::default()
            });
            let error = bench.profile(TEST, 1, |_| {}).unwrap_err();
            assert!(matches!(error, Error::NoProfile { .. }), "{error}");
        }
    }
}
