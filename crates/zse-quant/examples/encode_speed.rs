//! What the encoders do on some threads with nothing else to do: weights a second of each type, as JSON.
//!
//! ```text
//! cargo run --release -p zse-quant --example encode_speed -- THREADS SECONDS TYPE...
//! ```

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use zse_quant::GgmlType;

/// Numbers of a row, and rows that a thread encodes at a time: what a conversion gives it.
const COLS: usize = 4096;
const ROWS: usize = 16;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((threads, seconds, types)) = parse(&args) else {
        eprintln!("usage: encode_speed THREADS SECONDS TYPE...");
        return ExitCode::from(2);
    };
    let rates = types.iter().map(|&ty| {
        let rate = rate(ty, threads, seconds);
        format!("\"{}\": {rate:.0}", ty.name())
    });
    println!("{{{}}}", rates.collect::<Vec<_>>().join(", "));
    ExitCode::SUCCESS
}

fn parse(args: &[String]) -> Option<(usize, Duration, Vec<GgmlType>)> {
    let [threads, seconds, types @ ..] = args else {
        return None;
    };
    let seconds = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    let types = types.iter().map(|name| GgmlType::parse(name));
    let types: Option<Vec<_>> = types
        .map(|ty| ty.filter(|&ty| zse_quant::can_encode(ty)))
        .collect();
    Some((threads.parse().ok()?, seconds, types?))
}

/// Weights a second that all threads together encode.
fn rate(ty: GgmlType, threads: usize, time: Duration) -> f64 {
    let done = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for seed in 0..threads {
            let done = &done;
            scope.spawn(move || {
                let numbers = numbers(seed as u32);
                let mut out = vec![0; ROWS * ty.row_bytes(COLS).expect("whole blocks")];
                while start.elapsed() < time {
                    zse_quant::encode(ty, &numbers, COLS, None, &mut out).expect("finite numbers");
                    std::hint::black_box(&out);
                    done.fetch_add(numbers.len() as u64, Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / start.elapsed().as_secs_f64()
}

/// Numbers as weights have them: a sum of uniform ones, nearly normal, small.
fn numbers(seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_add(1);
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let number = |_| 0.02 * (0..4).map(|_| uniform()).sum::<f32>();
    (0..ROWS * COLS).map(number).collect()
}
