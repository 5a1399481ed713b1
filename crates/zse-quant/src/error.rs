//! The one error type of this crate.

use crate::GgmlType;

/// Why a conversion was refused. No input, however malformed, makes this crate panic.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A slice does not have the length that the type and the shape ask for.
    #[error("{ty}: {what} has length {found}, but {expected} is needed")]
    Length {
        /// Type of the weights.
        ty: GgmlType,
        /// Which slice, e.g. "source bytes".
        what: &'static str,
        /// The length needed, in the slice's own elements.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// The row length is not a whole number of blocks, or sizes overflow.
    #[error("{ty}: rows of {cols} values do not divide into blocks of {}", ty.block_len())]
    Cols {
        /// Type of the weights.
        ty: GgmlType,
        /// Values a row.
        cols: usize,
    },
    /// The type has no such conversion (integers and f64 are storable, but are not weights).
    #[error("{ty}: this type cannot be {action}")]
    Unsupported {
        /// The type asked for.
        ty: GgmlType,
        /// What was asked: "decoded", "encoded", "packed", ...
        action: &'static str,
    },
    /// A packed tile has no such row or cell.
    #[error("{ty}: the packed tile has no cell {cell} in row {row}")]
    OutsideTile {
        /// Type of the weights.
        ty: GgmlType,
        /// The row asked for, of 16.
        row: usize,
        /// The cell asked for.
        cell: usize,
    },
    /// A weight that the type cannot carry.
    #[error(
        "{ty}: the weight in row {row}, column {col} is {value}, but must be finite and at most {limit:e} in magnitude"
    )]
    Weight {
        /// Type asked for.
        ty: GgmlType,
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        col: usize,
        /// The weight.
        value: f32,
        /// The largest magnitude that the type carries whatever its neighbours are.
        limit: f32,
    },
    /// An importance that weighs nothing sensibly.
    #[error("the importance of column {col} is {value}, but must be finite and not negative")]
    Importance {
        /// Column of the importance.
        col: usize,
        /// The importance.
        value: f32,
    },
}

/// Refuses a slice of another length than the one needed.
pub(crate) fn check_len(
    ty: GgmlType,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), QuantError> {
    if expected == found {
        return Ok(());
    }
    Err(QuantError::Length {
        ty,
        what,
        expected,
        found,
    })
}
