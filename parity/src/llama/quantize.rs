//! llama.cpp's own quantizer of files.

use std::path::Path;
use std::ptr;

use anyhow::{Result, ensure};
use llama_cpp_sys_2 as sys;
use zse_quant::GgmlType;

use super::importance::Importance;
use super::{c_path, failure, init};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    /// llama.cpp's number of it (`llama_ftype`), as in `general.file_type`.
    Number(u32),
    /// All matrices of a type for which there is no number.
    Only(GgmlType),
}

/// `LLAMA_FTYPE_MOSTLY_Q8_0`.
const Q8_0: u32 = 7;

/// Writes the model in `from` to `to`; `pure` gives all matrices one type.
///
/// # Errors
/// If llama.cpp refuses, for example because the type needs an importance matrix.
pub(crate) fn quantize(
    from: &Path,
    to: &Path,
    ty: FileType,
    pure: bool,
    importance: Option<&Importance>,
    threads: usize,
) -> Result<()> {
    init();
    let named = importance
        .map(|i| i.iter().collect::<Result<Vec<_>>>())
        .transpose()?;
    let list: Option<Vec<_>> = named.as_ref().map(|named| {
        let entry = |name, data: &[f32]| sys::llama_model_imatrix_data {
            name,
            data: data.as_ptr(),
            size: data.len(),
        };
        let entries = named
            .iter()
            .map(|(name, columns)| entry(name.as_ptr(), columns));
        // An entry without a name ends the list.
        entries.chain([entry(ptr::null(), &[])]).collect()
    });
    // SAFETY: takes no arguments.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.nthread = i32::try_from(threads)?;
    let only = |ty: GgmlType| {
        // An entry without a pattern ends the list.
        [c".*".as_ptr(), ptr::null()].map(|pattern| sys::llama_model_tensor_override {
            pattern,
            type_: ty.id(),
        })
    };
    let (number, overrides) = match ty {
        FileType::Number(number) => (number, None),
        FileType::Only(ty) => (Q8_0, Some(only(ty))),
    };
    params.ftype = number;
    params.tt_overrides = overrides.as_ref().map_or(ptr::null(), |list| list.as_ptr());
    params.pure_ = pure;
    params.imatrix = list.as_ref().map_or(ptr::null(), |list| list.as_ptr());
    let (from_name, to_name) = (c_path(from)?, c_path(to)?);
    // SAFETY: names end in NUL; the lists end in an entry without a name, and they, what they point
    // to and the names outlive the call.
    let status = unsafe {
        sys::llama_model_quantize(from_name.as_ptr(), to_name.as_ptr(), &raw const params)
    };
    ensure!(
        status == 0,
        failure(&format!("cannot quantize {} as {ty:?}", from.display()))
    );
    Ok(())
}
