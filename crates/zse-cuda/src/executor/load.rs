//! Brings a program's weights to the device.

use std::panic::resume_unwind;
use std::thread;

use zse_model::executor::LoadError;
use zse_model::program::TensorId;
use zse_model::{Model, rope};

use crate::device::{Arena, Device, DeviceMemory, HostMemory, Ptr};
use crate::ops::rope::Rotation;
use crate::weights::{Layout, Layouts, Matrix, Planes, Upload, upload, uses};

/// Tables of so many bytes, of which only rows are looked up, stay on the host: a row a token comes over the bus.
const LARGE_TABLE: usize = 32 << 20;

/// The weights by tensor, and the frequencies of the rotary embeddings.
pub(super) struct Weights {
    memory: DeviceMemory,
    /// Tables that rows are looked up in.
    _tables: Option<HostMemory>,
    matrices: Vec<Option<Matrix>>,
    vectors: Vec<Option<Ptr>>,
    pub(super) rotations: Vec<Rotation>,
}

/// Offsets of what a tensor becomes.
struct Place {
    matrix: Option<(Layout, [usize; 4])>,
    /// Whether the matrix is on the host.
    on_host: bool,
    vector: Option<usize>,
}

/// Where everything goes.
pub(super) struct Places {
    arena: Arena,
    host: Arena,
    tensors: Vec<Place>,
    ropes: Vec<usize>,
}

impl Places {
    /// Of all tensors of `model`.
    pub(super) fn new(model: &Model, layouts: &Layouts) -> Self {
        let (mut arena, mut host) = (Arena::default(), Arena::default());
        let uses = uses(&model.program);
        let tensors = uses
            .iter()
            .enumerate()
            .map(|(i, uses)| {
                let tensor = &model.program.tensors[i];
                let layout = layouts.of(TensorId(i as u32));
                let on_host = !uses.matrix && layout.bytes(tensor) >= LARGE_TABLE;
                let to = if on_host { &mut host } else { &mut arena };
                let matrix = uses.matrix || uses.table;
                Place {
                    matrix: matrix.then(|| (layout, layout.place(tensor, to))),
                    on_host,
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
            host,
            tensors,
            ropes,
        }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.arena.bytes() as u64
    }
}

/// Where tensors are, by id: as matrices of products, and as numbers.
struct Brought {
    matrices: Vec<Option<Matrix>>,
    vectors: Vec<Option<Ptr>>,
}

/// Brings all tensors to the device, from `memory` and, of those for the host, from `staging` on.
fn bring(
    device: &Device,
    model: &Model,
    places: &Places,
    [memory, staging]: [Ptr; 2],
) -> Result<Brought, LoadError> {
    let (mut matrices, mut vectors, mut uploads) = (Vec::new(), Vec::new(), Vec::new());
    for (i, place) in places.tensors.iter().enumerate() {
        let id = TensorId(i as u32);
        let view = model.weights.get(id);
        let matrix = place.matrix.map(|(layout, planes)| {
            let base = if place.on_host { staging } else { memory };
            let [q, h, s, d] = planes.map(|offset| base.offset(offset));
            let (rows, cols) = (view.rows as i32, view.cols as i32);
            let planes = Planes {
                q,
                h,
                s,
                d,
                rows,
                cols,
            };
            Matrix { layout, planes }
        });
        if let Some(offset) = place.vector {
            let numbers = view.to_f32().map_err(LoadError::weight(view.name))?;
            // SAFETY: placed for as many; waited for before they go.
            unsafe { device.upload(memory.offset(offset), &numbers) }?;
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
        vectors.push(place.vector.map(|offset| memory.offset(offset)));
    }
    let (ids, uploads): (Vec<_>, Vec<_>) = uploads.into_iter().unzip();
    // SAFETY: the planes were placed for these tensors.
    unsafe { upload(device, &uploads, |i| model.weights.release(ids[i])) }?;
    Ok(Brought { matrices, vectors })
}

impl Weights {
    /// Uploads the weights of `model`.
    pub(super) fn load(
        device: &Device,
        model: &Model,
        layouts: &Layouts,
    ) -> Result<Self, LoadError> {
        let places = Places::new(model, layouts);
        let memory = device.allocate("weights", places.arena.bytes())?;
        let bytes = places.host.bytes();
        // Blocks are permuted on the device: kernels write to the host slowly.
        let staging = device.allocate("tables on their way", bytes)?;
        // Memory of the host takes its time: it is made while weights are on their way.
        let (tables, uploaded) = thread::scope(|scope| {
            let tables = scope.spawn(|| match bytes {
                0 => Ok(None),
                bytes => device.allocate_host(bytes).map(Some),
            });
            let uploaded = bring(device, model, &places, [memory.at(), staging.at()]);
            let tables = tables.join();
            (
                tables.unwrap_or_else(|panic| resume_unwind(panic)),
                uploaded,
            )
        });
        let Brought {
            mut matrices,
            vectors,
        } = uploaded?;
        let tables: Option<HostMemory> = tables?;
        if let Some(tables) = &tables {
            // SAFETY: both are so large, and the kernels that wrote were waited for.
            unsafe { device.copy_to_host(tables.at(), staging.at(), bytes) }?;
            device.synchronize()?;
            for (matrix, place) in matrices.iter_mut().zip(&places.tensors) {
                *matrix = matrix.map(|m| match place.on_host {
                    true => m.moved(staging.at(), tables.at()),
                    false => m,
                });
            }
        }
        drop(staging);
        let at = |offset| memory.at().offset(offset);
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
        Ok(Self {
            memory,
            _tables: tables,
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
