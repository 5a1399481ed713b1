//! Brings a program's weights to the device.

use zse_model::executor::LoadError;
use zse_model::program::{Op, Program, TensorId};
use zse_model::{Model, rope};

use crate::device::{Arena, Device, DeviceMemory, Ptr};
use crate::ops::rope::Rotation;
use crate::weights::{Layout, Matrix, Planes, Upload, upload};

/// The weights by tensor, and the frequencies of the rotary embeddings.
pub(super) struct Weights {
    memory: DeviceMemory,
    matrices: Vec<Option<Matrix>>,
    vectors: Vec<Option<Ptr>>,
    pub(super) rotations: Vec<Rotation>,
}

/// Offsets of what a tensor becomes.
struct Place {
    matrix: Option<(Layout, [usize; 4])>,
    vector: Option<usize>,
}

/// Where everything goes.
pub(super) struct Places {
    arena: Arena,
    tensors: Vec<Place>,
    ropes: Vec<usize>,
}

impl Places {
    /// Of all tensors of `model`.
    pub(super) fn new(model: &Model) -> Self {
        let mut arena = Arena::default();
        let uses = uses(&model.program);
        let tensors = uses
            .iter()
            .enumerate()
            .map(|(i, uses)| {
                let (tensor, view) = (
                    &model.program.tensors[i],
                    model.weights.get(TensorId(i as u32)),
                );
                let layout = Layout::of(view.ty);
                Place {
                    matrix: uses
                        .matrix
                        .then(|| (layout, layout.place(tensor, &mut arena))),
                    vector: uses
                        .vector
                        .then(|| arena.take(4 * tensor.experts * tensor.rows * tensor.cols)),
                }
            })
            .collect();
        let ropes = model
            .program
            .ropes
            .iter()
            .map(|r| arena.take(2 * r.dims))
            .collect();
        Self {
            arena,
            tensors,
            ropes,
        }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.arena.bytes() as u64
    }
}

impl Weights {
    /// Uploads the weights of `model`.
    pub(super) fn load(device: &Device, model: &Model) -> Result<Self, LoadError> {
        let places = Places::new(model);
        let memory = device.allocate("weights", places.arena.bytes())?;
        let at = |offset| memory.at().offset(offset);
        let (mut matrices, mut vectors, mut uploads) = (Vec::new(), Vec::new(), Vec::new());
        for (i, place) in places.tensors.iter().enumerate() {
            let id = TensorId(i as u32);
            let view = model.weights.get(id);
            let matrix = place.matrix.map(|(layout, planes)| {
                let [q, h, s, d] = planes.map(at);
                let (rows, cols) = (view.rows as i32, view.cols as i32);
                Matrix {
                    layout,
                    planes: Planes {
                        q,
                        h,
                        s,
                        d,
                        rows,
                        cols,
                    },
                }
            });
            if let Some(offset) = place.vector {
                let numbers = view.to_f32().map_err(LoadError::weight(view.name))?;
                // SAFETY: placed for as many; waited for before they go.
                unsafe { device.upload(at(offset), &numbers) }?;
                device.synchronize()?;
            }
            match matrix {
                Some(Matrix { layout, planes }) => {
                    let upload = Upload {
                        view,
                        layout,
                        planes,
                    };
                    uploads.push((id, upload));
                }
                None => model.weights.release(id),
            }
            matrices.push(matrix);
            vectors.push(place.vector.map(at));
        }
        let mut rotations = Vec::new();
        for (r, &offset) in model.program.ropes.iter().zip(&places.ropes) {
            let factors = r.factors.map(|id| model.weights.get(id));
            let factors = factors
                .map(|v| v.to_f32().map_err(LoadError::weight(v.name)))
                .transpose()?;
            let (frequencies, magnitude) = rope::frequencies(r, factors.as_deref());
            // SAFETY: placed for `dims / 2` numbers; waited for before they go.
            unsafe { device.upload(at(offset), &frequencies) }?;
            device.synchronize()?;
            rotations.push(Rotation::new(
                r.style,
                at(offset),
                frequencies.len(),
                magnitude,
            ));
        }
        let (ids, uploads): (Vec<_>, Vec<_>) = uploads.into_iter().unzip();
        // SAFETY: the planes were placed for these tensors.
        unsafe { upload(device, &uploads, |i| model.weights.release(ids[i])) }?;
        Ok(Self {
            memory,
            matrices,
            vectors,
            rotations,
        })
    }

    /// A matrix or table.
    pub(super) fn matrix(&self, id: TensorId) -> &Matrix {
        self.matrices[id.index()]
            .as_ref()
            .expect("loaded by its use")
    }

    /// A vector of f32.
    pub(super) fn vector(&self, id: TensorId) -> Ptr {
        self.vectors[id.index()].expect("loaded by its use")
    }

    /// A vector, or null.
    pub(super) fn vector_or_null(&self, id: Option<TensorId>) -> Ptr {
        id.map_or(Ptr::NULL, |id| self.vector(id))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }
}

/// What the operations make of a tensor.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// Multiplies activations, or has rows that are looked up.
    matrix: bool,
    /// All numbers are needed as f32.
    vector: bool,
}

fn uses(program: &Program) -> Vec<Uses> {
    let mut uses = vec![Uses::default(); program.tensors.len()];
    for node in &program.nodes {
        match node.op {
            Op::Embed { table, .. } => uses[table.index()].matrix = true,
            Op::Linear { weight, bias, .. } => {
                uses[weight.index()].matrix = true;
                bias.into_iter().for_each(|b| uses[b.index()].vector = true);
            }
            Op::MoeFfn { gate, up, down, .. } => {
                [gate, up, down]
                    .iter()
                    .for_each(|t| uses[t.index()].matrix = true);
            }
            _ => node
                .op
                .tensors()
                .iter()
                .for_each(|t| uses[t.index()].vector = true),
        }
    }
    uses
}
