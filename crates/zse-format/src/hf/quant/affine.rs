//! Affine formats: what they have in common, and ggml's rows made of them.

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use zse_quant::GgmlType;

use super::numbers::{check_dtype, check_shape};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// Weights of a block of ggml's types.
pub(super) const BLOCK: usize = 32;
/// Rows that are made together: formats that run along columns are read by lines.
const TILE: usize = 64;

/// Where a format keeps its codes and scales.
pub(super) trait Codes: fmt::Debug + Send + Sync {
    /// The codes of the weights of `row` from column `first` on, which is a multiple of [`BLOCK`];
    /// at most a block of them.
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]);
    /// Scales and minima of all rows.
    fn groups(&self) -> Groups;
    /// The tensors of files.
    fn sources(&self) -> Vec<&Raw>;
}

/// Scales and minima: those of row 0's groups, those of row 1's, ...
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) scales: Vec<f32>,
    pub(super) mins: Vec<f32>,
}

/// A matrix of `scale * code + min`.
#[derive(Debug)]
pub(crate) struct Affine {
    codes: Box<dyn Codes>,
    rows: usize,
    cols: usize,
    group_of: GroupOf,
    /// Groups of a row.
    groups: usize,
    /// The code of a weight of 0 in all groups, where there is one.
    middle: Option<u8>,
    ty: GgmlType,
}

/// What [`Affine::new`] has to know.
pub(super) struct Description {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) group_of: GroupOf,
    pub(super) groups: usize,
    pub(super) bits: u32,
    /// The code of a weight of 0 in all groups, where there is one.
    pub(super) middle: Option<u8>,
    /// The type of the scales.
    pub(super) float: GgmlType,
}

/// The group of each column.
#[derive(Debug)]
pub(super) enum GroupOf {
    /// So many neighbours are a group.
    Even(usize),
    /// What a file lists, as act order needs it.
    Listed(Vec<u32>),
}

impl GroupOf {
    /// What the tensor `what` lists for `cols` columns of `groups` groups; -1 throughout stands for
    /// neighbours in groups of `size`.
    ///
    /// # Errors
    /// What is wrong with the tensor.
    pub(super) fn read(
        what: &str,
        g_idx: &Raw,
        cols: usize,
        groups: usize,
        size: usize,
    ) -> Result<Self, String> {
        check_dtype(what, g_idx, &[Dtype::I32])?;
        check_shape(what, g_idx, &[cols as u64])?;
        let indices = || g_idx.bytes().as_chunks().0.iter();
        if indices().all(|&b| i32::from_le_bytes(b) == -1) {
            return Ok(Self::Even(size));
        }
        let listed: Vec<u32> = indices().map(|&b| u32::from_le_bytes(b)).collect();
        match listed.iter().all(|&g| (g as usize) < groups) {
            true => Ok(Self::of_list(listed, size)),
            false => Err(format!("has {what} beyond its {groups} groups")),
        }
    }

    /// `listed`, or nothing but `size` where that says the same.
    fn of_list(listed: Vec<u32>, size: usize) -> Self {
        match (0..).zip(&listed).all(|(col, &g)| col / size == g as usize) {
            true => Self::Even(size),
            false => Self::Listed(listed),
        }
    }

    fn of(&self, col: usize) -> usize {
        match self {
            Self::Even(size) => col / size,
            Self::Listed(listed) => listed[col] as usize,
        }
    }

    /// Whether no block of `cols` columns spans groups.
    pub(super) fn is_in_blocks(&self, cols: usize) -> bool {
        cols.is_multiple_of(BLOCK)
            && match self {
                Self::Even(size) => *size >= cols || size.is_multiple_of(BLOCK),
                Self::Listed(listed) => {
                    let mut blocks = listed.as_chunks::<BLOCK>().0.iter();
                    blocks.all(|block| block.iter().all(|g| *g == block[0]))
                }
            }
    }
}

impl Description {
    /// The type that holds such a matrix.
    fn ty(&self) -> GgmlType {
        match self.group_of.is_in_blocks(self.cols) {
            true => in_blocks(self.bits, self.middle).unwrap_or(self.float),
            false => self.float,
        }
    }
}

/// The type whose blocks hold codes of so many bits; `middle` is the code of a weight of 0 in all groups,
/// where there is one. `None` where no type's blocks do.
pub(super) fn in_blocks(bits: u32, middle: Option<u8>) -> Option<GgmlType> {
    // The middle of 4 bits is 8, of 8 bits 128, whatever codes are in use.
    match (bits, middle) {
        (1..=4, Some(middle)) if middle <= 8 && (1 << bits) - middle <= 8 => Some(GgmlType::Q4_0),
        (1..=4, _) => Some(GgmlType::Q4_1),
        (5, _) => Some(GgmlType::Q5_1),
        (8, Some(128)) => Some(GgmlType::Q8_0),
        _ => None,
    }
}

impl Affine {
    pub(super) fn new(codes: Box<dyn Codes>, description: Description) -> Self {
        let ty = description.ty();
        let Description {
            rows,
            cols,
            group_of,
            groups,
            middle,
            ..
        } = description;
        Self {
            codes,
            rows,
            cols,
            group_of,
            groups,
            middle,
            ty,
        }
    }

    pub(super) fn ty(&self) -> GgmlType {
        self.ty
    }

    pub(super) fn shape(&self) -> [u64; 2] {
        [self.rows as u64, self.cols as u64]
    }

    pub(super) fn sources(&self) -> Vec<&Raw> {
        self.codes.sources()
    }

    /// Writes these rows of [`ty`](Self::ty).
    pub(super) fn write(&self, rows: Range<usize>, out: &mut [u8]) {
        let groups = self.codes.groups();
        let cols = self.cols;
        let row_bytes = self.ty.row_bytes(cols).expect("blocks divide the columns");
        let tiles = out.chunks_mut(TILE * row_bytes);
        for (first_row, tile) in (rows.start..).step_by(TILE).zip(tiles) {
            for first in (0..cols).step_by(BLOCK) {
                let cols = first..cols.min(first + BLOCK);
                let bytes = self.ty.row_bytes(first).expect("whole blocks")
                    ..self
                        .ty
                        .row_bytes(cols.end)
                        .expect("whole blocks, or no blocks at all");
                for (row, out) in (first_row..).zip(tile.chunks_exact_mut(row_bytes)) {
                    let mut codes = [0; BLOCK];
                    let codes = &mut codes[..cols.len()];
                    self.codes.codes(row, first, codes);
                    let group = |col: usize| row * self.groups + self.group_of.of(col);
                    let out = &mut out[bytes.clone()];
                    match <&[u8; BLOCK]>::try_from(&*codes) {
                        Ok(codes) if self.ty.block_len() == BLOCK => {
                            let group = group(first);
                            self.block(codes, groups.scales[group], groups.mins[group], out);
                        }
                        _ => self.floats(codes, out, |i| {
                            let group = group(first + i);
                            (groups.scales[group], groups.mins[group])
                        }),
                    }
                }
            }
        }
    }

    /// Writes a block of 32.
    fn block(&self, codes: &[u8; BLOCK], scale: f32, min: f32, out: &mut [u8]) {
        let half = |x: f32| f16::from_f32(x).to_le_bytes();
        let nibbles = |codes: &[u8; BLOCK], out: &mut [u8]| {
            for (i, to) in out.iter_mut().enumerate() {
                *to = codes[i] & 15 | codes[i + BLOCK / 2] << 4;
            }
        };
        out[..2].copy_from_slice(&half(scale));
        let out_codes = &mut out[2..];
        match self.ty {
            GgmlType::Q4_0 => {
                let shift = 8 - self.middle.unwrap_or(8);
                nibbles(&codes.map(|code| code + shift), out_codes);
            }
            GgmlType::Q8_0 => {
                for (to, code) in out_codes.iter_mut().zip(codes) {
                    *to = code.wrapping_sub(128);
                }
            }
            ty => {
                out_codes[..2].copy_from_slice(&half(min));
                let mut out_codes = &mut out_codes[2..];
                if ty == GgmlType::Q5_1 {
                    let high = codes
                        .iter()
                        .rev()
                        .fold(0, |bits, code| bits << 1 | u32::from(code >> 4));
                    out_codes[..4].copy_from_slice(&high.to_le_bytes());
                    out_codes = &mut out_codes[4..];
                }
                nibbles(codes, out_codes);
            }
        }
    }

    /// Writes floats; `scale_min` gives the scale and minimum of each.
    fn floats(&self, codes: &[u8], out: &mut [u8], scale_min: impl Fn(usize) -> (f32, f32)) {
        let weights = codes.iter().enumerate().map(|(i, &code)| {
            let (scale, min) = scale_min(i);
            scale * f32::from(code) + min
        });
        put(self.ty, weights, out);
    }
}

/// Writes `weights` as floats of type `ty`.
pub(super) fn put(ty: GgmlType, weights: impl Iterator<Item = f32>, out: &mut [u8]) {
    match ty {
        GgmlType::F32 => {
            for (to, x) in out.as_chunks_mut().0.iter_mut().zip(weights) {
                *to = x.to_le_bytes();
            }
        }
        GgmlType::Bf16 => {
            for (to, x) in out.as_chunks_mut().0.iter_mut().zip(weights) {
                *to = bf16::from_f32(x).to_le_bytes();
            }
        }
        _ => {
            for (to, x) in out.as_chunks_mut().0.iter_mut().zip(weights) {
                *to = f16::from_f32(x).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_neighbours_are_not_kept() {
        let listed: Vec<u32> = (0..96).map(|col| col / 40).collect();
        let even = GroupOf::of_list(listed.clone(), 40);
        assert!(matches!(even, GroupOf::Even(40)), "{even:?}");
        let list = GroupOf::of_list(listed, 32);
        assert!(matches!(list, GroupOf::Listed(_)), "{list:?}");
        for col in 0..96 {
            assert_eq!((even.of(col), list.of(col)), (col / 40, col / 40));
        }
    }

    #[test]
    fn blocks_that_span_groups_are_told() {
        for (size, cols, expected) in [
            (32, 96, true),
            (64, 96, true),
            (100, 96, true),
            (40, 96, false),
            (16, 96, false),
            (32, 80, false),
        ] {
            let listed = GroupOf::Listed((0..cols).map(|col| (col / size) as u32).collect());
            for groups in [GroupOf::Even(size), listed] {
                assert_eq!(groups.is_in_blocks(cols), expected, "{size} of {cols}");
            }
        }
    }
}
