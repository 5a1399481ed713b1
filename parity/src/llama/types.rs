//! ggml's own decoders and encoders of blocks.

use std::ffi::c_void;
use std::ptr;

use anyhow::{Result, bail, ensure};
use llama_cpp_sys_2 as sys;
use zse_quant::GgmlType;

use super::init;

unsafe extern "C" {
    /// ggml decodes Q8_K only here: its table has no `to_float` for the type.
    fn dequantize_row_q8_K(src: *const c_void, dst: *mut f32, len: i64);
}

/// Decodes whole blocks with ggml; `false` where it has no decoder for the type.
///
/// # Errors
/// If the lengths do not belong together.
pub(crate) fn decode(ty: GgmlType, src: &[u8], dst: &mut [f32]) -> Result<bool> {
    init();
    ensure!(
        ty.row_bytes(dst.len()) == Some(src.len()),
        "{ty}: {} bytes are not {} weights",
        src.len(),
        dst.len()
    );
    // SAFETY: every `GgmlType` is below GGML_TYPE_COUNT, for which a static table has entries.
    let traits = unsafe { &*sys::ggml_get_type_traits(ty.id()) };
    let to_float = match traits.to_float {
        Some(to_float) => to_float,
        None if ty == GgmlType::Q8K => dequantize_row_q8_K,
        None => return Ok(false),
    };
    ensure!(
        traits.type_size == ty.block_bytes() && traits.blck_size == ty.block_len() as i64,
        "{ty}: ggml's blocks have another size"
    );
    // SAFETY: reads `row_bytes(dst.len())` bytes and writes `dst.len()` floats, checked above.
    unsafe {
        to_float(
            src.as_ptr().cast::<c_void>(),
            dst.as_mut_ptr(),
            dst.len() as i64,
        )
    };
    Ok(true)
}

/// Encodes rows of `cols` weights with `ggml_quantize_chunk`.
///
/// # Errors
/// If the lengths do not belong together or ggml wrote another number of bytes.
pub(crate) fn encode(
    ty: GgmlType,
    src: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<()> {
    init();
    let rows = src.len().checked_div(cols).unwrap_or(0);
    let bytes = ty.row_bytes(cols).map(|row| row * rows);
    ensure!(
        rows * cols == src.len() && bytes == Some(dst.len()),
        "{ty}: {rows} rows of {cols} do not fit"
    );
    ensure!(
        importance.is_none_or(|i| i.len() == cols),
        "{ty}: one importance a column"
    );
    // SAFETY: reads `rows * cols` floats of `src` and, where not null, `cols` of the importance;
    // writes `rows` rows of blocks, which `dst` holds. All checked above.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            ty.id(),
            src.as_ptr(),
            dst.as_mut_ptr().cast::<c_void>(),
            0,
            rows as i64,
            cols as i64,
            importance.map_or(ptr::null(), <[f32]>::as_ptr),
        )
    };
    if written != dst.len() {
        bail!("{ty}: ggml wrote {written} bytes of {}", dst.len());
    }
    Ok(())
}
