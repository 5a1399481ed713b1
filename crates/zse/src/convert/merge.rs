//! Adapters (LoRA) that are added to the weights while these are converted.

use std::path::PathBuf;

use zse_format::{Checkpoint, Checksummer, Lora, TensorView};
use zse_quant::GgmlType;

use super::ConvertError;
use crate::quantize::encode::Added;

/// The adapters.
pub(super) struct Merge(Vec<Lora>);

impl Merge {
    /// Reads adapters for the model of `source`.
    pub(super) fn open(paths: &[PathBuf], source: &Checkpoint) -> Result<Self, ConvertError> {
        let mut adapters = Vec::with_capacity(paths.len());
        for path in paths {
            let adapter = Lora::open(path, source)?;
            let is_tied = |name: &&str| source.tensor(name).is_none();
            let mut names = adapter.weights().iter().map(|w| w.name.as_str());
            if let Some(tensor) = names.find(is_tied) {
                return Err(ConvertError::MergeTied {
                    file: adapter.file().to_owned(),
                    tensor: tensor.to_owned(),
                });
            }
            adapters.push(adapter);
        }
        Ok(Self(adapters))
    }

    /// Whether the weight of this name is changed.
    pub(super) fn changes(&self, name: &str) -> bool {
        self.0.iter().any(|adapter| adapter.weight(name).is_some())
    }

    /// What is added to the weight of this name.
    pub(super) fn of(&self, name: &str) -> Products {
        let weights = self.0.iter().flat_map(Lora::weights);
        Products(
            weights
                .filter(|weight| weight.name == name)
                .map(|weight| Product {
                    expert: weight.expert,
                    a: weight.a.to_f32(),
                    b: weight.b.to_f32(),
                    rank: weight.a.rows,
                    scale: weight.scale,
                })
                .collect(),
        )
    }

    /// Adds what tells these adapters from others.
    pub(super) fn digest(&self, all: &mut Checksummer) {
        for weight in self.0.iter().flat_map(Lora::weights) {
            all.write(weight.name.as_bytes());
            all.write(&(weight.expert as u64).to_le_bytes());
            all.write(&weight.scale.to_le_bytes());
            all.write(&weight.a.data);
            all.write(&weight.b.data);
        }
    }
}

/// Refuses to add something to a weight that is quantized, which would lose much of it, unless that is
/// allowed.
pub(super) fn check_type(
    tensor: &TensorView<'_>,
    to: GgmlType,
    is_allowed: bool,
) -> Result<(), ConvertError> {
    match tensor.ty.is_quantized() && to.is_quantized() && !is_allowed {
        true => Err(ConvertError::MergeQuantized {
            tensor: tensor.name.to_owned(),
            ty: tensor.ty,
        }),
        false => Ok(()),
    }
}

/// `scale * B A`.
struct Product {
    expert: usize,
    /// `[rank, cols]`.
    a: Vec<f32>,
    /// `[rows, rank]`.
    b: Vec<f32>,
    rank: usize,
    scale: f32,
}

/// What several adapters add to a weight.
pub(super) struct Products(Vec<Product>);

impl Added for Products {
    fn add(&self, expert: usize, first: usize, cols: usize, numbers: &mut [f32]) {
        let mut sums = vec![0.0; cols];
        let of_expert = self.0.iter().filter(|product| product.expert == expert);
        for Product {
            a, b, rank, scale, ..
        } in of_expert
        {
            let factors = b[first * rank..].chunks_exact(*rank);
            for (row, factors) in numbers.chunks_exact_mut(cols).zip(factors) {
                sums.fill(0.0);
                for (factor, a) in factors.iter().zip(a.chunks_exact(cols)) {
                    sums.iter_mut().zip(a).for_each(|(s, a)| *s += factor * a);
                }
                row.iter_mut().zip(&sums).for_each(|(x, s)| *x += scale * s);
            }
        }
    }
}
