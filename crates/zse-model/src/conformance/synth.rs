//! Checkpoints in memory with random weights of any type.

use std::sync::Arc;

use zse_format::{Checkpoint, FormatError, GgufWriter};
use zse_quant::GgmlType;

use super::Rng;

/// What a synthetic tensor is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal, and one column in 256 a hundred times larger: what real activations look like.
    Outliers(f32),
    /// Near 1, as norm weights are.
    NearOne,
}

/// The column of 256 that [`Fill::Outliers`] makes larger.
pub(super) const OUTLIER: usize = 77;

/// Collects tensors, then makes a [`Checkpoint`] of them.
pub struct Synth {
    rng: Rng,
    writer: GgufWriter,
    data: Vec<(String, Vec<u8>)>,
}

impl Synth {
    /// An empty checkpoint whose contents follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            writer: GgufWriter::new(),
            data: Vec::new(),
        }
    }

    /// The metadata to come.
    pub fn metadata(&mut self) -> &mut GgufWriter {
        &mut self.writer
    }

    /// A tensor of `shape` (row length first). Quantized types get random blocks of about the
    /// magnitude that `fill` asks for.
    ///
    /// # Errors
    /// If the rows are no whole number of blocks.
    ///
    /// # Panics
    /// If `fill` asks for outliers and the rows are too short to have one.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: GgmlType,
        shape: &[usize],
        fill: Fill,
    ) -> Result<(), FormatError> {
        let shape64: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        self.writer.declare(name, ty, &shape64)?;
        let (n, cols) = (shape.iter().product::<usize>(), shape[0]);
        assert!(
            !matches!(fill, Fill::Outliers(_)) || cols > OUTLIER,
            "{name}: rows of {cols} have no outlier"
        );
        let data = if ty.is_quantized() {
            let pool = self.block_pool(ty, fill);
            let blocks = pool.len() / ty.block_bytes();
            (0..n / ty.block_len())
                .flat_map(|_| {
                    &pool[self.rng.below(blocks) * ty.block_bytes()..][..ty.block_bytes()]
                })
                .copied()
                .collect()
        } else {
            let values: Vec<f32> = (0..n).map(|i| self.value(fill, i % cols)).collect();
            encode(ty, &values)
        };
        self.data.push((name.to_owned(), data));
        Ok(())
    }

    /// The checkpoint.
    ///
    /// # Errors
    /// If the metadata contradict themselves.
    pub fn finish(self) -> Result<Arc<Checkpoint>, FormatError> {
        let mut body = self.writer.begin(Vec::new(), "synthetic")?;
        for (name, data) in &self.data {
            body.write(name, data)?;
        }
        Checkpoint::from_bytes(body.finish()?, "synthetic").map(Arc::new)
    }

    fn value(&mut self, fill: Fill, col: usize) -> f32 {
        match fill {
            Fill::Normal(std) => std * self.rng.normal(),
            Fill::Outliers(std) if col % 256 == OUTLIER => 100.0 * std * self.rng.normal(),
            Fill::Outliers(std) => std * self.rng.normal(),
            Fill::NearOne => 1.0 + 0.1 * self.rng.normal(),
        }
    }

    /// Distinct blocks to fill a tensor from: making every block anew would take most of a test's
    /// time. Types that cannot be encoded get random bits, redrawn until they decode to finite
    /// numbers within a factor of two of the magnitude wanted, no 16 of them much smaller
    /// than the rest: sums that a single sub-block outweighs would average no rounding errors, as
    /// sums over real weights do.
    fn block_pool(&mut self, ty: GgmlType, fill: Fill) -> Vec<u8> {
        const BLOCKS: usize = 128;
        let values: Vec<f32> = (0..BLOCKS * ty.block_len())
            .map(|i| self.value(fill, i))
            .collect();
        if zse_quant::can_encode(ty) {
            return encode(ty, &values);
        }
        let rms = |x: &[f32]| (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt();
        let std = rms(&values);
        let mut pool = vec![0; BLOCKS * ty.block_bytes()];
        let mut decoded = vec![0.0f32; ty.block_len()];
        for block in pool.chunks_exact_mut(ty.block_bytes()) {
            loop {
                block.iter_mut().for_each(|b| *b = self.rng.bits() as u8);
                let decodes = zse_quant::decode(ty, block, &mut decoded).is_ok();
                let whole = rms(&decoded);
                let even = decoded.chunks(16).all(|part| rms(part) > whole / 8.0);
                if decodes && even && (0.5 * std..2.0 * std).contains(&whole) {
                    break;
                }
            }
        }
        pool
    }
}

/// `values` as blocks of `ty`.
fn encode(ty: GgmlType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() / ty.block_len() * ty.block_bytes()];
    zse_quant::encode(ty, values, values.len(), None, &mut bytes)
        .expect("finite values in whole blocks");
    bytes
}
