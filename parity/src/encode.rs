//! Encoding of blocks: never worse than ggml's.

use anyhow::Result;
use zse_model::conformance::Rng;
use zse_quant::{GgmlType, can_encode};

use crate::llama;
use crate::section::{Section, Table};

/// Types whose rounding the format specifies, so that the bytes must be ggml's.
const SPECIFIED: [GgmlType; 7] = [
    GgmlType::F16,
    GgmlType::Bf16,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
];

/// Rows of weights of one kind.
struct Data {
    name: &'static str,
    cols: usize,
    /// `[rows, cols]`.
    weights: Vec<f32>,
    /// `[cols]`.
    importance: Vec<f32>,
}

/// One type on one kind of data.
struct Outcome {
    /// Sums over all rows, ZSE's and ggml's.
    ours: f64,
    theirs: f64,
    /// Rows with a higher error than ggml's.
    worse: usize,
    rows: usize,
    /// Whether the bytes are ggml's.
    same: bool,
}

/// Compares every type that ZSE encodes on weights of three kinds, `rows` rows each.
///
/// # Errors
/// If an encoder fails.
pub(crate) fn section(rows: usize, seed: u64) -> Result<Section> {
    let mut section = Section::new(
        "Encoding",
        "The squared error of ZSE's blocks over that of ggml's (`ggml_quantize_chunk`) on the same \
         rows; below 1, ZSE's are nearer to the weights. With importance, each column's errors are \
         weighted, and both encoders know the weights. *Rows worse* counts rows whose error is \
         higher than ggml's, of all rows of all kinds of data.",
    );
    let data = data(rows, seed);
    let mut heads = vec!["type"];
    heads.extend(data.iter().map(|d| d.name));
    heads.extend([
        "rows worse",
        "with importance",
        "rows worse",
        "ggml's bytes",
    ]);
    let mut table = Table::new(&heads);
    let types = GgmlType::WEIGHTS.iter().copied();
    for ty in types.filter(|&ty| ty != GgmlType::F32 && can_encode(ty)) {
        let plain = outcomes(ty, &data, false)?;
        let weighted = outcomes(ty, &data, true)?;
        let same = plain.iter().all(|o| o.same);
        let specified = SPECIFIED.contains(&ty);
        let mut cells = vec![format!("`{ty}`")];
        cells.extend(plain.iter().map(|o| format!("{:.4}", o.ratio())));
        cells.push(worse(&plain));
        cells.push(
            weighted
                .iter()
                .map(|o| format!("{:.4}", o.ratio()))
                .collect::<Vec<_>>()
                .join(", "),
        );
        cells.push(worse(&weighted));
        cells.push(if same { "yes" } else { "no" }.to_owned());
        table.row(cells);
        section.promise(same || !specified, || {
            format!("{ty}: other bytes than ggml's, though the format specifies them")
        });
        for (outcome, data) in plain.iter().chain(&weighted).zip(data.iter().cycle()) {
            section.promise(outcome.worse == 0, || {
                format!(
                    "{ty}: a higher error than ggml's in {} rows of {} weights",
                    outcome.worse, data.name
                )
            });
        }
    }
    section.add(&table);
    Ok(section)
}

fn worse(outcomes: &[Outcome]) -> String {
    let sum = |f: fn(&Outcome) -> usize| outcomes.iter().map(f).sum::<usize>();
    format!("{} of {}", sum(|o| o.worse), sum(|o| o.rows))
}

impl Outcome {
    /// ZSE's error over ggml's; 1 where both are 0.
    fn ratio(&self) -> f64 {
        if self.theirs == self.ours {
            1.0
        } else {
            self.ours / self.theirs
        }
    }
}

/// Normal weights, weights with heavy tails, and rows in which every column has its own size.
fn data(rows: usize, seed: u64) -> Vec<Data> {
    let mut rng = Rng::new(seed);
    let cols = 1024;
    let mut kind = |name, draw: fn(&mut Rng, f32) -> f32| {
        let sizes: Vec<f32> = (0..cols).map(|_| rng.normal().exp()).collect();
        let importance = (0..cols).map(|_| (2.0 * rng.normal()).exp()).collect();
        let weights = (0..rows * cols)
            .map(|i| 0.05 * draw(&mut rng, sizes[i % cols]))
            .collect();
        Data {
            name,
            cols,
            weights,
            importance,
        }
    };
    vec![
        kind("normal", |rng, _| rng.normal()),
        kind("heavy tails", |rng, _| rng.normal().powi(3)),
        kind("scaled columns", |rng, size| size * rng.normal()),
    ]
}

/// One outcome for each of `data`.
fn outcomes(ty: GgmlType, data: &[Data], weighted: bool) -> Result<Vec<Outcome>> {
    data.iter()
        .map(|data| outcome(ty, data, weighted))
        .collect()
}

fn outcome(ty: GgmlType, data: &Data, weighted: bool) -> Result<Outcome> {
    let Data {
        cols,
        weights,
        importance,
        ..
    } = data;
    let importance = weighted.then_some(&importance[..]);
    let rows = weights.len() / cols;
    let bytes = weights.len() / ty.block_len() * ty.block_bytes();
    let (mut ours, mut theirs) = (vec![0; bytes], vec![0; bytes]);
    zse_quant::encode(ty, weights, *cols, importance, &mut ours)?;
    llama::encode(ty, weights, *cols, importance, &mut theirs)?;
    let errors = |blocks: &[u8]| -> Result<Vec<f64>> {
        let mut decoded = vec![0.0; weights.len()];
        zse_quant::decode(ty, blocks, &mut decoded)?;
        let pairs = weights.chunks_exact(*cols).zip(decoded.chunks_exact(*cols));
        Ok(pairs
            .map(|(row, decoded)| error(row, decoded, importance))
            .collect())
    };
    let (our_errors, their_errors) = (errors(&ours)?, errors(&theirs)?);
    let pairs = our_errors.iter().zip(&their_errors);
    Ok(Outcome {
        ours: our_errors.iter().sum(),
        theirs: their_errors.iter().sum(),
        worse: pairs.filter(|(ours, theirs)| ours > theirs).count(),
        rows,
        same: ours == theirs,
    })
}

/// `sum of importance * (weight - decoded)^2` of a row.
fn error(row: &[f32], decoded: &[f32], importance: Option<&[f32]>) -> f64 {
    let squares = row
        .iter()
        .zip(decoded)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    match importance {
        Some(importance) => squares
            .zip(importance)
            .map(|(s, &i)| s * f64::from(i))
            .sum(),
        None => squares.sum(),
    }
}
