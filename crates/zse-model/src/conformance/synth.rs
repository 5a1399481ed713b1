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

    /// A tensor of `shape` (row length first). Types that cannot be encoded get random blocks
    /// scaled to about the magnitude that `fill` asks for.
    ///
    /// # Errors
    /// If the rows are no whole number of blocks.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: GgmlType,
        shape: &[usize],
        fill: Fill,
    ) -> Result<(), FormatError> {
        let shape64: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        self.writer.declare(name, ty, &shape64)?;
        let n: usize = shape.iter().product();
        let cols = shape[0];
        let values: Vec<f32> = (0..n)
            .map(|i| match fill {
                Fill::Normal(std) => std * self.rng.normal(),
                Fill::Outliers(std) if i % cols % 256 == 77 => 100.0 * std * self.rng.normal(),
                Fill::Outliers(std) => std * self.rng.normal(),
                Fill::NearOne => 1.0 + 0.1 * self.rng.normal(),
            })
            .collect();
        let mut bytes = vec![0; ty.row_bytes(cols).unwrap_or(0) * (n / cols)];
        if zse_quant::can_encode(ty) {
            zse_quant::encode(ty, &values, cols, None, &mut bytes)
                .expect("finite values in whole blocks");
        } else {
            let std = match fill {
                Fill::Normal(std) | Fill::Outliers(std) => std,
                Fill::NearOne => 1.0,
            };
            self.random_blocks(ty, std, &mut bytes);
        }
        self.data.push((name.to_owned(), bytes));
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

    /// Random bits in every field of every block, redrawn until the block decodes to finite
    /// numbers of a magnitude within a factor of about four of `std`.
    fn random_blocks(&mut self, ty: GgmlType, std: f32, bytes: &mut [u8]) {
        let mut decoded = vec![0.0f32; ty.block_len()];
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            loop {
                block.iter_mut().for_each(|b| *b = self.rng.bits() as u8);
                let decodes = zse_quant::decode(ty, block, &mut decoded).is_ok();
                let square: f32 = decoded.iter().map(|v| v * v).sum();
                let rms = (square / decoded.len() as f32).sqrt();
                if decodes && (0.25 * std..4.0 * std).contains(&rms) {
                    break;
                }
            }
        }
    }
}
