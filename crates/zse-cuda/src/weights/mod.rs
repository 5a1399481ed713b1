//! Weights on the device: in which layout each type lies there, and where.

#[cfg(test)]
pub(crate) mod e4m3;
mod layouts;
mod upload;

use zse_model::program::Tensor;
use zse_quant::GgmlType;

use crate::device::{Arena, Ptr};
pub(crate) use layouts::{Layouts, quantized_type, uses};
pub(crate) use upload::{Upload, upload};

/// How a matrix lies on the device; see `kernels/layouts.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    F32,
    F16,
    Bf16,
    /// E4M3 with one f32 scale a row, made when weights of the types above are loaded: see `kernels/fp8.cuh`. Rows are a
    /// multiple of 32 long.
    Fp8,
    Q4_0,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    /// Every other block format, unpacked to bytes.
    Any,
}

impl Layout {
    /// The layout of weights of type `ty`.
    pub(crate) fn of(ty: GgmlType) -> Self {
        match ty {
            GgmlType::F32 => Self::F32,
            GgmlType::F16 => Self::F16,
            GgmlType::Bf16 => Self::Bf16,
            GgmlType::Q4_0 => Self::Q4_0,
            // Its integers and its scale are as they are in Q8_0: 8.5 bits a weight, and the kernels of that type.
            GgmlType::Q8_0 | GgmlType::Q5_0 => Self::Q8_0,
            GgmlType::Q4K => Self::Q4K,
            GgmlType::Q5K => Self::Q5K,
            GgmlType::Q6K => Self::Q6K,
            _ => Self::Any,
        }
    }

    /// The name in the names of kernels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Q4_0 => "q4_0",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Any => "any",
        }
    }

    /// Bytes of a number, of the types that are no blocks.
    pub(crate) fn number_bytes(self) -> Option<usize> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Fp8 => Some(1),
            _ => None,
        }
    }

    /// Whether weights are operands of tensor cores as they are.
    pub(crate) fn is_16_bit(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16)
    }

    /// Whether weights are blocks of small integers, which meet rounded activations.
    pub(crate) fn is_quantized(self) -> bool {
        self.number_bytes().is_none()
    }

    /// Numbers between the starts of rows of `cols`: whole units of 16 bytes.
    pub(crate) fn pitch(self, cols: usize) -> usize {
        self.number_bytes()
            .map_or(cols, |bytes| cols.next_multiple_of(16 / bytes))
    }

    /// Bytes of the planes q, h, s and d of `rows` rows; saturating.
    fn plane_bytes(self, rows: usize, cols: usize) -> [usize; 4] {
        if let Some(bytes) = self.number_bytes() {
            let scales = if self == Self::Fp8 { 4 } else { 0 };
            return [
                rows.saturating_mul(self.pitch(cols)).saturating_mul(bytes),
                0,
                0,
                rows.saturating_mul(scales),
            ];
        }
        let groups = rows.saturating_mul(cols / 32);
        let (each, supers) = match self {
            Self::Q4_0 => ([16, 0, 0, 2], [0, 0]),
            Self::Q8_0 => ([16, 16, 0, 2], [0, 0]),
            Self::Q4K => ([16, 0, 0, 0], [16, 0]),
            Self::Q5K => ([16, 4, 0, 0], [16, 0]),
            Self::Q6K => ([16, 8, 2, 0], [0, 2]),
            _ => ([16, 16, 16, 0], [0, 0]),
        };
        let mut planes = each.map(|bytes| groups.saturating_mul(bytes));
        planes[2] = planes[2].saturating_add(groups / 8 * supers[0]);
        planes[3] = planes[3].saturating_add(groups / 8 * supers[1]);
        planes
    }

    /// Bytes of `tensor`; saturating.
    pub(crate) fn bytes(self, tensor: &Tensor) -> usize {
        let planes = self.plane_bytes(tensor.experts.saturating_mul(tensor.rows), tensor.cols);
        planes.into_iter().fold(0, usize::saturating_add)
    }

    /// Sets the planes of `tensor` aside; offsets.
    pub(crate) fn place(self, tensor: &Tensor, arena: &mut Arena) -> [usize; 4] {
        self.plane_bytes(tensor.experts.saturating_mul(tensor.rows), tensor.cols)
            .map(|bytes| if bytes == 0 { 0 } else { arena.take(bytes) })
    }
}

/// A matrix as kernels take it (`Matrix` of `kernels/layouts.cuh`): planes, and the size of one expert.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Planes {
    pub(crate) q: Ptr,
    pub(crate) h: Ptr,
    pub(crate) s: Ptr,
    pub(crate) d: Ptr,
    pub(crate) rows: i32,
    pub(crate) cols: i32,
}

/// A matrix on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) planes: Planes,
}

impl Matrix {
    /// Output features.
    pub(crate) fn rows(&self) -> usize {
        self.planes.rows as usize
    }

    /// The same after a copy of what was behind `from` to `to`.
    pub(crate) fn moved(mut self, from: Ptr, to: Ptr) -> Self {
        let Planes { q, h, s, d, .. } = &mut self.planes;
        for plane in [q, h, s, d] {
            *plane = Ptr(plane.0 - from.0 + to.0);
        }
        self
    }

    /// Input features.
    pub(crate) fn cols(&self) -> usize {
        self.planes.cols as usize
    }
}
