//! The packed layout that SIMD kernels read: a lossless, invertible permutation of the bytes.
//!
//! **Layout.** 16 rows are a *tile*; the last tile is filled up with rows of zero bytes. A tile
//! holds, column after column, the *cells* of its 16 rows: a cell is one block of a row, except
//! for floats, where it is 4 bytes (one F32, or two F16 or BF16 consecutive in k, an odd last one
//! paired with zero). In a cell column, the fields of the cell stand in order ([`fields_of`]);
//! each field is cut into units of 1, 2 or 4 bytes, and unit u of rows 0 to 15 stand together.
//!
//! So with `c = cell_bytes(ty)`, byte `j` of unit `u` of a field of row `r` in cell column `b` of
//! tile `t` stands at
//!
//! ```text
//! t * tile_bytes(ty, cols) + b * 16 * c + 16 * field.offset + (16 * u + r) * field.unit + j
//! ```
//!
//! **Why.** Quants have units of 4 bytes: one load of 64 bytes brings 4 bytes of k of 16 rows,
//! one row to a 32-bit lane, as `vpdpbusd` wants; AVX2 takes halves and NEON quarters of it. The
//! f16 scales of 16 rows are 32 bytes that one `vcvtph2ps` widens into the lanes of the
//! accumulators. The 12 bytes of 6-bit scales of Q4_K are three such loads, decoded for 16 rows
//! at once. Nothing is computed in packing, so [`unpack_rows`] gives the file's bytes back.

use crate::block::Field;
use crate::error::check_len;
use crate::{GgmlType, QuantError};

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;

/// The fields of a cell of this type, in order; empty for types that are not weights.
pub fn fields_of(ty: GgmlType) -> &'static [Field] {
    ty.format().fields
}

/// Values of k in a cell: the block length, or 1 for F32 and 2 for F16 and BF16.
pub fn cell_len(ty: GgmlType) -> usize {
    ty.format().pack_blocks * ty.block_len()
}

/// Bytes of one row's cell: the block's bytes, or 4 for floats.
pub fn cell_bytes(ty: GgmlType) -> usize {
    ty.format().pack_blocks * ty.block_bytes()
}

/// Bytes of a tile: 16 rows of `cols` values.
///
/// # Errors
/// The type is not a weight, `cols` is not a whole number of blocks, or on overflow.
pub fn tile_bytes(ty: GgmlType, cols: usize) -> Result<usize, QuantError> {
    if !ty.is_weight() {
        return Err(QuantError::Unsupported {
            ty,
            action: "packed",
        });
    }
    ty.row_bytes(cols)
        .and_then(|bytes| bytes.checked_next_multiple_of(cell_bytes(ty)))
        .and_then(|bytes| bytes.checked_mul(TILE_ROWS))
        .ok_or(QuantError::Cols { ty, cols })
}

/// Bytes of `rows` rows of `cols` values, packed.
///
/// # Errors
/// As [`tile_bytes`].
pub fn packed_bytes(ty: GgmlType, rows: usize, cols: usize) -> Result<usize, QuantError> {
    let tiles = rows.div_ceil(TILE_ROWS);
    tile_bytes(ty, cols)?
        .checked_mul(tiles)
        .ok_or(QuantError::Cols { ty, cols })
}

/// Packs `rows` rows of `cols` values: `src` is `rows * ty.row_bytes(cols)` bytes, `dst` is
/// `packed_bytes(ty, rows, cols)`. Any multiple of 16 rows may be packed on its own.
///
/// # Errors
/// As [`tile_bytes`], or a slice has the wrong length.
pub fn pack_rows(
    ty: GgmlType,
    rows: usize,
    cols: usize,
    src: &[u8],
    dst: &mut [u8],
) -> Result<(), QuantError> {
    let (row_bytes, tile_bytes) = check(ty, rows, cols, src.len(), dst.len())?;
    if row_bytes == 0 {
        return Ok(());
    }
    let tiles = dst
        .chunks_exact_mut(tile_bytes)
        .zip(src.chunks(TILE_ROWS * row_bytes));
    for (tile, src) in tiles {
        if src.len() < tile.len() {
            tile.fill(0);
        }
        for (row, src) in src.chunks_exact(row_bytes).enumerate() {
            scatter_row(ty, src, row, tile);
        }
    }
    Ok(())
}

/// The inverse of [`pack_rows`]: `src` is packed, `dst` the rows as in the file.
///
/// # Errors
/// As [`pack_rows`].
pub fn unpack_rows(
    ty: GgmlType,
    rows: usize,
    cols: usize,
    src: &[u8],
    dst: &mut [u8],
) -> Result<(), QuantError> {
    let (row_bytes, tile_bytes) = check(ty, rows, cols, dst.len(), src.len())?;
    if row_bytes == 0 {
        return Ok(());
    }
    let tiles = src
        .chunks_exact(tile_bytes)
        .zip(dst.chunks_mut(TILE_ROWS * row_bytes));
    for (tile, dst) in tiles {
        for (row, dst) in dst.chunks_exact_mut(row_bytes).enumerate() {
            gather_row(ty, tile, row, dst)?;
        }
    }
    Ok(())
}

/// Reassembles row `row` (0 to 15) of a tile into `dst`, as in the file: `ty.row_bytes(cols)`
/// bytes.
///
/// # Errors
/// The type is not a weight, the tile has no such row, or `dst` is not a row of that tile.
pub fn gather_row(ty: GgmlType, tile: &[u8], row: usize, dst: &mut [u8]) -> Result<(), QuantError> {
    if row >= TILE_ROWS {
        return Err(QuantError::OutsideTile { ty, row, cell: 0 });
    }
    let values = dst.len() / ty.block_bytes() * ty.block_len();
    check_len(
        ty,
        "row bytes",
        dst.len() / ty.block_bytes() * ty.block_bytes(),
        dst.len(),
    )?;
    let tile_bytes = tile_bytes(ty, values)?;
    check_len(ty, "tile bytes", tile_bytes, tile.len())?;
    let (run, fields) = runs(ty);
    for (column, dst) in tile.chunks(TILE_ROWS * run).zip(dst.chunks_mut(run)) {
        gather_fields(fields, column, row, dst);
    }
    Ok(())
}

/// Reassembles cell `cell` of row `row` (0 to 15) of a tile into `dst`, `cell_bytes(ty)` bytes:
/// the block as in the file.
///
/// # Errors
/// The type is not a weight, the tile has no such row or cell, or `dst` has another length.
pub fn gather_cell(
    ty: GgmlType,
    tile: &[u8],
    row: usize,
    cell: usize,
    dst: &mut [u8],
) -> Result<(), QuantError> {
    if !ty.is_weight() {
        return Err(QuantError::Unsupported {
            ty,
            action: "packed",
        });
    }
    let bytes = cell_bytes(ty);
    check_len(ty, "cell bytes", bytes, dst.len())?;
    if row >= TILE_ROWS || cell >= tile.len() / (TILE_ROWS * bytes) {
        return Err(QuantError::OutsideTile { ty, row, cell });
    }
    let column = &tile[cell * TILE_ROWS * bytes..][..TILE_ROWS * bytes];
    gather_fields(fields_of(ty), column, row, dst);
    Ok(())
}

/// Lengths of a row in the file and of a packed tile, once all arguments fit each other.
fn check(
    ty: GgmlType,
    rows: usize,
    cols: usize,
    plain: usize,
    packed: usize,
) -> Result<(usize, usize), QuantError> {
    let overflow = QuantError::Cols { ty, cols };
    let tile_bytes = tile_bytes(ty, cols)?;
    let row_bytes = ty.row_bytes(cols).ok_or(overflow.clone())?;
    check_len(
        ty,
        "bytes of rows",
        row_bytes.checked_mul(rows).ok_or(overflow)?,
        plain,
    )?;
    check_len(ty, "packed bytes", packed_bytes(ty, rows, cols)?, packed)?;
    Ok((row_bytes, tile_bytes))
}

/// Bytes of a row that are permuted in one go, and their fields: a cell, or, as the cells of
/// floats are but one unit, 64 of those.
fn runs(ty: GgmlType) -> (usize, &'static [Field]) {
    match ty.is_quantized() {
        true => (cell_bytes(ty), fields_of(ty)),
        false => (
            256,
            &[Field {
                offset: 0,
                len: 256,
                unit: 4,
            }],
        ),
    }
}

/// Writes one row into its places in a tile.
fn scatter_row(ty: GgmlType, src: &[u8], row: usize, tile: &mut [u8]) {
    let (run, fields) = runs(ty);
    for (column, src) in tile.chunks_mut(TILE_ROWS * run).zip(src.chunks(run)) {
        for field in fields {
            let src = &src[field.offset..src.len().min(field.offset + field.len)];
            let column = &mut column[TILE_ROWS * field.offset..];
            match field.unit {
                1 => scatter::<1>(src, row, column),
                2 => scatter::<2>(src, row, column),
                _ => scatter::<4>(src, row, column),
            }
        }
    }
}

/// Reads the fields of one row's run back.
fn gather_fields(fields: &[Field], column: &[u8], row: usize, dst: &mut [u8]) {
    for field in fields {
        let end = dst.len().min(field.offset + field.len);
        let dst = &mut dst[field.offset..end];
        let column = &column[TILE_ROWS * field.offset..];
        match field.unit {
            1 => gather::<1>(column, row, dst),
            2 => gather::<2>(column, row, dst),
            _ => gather::<4>(column, row, dst),
        }
    }
}

/// Units of one row's field to every 16th unit of the column. Part of a unit (an odd last 16-bit
/// float) fills the start of its place.
#[inline]
fn scatter<const UNIT: usize>(field: &[u8], row: usize, column: &mut [u8]) {
    let (units, rest) = field.as_chunks::<UNIT>();
    let mut groups = column.as_chunks_mut::<UNIT>().0.chunks_exact_mut(TILE_ROWS);
    for (unit, group) in units.iter().zip(&mut groups) {
        group[row] = *unit;
    }
    if let (false, Some(group)) = (rest.is_empty(), groups.next()) {
        group[row][..rest.len()].copy_from_slice(rest);
    }
}

/// The inverse of [`scatter`].
#[inline]
fn gather<const UNIT: usize>(column: &[u8], row: usize, field: &mut [u8]) {
    let (units, rest) = field.as_chunks_mut::<UNIT>();
    let mut groups = column.as_chunks::<UNIT>().0.chunks_exact(TILE_ROWS);
    for (unit, group) in units.iter_mut().zip(&mut groups) {
        *unit = group[row];
    }
    if let (false, Some(group)) = (rest.is_empty(), groups.next()) {
        rest.copy_from_slice(&group[row][..rest.len()]);
    }
}
