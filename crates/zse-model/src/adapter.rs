//! Adapters (LoRA) as the products of a program see them.

use std::collections::{BTreeMap, HashMap};

use zse_format::{FormatError, Lora, LoraMatrix, LoraWeight};

use crate::model::Model;
use crate::program::{LinearSlot, Op, Tensor};

/// An adapter of one model: what it adds to each of the products that it changes.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// By [`LinearSlot`].
    sites: Vec<Option<LowRank>>,
    /// By the slots of [`Op::MoeFfn`], for each expert.
    experts: BTreeMap<LinearSlot, Vec<Option<LowRank>>>,
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
    #[error(
        "adapters (LoRA) run on the CPU so far: load the model with --device cpu to use them, or merge one \
         into it with zse convert --merge-lora"
    )]
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
    /// If it is for another model, or changes weights other than those of [`Op::Linear`] and
    /// [`Op::MoeFfn`].
    pub fn new(model: &Model, lora: &Lora) -> Result<Self, AdapterError> {
        lora.check(model.weights.checkpoint())?;
        let mut parts = Parts::new(lora);
        let (mut sites, mut experts) = (Vec::new(), BTreeMap::new());
        for node in &model.program.nodes {
            match node.op {
                Op::Linear { weight, slot, .. } => {
                    let slot = slot.0 as usize;
                    if sites.len() <= slot {
                        sites.resize(slot + 1, None);
                    }
                    sites[slot] = parts.take(model.program.tensor(weight), 0);
                }
                Op::MoeFfn {
                    gate,
                    up,
                    down,
                    slots,
                    ..
                } => {
                    for (slot, id) in slots.into_iter().zip([gate, up, down]) {
                        let tensor = model.program.tensor(id);
                        let of = (0..tensor.experts).map(|expert| parts.take(tensor, expert));
                        let of: Vec<_> = of.collect();
                        if of.iter().any(Option::is_some) {
                            experts.insert(slot, of);
                        }
                    }
                }
                _ => {}
            }
        }
        match parts.unused() {
            None => Ok(Self { sites, experts }),
            Some(weight) => Err(AdapterError::NotMultiplied {
                file: lora.file().to_owned(),
                tensor: weight.name.clone(),
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

    /// What it adds to the products of `expert` at `slot`, if anything.
    pub fn expert(&self, slot: LinearSlot, expert: usize) -> Option<&LowRank> {
        self.experts.get(&slot)?.get(expert)?.as_ref()
    }

    /// Where it adds something to products of experts, and what to those of each.
    pub fn experts(&self) -> impl Iterator<Item = (LinearSlot, &[Option<LowRank>])> {
        self.experts.iter().map(|(slot, of)| (*slot, of.as_slice()))
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> u64 {
        let experts = self.experts.values().flatten();
        let sites = self.sites.iter().chain(experts).flatten();
        let bytes = sites.map(|site| site.a.data.len() + site.b.data.len());
        bytes.sum::<usize>() as u64
    }
}

/// What an adapter adds to each matrix, and which of it was asked for.
struct Parts<'a> {
    weights: &'a [LoraWeight],
    by_place: HashMap<(&'a str, usize), usize>,
    used: Vec<bool>,
}

impl<'a> Parts<'a> {
    fn new(lora: &'a Lora) -> Self {
        let weights = lora.weights().iter().enumerate();
        Self {
            by_place: weights
                .map(|(i, w)| ((w.name.as_str(), w.expert), i))
                .collect(),
            used: vec![false; lora.weights().len()],
            weights: lora.weights(),
        }
    }

    /// What is added to the product of this expert's matrix of `tensor`.
    fn take(&mut self, tensor: &Tensor, expert: usize) -> Option<LowRank> {
        let name = match tensor.name.as_str() {
            // As a matrix of products, the embeddings go by the other name.
            "token_embd.weight" => "output.weight",
            name => name,
        };
        let i = *self.by_place.get(&(name, expert))?;
        self.used[i] = true;
        let LoraWeight { a, b, scale, .. } = &self.weights[i];
        Some(LowRank {
            a: a.clone(),
            b: b.part(tensor.first_row, tensor.rows),
            scale: *scale,
        })
    }

    /// One that nothing asked for.
    fn unused(&self) -> Option<&'a LoraWeight> {
        let unused = self.used.iter().position(|used| !used);
        unused.map(|i| &self.weights[i])
    }
}
