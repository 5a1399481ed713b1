//! Brings a program's weights into the forms that its operations read.

use std::collections::HashSet;
use std::sync::Arc;

use zse_model::executor::{Budget, LoadError};
use zse_model::program::{Op, Program, TensorId};
use zse_model::{Model, rope};

use super::plan::{activations, vector_bytes};
use crate::ops::rope::Rotations;
use crate::pool::Step;
use crate::weights::{Matrix, packed_len};

/// The weights by tensor, in the forms that are needed.
pub(super) struct Weights {
    matrices: Vec<Option<Matrix>>,
    vectors: Vec<Option<Vec<f32>>>,
}

/// What the operations make of a tensor.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// Multiplies activations.
    product: bool,
    /// Rows are looked up.
    table: bool,
    /// All numbers are needed as f32.
    vector: bool,
}

/// The forms in which a tensor is kept.
pub(super) struct Form {
    /// As a matrix or table, if it is used as one.
    pub(super) matrix: Option<Place>,
    /// Decoded to f32.
    pub(super) vector: bool,
}

/// Where a matrix or table is kept.
pub(super) enum Place {
    /// In memory, packed.
    Packed,
    /// In the file, packed.
    Tiles,
    /// In the file, as it is there.
    File,
}

/// The forms of all tensors of `model`: what the file has packed is left there; other matrices packed (tables that are matrices too are looked up
/// there), tables left in the file, vectors decoded.
///
/// Matrices are left in the file, and packed anew as they are used, where `available` bytes do not
/// hold them beside the caches of `budget`; but not those that are made of what the file has, which
/// would take as much memory unpacked.
///
/// # Errors
/// If the size of a matrix cannot be counted.
pub(super) fn forms(
    model: &Model,
    budget: &Budget,
    available: Option<u64>,
) -> Result<Vec<Form>, LoadError> {
    let uses = uses(&model.program);
    let pack = match available {
        Some(available) => fits(model, budget, &uses, available)?,
        None => true,
    };
    let is_made = |i: usize| model.weights.get(TensorId(i as u32)).data.is_made();
    let form = |(i, uses): (usize, &Uses)| Form {
        matrix: match uses {
            Uses { product: true, .. } | Uses { table: true, .. }
                if model.weights.tiles(TensorId(i as u32)).is_some() =>
            {
                Some(Place::Tiles)
            }
            Uses { product: true, .. } if pack || is_made(i) => Some(Place::Packed),
            Uses { product: true, .. } | Uses { table: true, .. } => Some(Place::File),
            _ => None,
        },
        vector: uses.vector,
    };
    Ok(uses.iter().enumerate().map(form).collect())
}

impl Weights {
    /// Brings the weights of `model` into `forms`.
    pub(super) fn load(
        model: &Arc<Model>,
        forms: &[Form],
        step: &Step<'_>,
    ) -> Result<Self, LoadError> {
        let ids = || (0..forms.len() as u32).map(TensorId).zip(forms);
        let matrices = ids().map(|(id, form)| match form.matrix {
            Some(Place::Packed) => Matrix::pack(model, id, step).map(Some),
            Some(Place::Tiles) => {
                let tiles = model.weights.tiles(id).expect("the form says so");
                Matrix::mapped(model, id, tiles).map(Some)
            }
            Some(Place::File) => Matrix::in_place(model, id).map(Some),
            None => Ok(None),
        });
        let matrices = matrices.collect::<Result<_, _>>()?;
        let vectors = ids().filter(|(_, form)| form.vector).map(|(id, _)| id);
        let mut decoded = vec![None; forms.len()];
        for id in vectors {
            let view = model.weights.get(id);
            let numbers = view.to_f32().map_err(LoadError::weight(view.name))?;
            decoded[id.index()] = Some(numbers);
        }
        Ok(Self {
            matrices,
            vectors: decoded,
        })
    }

    /// A matrix or table.
    pub(super) fn matrix(&self, id: TensorId) -> &Matrix {
        self.matrices[id.index()]
            .as_ref()
            .expect("loaded by its use")
    }

    /// A vector.
    pub(super) fn vector(&self, id: TensorId) -> &[f32] {
        self.vectors[id.index()]
            .as_ref()
            .expect("loaded by its use")
    }

    /// The rotary embeddings of `program`.
    pub(super) fn rotations(&self, program: &Program) -> Vec<Rotations> {
        let of = |r: &zse_model::program::Rope| {
            let (frequencies, magnitude) = rope::frequencies(r, r.factors.map(|f| self.vector(f)));
            Rotations::new(r.style, frequencies, magnitude)
        };
        program.ropes.iter().map(of).collect()
    }

    /// Bytes held, and bytes read in place.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let vectors: usize = self.vectors.iter().flatten().map(|v| 4 * v.len()).sum();
        self.matrices
            .iter()
            .flatten()
            .map(Matrix::bytes)
            .fold((vectors as u64, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// The names of the tensors that an executor packs for itself where the file has not done it.
pub fn tiled_tensors(model: &Model) -> HashSet<String> {
    let (program, uses) = (&model.program, uses(&model.program));
    let ids = || (0..program.tensors.len() as u32).map(TensorId);
    let name = |id: TensorId| program.tensor(id).name.clone();
    let mut tiled: HashSet<String> = ids()
        .filter(|id| uses[id.index()].product)
        .map(name)
        .collect();
    // A tensor that is cut within a tile would have to be unpacked again.
    for id in ids().filter(|&id| !model.weights.is_whole_tiles(id)) {
        tiled.remove(&program.tensor(id).name);
    }
    tiled
}

fn uses(program: &Program) -> Vec<Uses> {
    let mut uses = vec![Uses::default(); program.tensors.len()];
    for node in &program.nodes {
        match node.op {
            Op::Embed { table, .. } => uses[table.index()].table = true,
            Op::Linear { weight, bias, .. } => {
                uses[weight.index()].product = true;
                bias.into_iter().for_each(|b| uses[b.index()].vector = true);
            }
            Op::MoeFfn { gate, up, down, .. } => {
                [gate, up, down]
                    .iter()
                    .for_each(|t| uses[t.index()].product = true);
            }
            _ => node
                .op
                .tensors()
                .iter()
                .for_each(|t| uses[t.index()].vector = true),
        }
    }
    let factors = program.ropes.iter().filter_map(|r| r.factors);
    factors.for_each(|t| uses[t.index()].vector = true);
    uses
}

/// Whether packed matrices, vectors, caches and intermediate results fit into `available` bytes. The file's own pages do not
/// count: they are let go of as they are packed.
fn fits(model: &Model, budget: &Budget, uses: &[Uses], available: u64) -> Result<bool, LoadError> {
    let products = (0..uses.len() as u32)
        .map(TensorId)
        .filter(|id| uses[id.index()].product && model.weights.tiles(*id).is_none())
        .map(|id| model.weights.get(id));
    let kv = budget.kv_bytes(&model.program).unwrap_or(u64::MAX);
    let mut needed = kv.saturating_add(activations(model, budget));
    for (id, _) in (0..)
        .map(TensorId)
        .zip(uses)
        .filter(|(_, uses)| uses.vector)
    {
        needed = needed.saturating_add(vector_bytes(&model.weights.get(id)));
    }
    for view in products {
        needed = needed.saturating_add(packed_len(&view)? as u64);
    }
    Ok(needed <= available)
}
