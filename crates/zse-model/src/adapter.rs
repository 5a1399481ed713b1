//! Adapters (LoRA) as the products of a program see them.

use zse_format::{FormatError, Lora, LoraMatrix, LoraWeight};

use crate::model::Model;
use crate::program::{LinearSlot, Op};

/// An adapter of one model: what it adds to each of the products that it changes.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// By [`LinearSlot`].
    sites: Vec<Option<LowRank>>,
}

/// What is added to a product: `scale * B (A x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// `[rank, in]`.
    pub a: LoraMatrix,
    /// `[out, rank]`, for the rows of this product.
    pub b: LoraMatrix,
    /// Factor on the product.
    pub scale: f32,
}

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Its file cannot be read, or is not for this model.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It changes a weight that the model uses otherwise.
    #[error(
        "{file}: tensor '{tensor}' adapts a weight by which this model does not multiply, which is not \
         implemented"
    )]
    NotMultiplied {
        /// The adapter.
        file: String,
        /// The weight.
        tensor: String,
    },
    /// The device has no kernels for it.
    #[error("adapters (LoRA) run on the CPU so far: load the model with --device cpu to use them")]
    Unsupported,
    /// Memory does not suffice.
    #[error("the adapter needs {needed} bytes, more than this machine gives")]
    OutOfMemory {
        /// Bytes needed.
        needed: u64,
    },
}

impl Adapter {
    /// What `lora` adds to the products of `model`.
    ///
    /// # Errors
    /// If it is for another model, or changes weights other than those of [`Op::Linear`].
    pub fn new(model: &Model, lora: &Lora) -> Result<Self, AdapterError> {
        lora.check(model.weights.checkpoint())?;
        let mut sites = Vec::new();
        let mut used = vec![false; lora.weights().len()];
        for node in &model.program.nodes {
            let Op::Linear { weight, slot, .. } = node.op else {
                continue;
            };
            let tensor = model.program.tensor(weight);
            let name = match tensor.name.as_str() {
                // As a matrix of products, the embeddings go by the other name.
                "token_embd.weight" => "output.weight",
                name => name,
            };
            let found = lora.weights().iter().position(|w| w.name == name);
            let site = found.map(|i| {
                used[i] = true;
                LowRank::part(&lora.weights()[i], tensor.first_row, tensor.rows)
            });
            let slot = slot.0 as usize;
            if sites.len() <= slot {
                sites.resize(slot + 1, None);
            }
            sites[slot] = site;
        }
        match used.iter().position(|used| !used) {
            None => Ok(Self { sites }),
            Some(i) => Err(AdapterError::NotMultiplied {
                file: lora.file().to_owned(),
                tensor: lora.weights()[i].name.clone(),
            }),
        }
    }

    /// What it adds to the product of `slot`, if anything.
    pub fn site(&self, slot: LinearSlot) -> Option<&LowRank> {
        self.sites.get(slot.0 as usize)?.as_ref()
    }

    /// What it adds to each product, by [`LinearSlot`].
    pub fn sites(&self) -> &[Option<LowRank>] {
        &self.sites
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> u64 {
        let sites = self.sites.iter().flatten();
        let bytes = sites.map(|site| site.a.data.len() + site.b.data.len());
        bytes.sum::<usize>() as u64
    }
}

impl LowRank {
    /// What `weight` adds to rows `first..first + rows` of its product.
    fn part(weight: &LoraWeight, first: usize, rows: usize) -> Self {
        let LoraWeight { a, b, scale, .. } = weight;
        let row_bytes = b.data.len() / b.rows;
        let b = match rows == b.rows {
            true => b.clone(),
            false => LoraMatrix {
                rows,
                data: b.data[first * row_bytes..][..rows * row_bytes].into(),
                ..*b
            },
        };
        Self {
            a: a.clone(),
            b,
            scale: *scale,
        }
    }
}
