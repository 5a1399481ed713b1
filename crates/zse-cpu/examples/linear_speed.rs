//! Times products of packed weights with one and with many columns, for each type and
//! instruction set:
//!
//! ```text
//! cargo run --release -p zse-cpu --example linear_speed -- [--isa avx2,avx512] [--threads 2]
//!     [--columns 1,128] [--size 4096] [--layers 12] [type ...]
//! ```
//!
//! The program is a chain of `layers` square matrices, so that one column (decoding) reads them
//! from memory and not from a cache: compare GB/s (of packed weights) with what the machine reads
//! at all, which is printed first. For many columns (a prompt) GOPS count, two a multiply-add.
//! Each number is the best of several runs.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zse_cpu::{CpuBackend, Isa, Peaks};
use zse_model::conformance::{Fill, Rng, Synth, batch};
use zse_model::executor::{Backend, Batch, Budget, Executor};
use zse_model::program::{EmbedIndex, ProgramOutput};
use zse_model::{Builder, Model, ModelInfo, TOP, Weights};
use zse_quant::GgmlType;

/// Rows of the embedding that the columns come from.
const VOCAB: usize = 64;

/// Least time that a number is measured for.
const LEAST: Duration = Duration::from_millis(500);

/// What to time.
struct Options {
    isas: Vec<Isa>,
    threads: usize,
    columns: Vec<usize>,
    size: usize,
    layers: usize,
    types: Vec<GgmlType>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            isas: Isa::available()
                .into_iter()
                .filter(|isa| *isa != Isa::Scalar)
                .collect(),
            threads: std::thread::available_parallelism()?.get(),
            columns: vec![1, 128],
            size: 4096,
            layers: 12,
            types: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--isa" => {
                    let names = value()?;
                    options.isas = names.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--columns" => {
                    let numbers = value()?;
                    options.columns = numbers
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()?;
                }
                "--threads" => options.threads = value()?.parse()?,
                "--size" => options.size = value()?.parse()?,
                "--layers" => options.layers = value()?.parse()?,
                name => {
                    let ty = GgmlType::parse(name).filter(|ty| ty.is_weight());
                    options
                        .types
                        .push(ty.ok_or(format!("unknown type or option '{name}'"))?);
                }
            }
        }
        if options.types.is_empty() {
            options.types = GgmlType::WEIGHTS.to_vec();
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let Options {
        threads,
        size,
        layers,
        ..
    } = options;
    let peaks = Peaks::measure(threads, None).ok_or("no memory to measure with")?;
    println!(
        "{layers} matrices {size} x {size}, {threads} threads; the machine reads {:.1} GB/s and does \
         {:.0} GOPS of 8 bits",
        peaks.read_gbs, peaks.int8_gops
    );
    println!("type      isa       columns        ms    GB/s    GOPS");
    for ty in &options.types {
        let model = chain(*ty, size, layers)?;
        let weights = layers * size * ty.row_bytes(size).ok_or("size is no whole blocks")?;
        for &isa in &options.isas {
            for &columns in &options.columns {
                let budget = Budget {
                    threads: Some(threads),
                    ..Budget::for_context(columns, 1, columns)
                };
                let backend = CpuBackend { isa: Some(isa) };
                let mut executor = backend.compile(Arc::clone(&model), &budget)?;
                // Every row wants an output: what nobody wants is not computed.
                let ids = Rng::new(2).ids(columns, VOCAB);
                let batch = batch(&model, &budget, &[(&ids, 0)]);
                let seconds = best(executor.as_mut(), &batch)?;
                println!(
                    "{:<9} {:<9} {columns:>7} {:>9.2} {:>7.1} {:>7.0}",
                    ty.name(),
                    isa.name(),
                    seconds * 1e3,
                    weights as f64 / seconds / 1e9,
                    (2 * layers * size * size * columns) as f64 / seconds / 1e9,
                );
            }
        }
    }
    Ok(())
}

/// `size` columns through `layers` matrices `[size, size]` of type `ty`.
fn chain(ty: GgmlType, size: usize, layers: usize) -> Result<Arc<Model>, Box<dyn Error>> {
    let mut synth = Synth::new(1);
    synth.tensor("x.weight", GgmlType::F32, &[size, VOCAB], Fill::Normal(1.0))?;
    let std = 1.0 / (size as f32).sqrt();
    for layer in 0..layers {
        let name = format!("blk.{layer}.w.weight");
        synth.tensor(&name, ty, &[size, size], Fill::Normal(std))?;
    }
    let checkpoint = synth.finish()?;
    let mut b = Builder::new("chain", Arc::clone(&checkpoint));
    let table = b.weight(TOP, "x", VOCAB, size);
    let mut x = b.embed(table, EmbedIndex::Token);
    for layer in 0..layers {
        x = b.linear(x, layer, "w", size);
    }
    let output = b.gather_rows(x);
    let program = b.finish(ProgramOutput::Logits(output))?;
    let info = ModelInfo {
        architecture: "chain".to_owned(),
        name: "chain".to_owned(),
        layers,
        width: size,
        vocab: VOCAB,
        context: 4096,
        trained_context: 4096,
    };
    let weights = Weights::new(checkpoint, &program)?;
    Ok(Arc::new(Model {
        info,
        program,
        weights,
    }))
}

/// The best time of a forward pass, in seconds. It is over when `submit` returns; nothing is drawn
/// from the results.
fn best(executor: &mut dyn Executor, batch: &Batch) -> Result<f64, Box<dyn Error>> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    let mut runs = 0;
    while runs < 3 || start.elapsed() < LEAST {
        let start = Instant::now();
        executor.submit(batch)?;
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(best)
}
