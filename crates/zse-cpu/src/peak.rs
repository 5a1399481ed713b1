//! What the machine does at most: the ceilings that measured speeds are held against.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::isa::{Arch, Isa};
use crate::pages::Pages;
use crate::simd::{Kernel, LANES, Simd, array, chain, fetch_ahead};

/// Bytes that all threads read together, well beyond the caches.
const READ: usize = 512 << 20;

/// How long arithmetic is timed for.
const LEAST: Duration = Duration::from_millis(10);

/// Steps of arithmetic between looks at the clock.
const ROUNDS: usize = 4096;

/// Products of bytes that are added before their sums are whole: as many as weights of 4 bits allow.
const CHAIN: usize = chain(4);

/// Times that a figure is taken; the best counts.
const TAKES: usize = 5;

/// The most that threads reach together, in 10^9 a second. A multiply-add is two operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Bytes read from memory; the best of several ways to read.
    pub read_gbs: f64,
    /// Operations on 8-bit integers with vector instructions. Matrix units such as AMX can do more.
    pub int8_gops: f64,
    /// Operations on f32.
    pub f32_gflops: f64,
}

impl Peaks {
    /// Measures `threads` threads under `isa` (`None`: the best there is), in less than a second.
    /// `None` where the CPU lacks `isa`, or there is no memory to read from.
    pub fn measure(threads: usize, isa: Option<Isa>) -> Option<Self> {
        let arch = Arch::of(isa.unwrap_or_else(|| Isa::available()[0]))?;
        let threads = threads.max(1);
        if crate::system_memory().is_some_and(|memory| memory.available < 2 * READ as u64) {
            return None;
        }
        let mut pages = Pages::zeroed(READ).ok()?;
        // Memory that was never written is one page of zeros for all.
        pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let parts: Vec<&[u8]> = pages.chunks(READ.div_ceil(threads)).collect();
        let read = [1, 4].map(|streams| rate(&parts, |data| arch.run(Read { data, streams })));
        Some(Self {
            read_gbs: read.into_iter().fold(0.0, f64::max),
            int8_gops: rate(&parts, |_| arch.run(Int8)),
            f32_gflops: rate(&parts, |_| arch.run(F32)),
        })
    }

    /// The greater of each figure: on a machine that others use too, more is nearer the truth.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            read_gbs: self.read_gbs.max(other.read_gbs),
            int8_gops: self.int8_gops.max(other.int8_gops),
            f32_gflops: self.f32_gflops.max(other.f32_gflops),
        }
    }
}

/// 10^9 a second of what `kernel` says it did, on one thread for each of `parts`. The time is from the
/// first start to the last end by the threads' own clocks: on a busy machine this thread may wake late.
fn rate(parts: &[&[u8]], kernel: impl Fn(&[u8]) -> f64 + Sync) -> f64 {
    let take = || {
        let barrier = Barrier::new(parts.len());
        std::thread::scope(|scope| {
            let run = |data| {
                barrier.wait();
                let start = Instant::now();
                (kernel(data), start, Instant::now())
            };
            let workers: Vec<_> = parts
                .iter()
                .map(|data| scope.spawn(move || run(data)))
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().expect("a probe does not panic"))
                .reduce(|a, b| (a.0 + b.0, a.1.min(b.1), a.2.max(b.2)))
                .map_or(0.0, |(count, start, end)| {
                    count / (end - start).as_secs_f64() / 1e9
                })
        })
    };
    (0..TAKES).map(|_| take()).fold(0.0, f64::max)
}

/// Reads `data` once, from so many places at a time: more streams keep more of the hardware's
/// prefetchers busy, or confuse them. Gives the bytes read.
struct Read<'a> {
    data: &'a [u8],
    streams: usize,
}

impl Kernel for Read<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        match self.streams {
            1 => read::<S, 1>(s, self.data),
            _ => read::<S, 4>(s, self.data),
        }
    }
}

#[inline(always)]
fn read<S: Simd, const STREAMS: usize>(s: S, data: &[u8]) -> f64 {
    let lines = data.len() / 64 / STREAMS;
    let mut streams: [&[[u8; 64]]; STREAMS] = [&[]; STREAMS];
    for (i, stream) in streams.iter_mut().enumerate() {
        *stream = data[i * lines * 64..][..lines * 64].as_chunks().0;
    }
    let mut sums = [s.splat_i32(0); STREAMS];
    for line in 0..lines {
        for (sum, stream) in sums.iter_mut().zip(&streams) {
            fetch_ahead(&stream[line]);
            *sum = s.add_i32(*sum, s.load_bytes(&stream[line]));
        }
    }
    black_box(sums);
    (lines * STREAMS * 64) as f64
}

/// Dot products of bytes; gives the operations.
struct Int8;

impl Kernel for Int8 {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        // As many sums as hide the latency of an instruction and fit the registers.
        match S::FLOAT_COLUMNS {
            8 => int8::<S, 16>(s),
            _ => int8::<S, 4>(s),
        }
    }
}

#[inline(always)]
fn int8<S: Simd, const SUMS: usize>(s: S) -> f64 {
    let (w, x) = ([s.splat_u8(1); CHAIN], [s.splat_u8(1); SUMS]);
    let mut sums = [s.splat_i32(0); SUMS];
    let ops = timed(
        #[inline(always)]
        || {
            // Operands of which nothing is known: products of the same ones would be computed once.
            let (w, x) = (black_box(&w), black_box(&x));
            let mut chains: [S::Sums; SUMS] = array!(s.begin(sums[0]); i => s.begin(sums[i]));
            for &w in w {
                for (chain, &x) in chains.iter_mut().zip(x) {
                    *chain = s.add_narrow(*chain, w, x);
                }
            }
            for (sum, chain) in sums.iter_mut().zip(chains) {
                *sum = s.total(chain, *sum);
            }
            SUMS * CHAIN * LANES * 8
        },
    );
    black_box(sums);
    ops
}

/// Fused multiply-adds; gives the operations.
struct F32;

impl Kernel for F32 {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        match S::FLOAT_COLUMNS {
            8 => f32::<S, 16>(s),
            _ => f32::<S, 4>(s),
        }
    }
}

#[inline(always)]
fn f32<S: Simd, const SUMS: usize>(s: S) -> f64 {
    let x = black_box(s.splat(0.5));
    let mut sums = [s.zero(); SUMS];
    let ops = timed(
        #[inline(always)]
        || {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, x);
            }
            SUMS * LANES * 2
        },
    );
    black_box(sums);
    ops
}

/// Repeats `round` for a while; the sum of what it gives.
#[inline(always)]
fn timed(mut round: impl FnMut() -> usize) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < LEAST {
        for _ in 0..ROUNDS {
            count += round();
        }
    }
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_ceilings() {
        for isa in Isa::available() {
            let peaks = Peaks::measure(2, Some(isa)).expect("an instruction set of this CPU");
            for figure in [peaks.read_gbs, peaks.int8_gops, peaks.f32_gflops] {
                assert!(figure.is_finite() && figure > 0.0, "{isa}: {peaks:?}");
            }
        }
    }

    #[test]
    fn the_greater_of_each_figure_counts() {
        let of = |read_gbs, int8_gops, f32_gflops| Peaks {
            read_gbs,
            int8_gops,
            f32_gflops,
        };
        assert_eq!(of(1.0, 5.0, 3.0).max(of(2.0, 4.0, 3.5)), of(2.0, 5.0, 3.5));
    }
}
