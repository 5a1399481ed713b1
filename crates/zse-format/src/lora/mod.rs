//! Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) that stand beside a model: directories
//! as PEFT writes them ([`peft`]), and GGUF files as llama.cpp's `convert_lora_to_gguf.py` does
//! ([`gguf`]).
//!
//! What an adapter asks for beyond products of two matrices is refused by name: without it, the model
//! would say something else than the adapter was trained to.

mod gguf;
mod peft;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zse_quant::GgmlType;

use crate::{Checkpoint, FormatError, TensorView};

/// Largest rank: far above any that is of use.
const MAX_RANK: u64 = 4096;

const NO_PLACE: &str = "has no place in this model: the adapter is for another one";

/// An adapter: what is added to some of a model's weights.
#[derive(Clone, Debug)]
pub struct Lora {
    file: String,
    weights: Vec<LoraWeight>,
}

/// What is added to a matrix: `scale * B A`, of its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraWeight {
    /// The weight's name in the model, as GGUF has it, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Which matrix of a stack of experts; 0 of a weight that is a single matrix.
    pub expert: usize,
    /// `[rank, in]`.
    pub a: LoraMatrix,
    /// `[out, rank]`; its rows in the order of the model's.
    pub b: LoraMatrix,
    /// Factor on the product, which follows from the adapter's alpha and its rank.
    pub scale: f32,
}

/// A matrix of finite numbers in memory. Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraMatrix {
    /// F32, F16 or BF16.
    pub ty: GgmlType,
    /// Rows.
    pub rows: usize,
    /// Numbers of a row.
    pub cols: usize,
    /// Row after row.
    pub data: Arc<[u8]>,
}

impl LoraMatrix {
    /// The matrix `[rows, cols]` of `numbers`, row after row.
    ///
    /// # Panics
    /// If there are more or fewer numbers.
    pub fn new(rows: usize, cols: usize, numbers: &[f32]) -> Self {
        assert_eq!(numbers.len(), rows * cols, "a matrix of {rows} x {cols}");
        Self {
            ty: GgmlType::F32,
            rows,
            cols,
            data: numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Rows `first..first + rows`.
    pub fn part(&self, first: usize, rows: usize) -> Self {
        let row_bytes = self.data.len() / self.rows;
        match rows == self.rows {
            true => self.clone(),
            false => Self {
                rows,
                data: self.data[first * row_bytes..][..rows * row_bytes].into(),
                ..*self
            },
        }
    }

    /// The same in F32 with zeros to the right and below.
    ///
    /// # Panics
    /// If it has more rows or columns.
    pub fn padded(&self, rows: usize, cols: usize) -> Self {
        let mut numbers = vec![0.0; rows * cols];
        let padded = numbers.chunks_exact_mut(cols);
        for (to, from) in padded.zip(self.to_f32().chunks_exact(self.cols)) {
            to[..self.cols].copy_from_slice(from);
        }
        assert!(rows >= self.rows, "{rows} rows hold {}", self.rows);
        Self::new(rows, cols, &numbers)
    }

    /// For each `first` below `step`, the columns from it on in steps of `step`, which divides their
    /// number.
    fn every(&self, step: usize) -> Vec<Self> {
        let number = self.data.len() / (self.rows * self.cols);
        let mut parts = vec![Vec::with_capacity(self.data.len() / step); step];
        for run in self.data.chunks_exact(step * number) {
            for (part, bytes) in parts.iter_mut().zip(run.chunks_exact(number)) {
                part.extend_from_slice(bytes);
            }
        }
        let cols = self.cols / step;
        let matrix = |data: Vec<u8>| Self {
            cols,
            data: data.into(),
            ..*self
        };
        parts.into_iter().map(matrix).collect()
    }

    /// The matrix of encoded rows; what is quantized becomes F32. Says what is wrong with the numbers.
    fn decode(ty: GgmlType, rows: usize, cols: usize, bytes: Vec<u8>) -> Result<Self, String> {
        let mut numbers = vec![0.0; rows * cols];
        zse_quant::decode(ty, &bytes, &mut numbers).map_err(|error| error.to_string())?;
        if !numbers.iter().all(|x| x.is_finite()) {
            return Err("has numbers that are not finite: the file is damaged".to_owned());
        }
        match ty {
            GgmlType::F32 | GgmlType::F16 | GgmlType::Bf16 => Ok(Self {
                ty,
                rows,
                cols,
                data: bytes.into(),
            }),
            _ => Ok(Self::new(rows, cols, &numbers)),
        }
    }

    /// All numbers, row after row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.rows * self.cols];
        zse_quant::decode(self.ty, &self.data, &mut numbers).expect("checked when it was read");
        numbers
    }
}

impl Lora {
    /// An adapter of weights that are in memory already; `file` stands for the path in messages.
    pub fn new(file: &str, weights: Vec<LoraWeight>) -> Self {
        Self {
            file: file.to_owned(),
            weights,
        }
    }

    /// Reads the adapter at `path` for the model `base`: a directory with `adapter_config.json` and
    /// `adapter_model.safetensors` (or one of these two files), or a GGUF file. All of it is read into
    /// memory.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, asks for something that is not implemented, or is not for
    /// this model: [`FormatError::Unusable`] then names the tensor or field.
    pub fn open(path: &Path, base: &Checkpoint) -> Result<Self, FormatError> {
        let lora = match peft::directory(path) {
            Some(directory) => peft::read(&directory, base)?,
            None => gguf::read(path, base)?,
        };
        lora.check(base)?;
        Ok(lora)
    }

    /// The file or directory it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is added to each weight, by name.
    pub fn weights(&self) -> &[LoraWeight] {
        &self.weights
    }

    /// What is added to the weight of this name; of experts, to the first that is changed.
    pub fn weight(&self, name: &str) -> Option<&LoraWeight> {
        self.weights.iter().find(|weight| weight.name == name)
    }

    /// Checks that `base` has the weights, as matrices, or stacks of matrices, of these shapes. Where a model takes its logits
    /// from the embeddings, `output.weight` stands for these in that place.
    ///
    /// # Errors
    /// [`FormatError::Unusable`], which names the first that is not.
    pub fn check(&self, base: &Checkpoint) -> Result<(), FormatError> {
        for weight in &self.weights {
            let Some(problem) = mismatch(weight, base) else {
                continue;
            };
            let name = match weight.expert {
                0 => &weight.name,
                expert => &format!("{} of expert {expert}", weight.name),
            };
            return Err(unusable(&self.file, name, problem));
        }
        match self.weights.is_empty() {
            true => Err(FormatError::Unusable {
                file: self.file.clone(),
                field: "the adapter".to_owned(),
                problem: "has no tensors".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// The weight `name` of `base`: where logits come from the embeddings, these are `output.weight` too.
fn weight_of<'a>(base: &'a Checkpoint, name: &str) -> Option<TensorView<'a>> {
    let tied = || match name == "output.weight" {
        true => base.tensor("token_embd.weight"),
        false => None,
    };
    base.tensor(name).or_else(tied)
}

/// The matrices of the weight `name` of `base`: numbers of a row and rows of each, and how many there are.
/// Or why an adapter cannot have it.
fn matrices_of(base: &Checkpoint, name: &str) -> Result<([u64; 2], u64), String> {
    if name == "token_embd.weight" {
        return Err("adapts the embeddings, which is not implemented".to_owned());
    }
    let tensor = weight_of(base, name).ok_or(NO_PLACE)?;
    match *tensor.shape {
        [cols, rows] => Ok(([cols, rows], 1)),
        [cols, rows, experts] => Ok(([cols, rows], experts)),
        _ => Err("adapts a vector, which is not implemented".to_owned()),
    }
}

/// What is wrong with `weight` as part of an adapter for `base`.
fn mismatch(weight: &LoraWeight, base: &Checkpoint) -> Option<String> {
    let (a, b) = (&weight.a, &weight.b);
    let (shape, experts) = match matrices_of(base, &weight.name) {
        Ok(found) => found,
        Err(problem) => return Some(problem),
    };
    if weight.expert as u64 >= experts {
        return Some(format!("is of a model with more experts than {experts}"));
    }
    if [a.cols as u64, b.rows as u64] != shape || a.rows != b.cols {
        return Some(format!(
            "has matrices [{}, {}] and [{}, {}], but the model's weight is [{}, {}]: the adapter is for \
             another model",
            a.rows, a.cols, b.rows, b.cols, shape[1], shape[0]
        ));
    }
    let is_finite = weight.scale.is_finite();
    (!is_finite).then(|| format!("has the scale {}, which is not finite", weight.scale))
}

fn unusable(file: &str, tensor: &str, problem: impl Into<String>) -> FormatError {
    FormatError::Unusable {
        file: file.to_owned(),
        field: format!("tensor {tensor:?}"),
        problem: problem.into(),
    }
}

/// Which of its two matrices a tensor is.
#[derive(Clone, Copy)]
enum Side {
    A,
    B,
}

/// A matrix of the model: the weight's name, and which of its experts.
type Place = (String, usize);

/// The two matrices of each weight while they are collected.
#[derive(Default)]
struct Pairs {
    by_place: BTreeMap<Place, [Option<LoraMatrix>; 2]>,
}

impl Pairs {
    /// Adds one that was not there.
    fn add(&mut self, place: Place, side: Side, matrix: LoraMatrix) -> Result<(), String> {
        let pair = self.by_place.entry(place).or_default();
        match pair[side as usize].replace(matrix) {
            None => Ok(()),
            Some(_) => Err("is there twice".to_owned()),
        }
    }

    /// The adapter, where `scale_of` says the factor of a weight at this place and of this rank.
    fn finish(
        self,
        file: &str,
        scale_of: impl Fn(&Place, usize) -> f32,
    ) -> Result<Lora, FormatError> {
        let mut weights = Vec::with_capacity(self.by_place.len());
        for (place, pair) in self.by_place {
            let name = &place.0;
            let [Some(a), Some(b)] = pair else {
                return Err(unusable(file, name, "has only one of its two matrices"));
            };
            if a.rows as u64 > MAX_RANK {
                let problem = format!("has rank {}, must be at most {MAX_RANK}", a.rows);
                return Err(unusable(file, name, problem));
            }
            let scale = scale_of(&place, a.rows);
            let (name, expert) = place;
            weights.push(LoraWeight {
                name,
                expert,
                a,
                b,
                scale,
            });
        }
        Ok(Lora::new(file, weights))
    }
}

/// Rows and columns of a tensor with these dimensions, slowest first.
fn matrix(shape: &[u64]) -> Result<[usize; 2], String> {
    match shape {
        [rows, cols] if *rows > 0 && *cols > 0 => Ok([*rows as usize, *cols as usize]),
        _ => Err(format!("has shape {shape:?}, but must be a matrix")),
    }
}
