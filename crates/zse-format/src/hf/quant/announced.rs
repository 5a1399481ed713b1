//! What a configuration says of codes before any tensor is here, and the type that will hold them.

use serde_json::json;
use zse_quant::GgmlType;

use super::affine::{GroupOf, in_blocks};
use crate::FormatError;
use crate::hf::Config;

/// Affine codes as a configuration announces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(super) bits: u32,
    /// Inputs of a group; `None` where all are one.
    pub(super) group_size: Option<usize>,
    /// Codes lie around the middle in all groups.
    pub(super) symmetric: bool,
    /// Neighbours may be of different groups.
    pub(super) act_order: bool,
}

impl Announced {
    /// The type that will hold matrices of `cols` columns; `None` where that is floats.
    pub(super) fn ty(&self, cols: usize) -> Option<GgmlType> {
        let groups = GroupOf::Even(self.group_size.unwrap_or(cols));
        let is_mixed = self.act_order && self.group_size.is_some_and(|size| size < cols);
        let middle = self.symmetric.then(|| 1 << (self.bits.clamp(1, 8) - 1));
        match groups.is_in_blocks(cols) && !is_mixed {
            true => in_blocks(self.bits, middle),
            false => None,
        }
    }

    /// Of compressed-tensors' `weights` of a group of modules, which have `bits` unless it says so.
    pub(super) fn of_group(weights: &Config, bits: u32) -> Result<Self, FormatError> {
        let group_size = match weights.get("group_size") {
            Some(size) if *size == json!(-1) => None,
            _ => weights.u32("group_size")?,
        };
        Ok(Self {
            bits: weights.u32("num_bits")?.unwrap_or(bits),
            group_size: group_size
                .filter(|size| *size > 0)
                .map(|size| size as usize),
            symmetric: weights.bool("symmetric", true)?,
            // Others (`weight`, `static`) leave the groups' columns beside each other.
            act_order: [json!("group"), json!(true)]
                .iter()
                .any(|order| weights.get("actorder") == Some(order)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_held_in_blocks_or_as_floats() {
        use GgmlType::{Q4_0, Q4_1, Q5_1, Q8_0};
        let plain = Announced {
            bits: 4,
            group_size: Some(128),
            symmetric: true,
            act_order: false,
        };
        let asymmetric = |bits| Announced {
            bits,
            symmetric: false,
            ..plain
        };
        let ordered = Announced {
            act_order: true,
            ..plain
        };
        let in_groups = |size| Announced {
            group_size: size,
            ..plain
        };
        for (announced, cols, expected) in [
            (plain, 4096, Some(Q4_0)),
            (asymmetric(4), 4096, Some(Q4_1)),
            (asymmetric(2), 4096, Some(Q4_1)),
            (asymmetric(5), 4096, Some(Q5_1)),
            (asymmetric(6), 4096, None),
            (asymmetric(8), 4096, None),
            (Announced { bits: 8, ..plain }, 4096, Some(Q8_0)),
            (ordered, 4096, None),
            (ordered, 128, Some(Q4_0)),
            (in_groups(None), 4096, Some(Q4_0)),
            (in_groups(Some(40)), 4096, None),
            (plain, 80, None),
        ] {
            assert_eq!(announced.ty(cols), expected, "{announced:?} of {cols}");
        }
    }
}
