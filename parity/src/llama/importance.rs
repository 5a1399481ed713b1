//! Importance matrices: how much each column of each weight matters on a text.
//!
//! As `llama-imatrix` does, the squares of the activations that meet a column are averaged over
//! the text. llama.cpp shows every operation of its forward pass to an observer; the activations
//! are the second operand of a matrix product.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::slice;

use anyhow::{Context as _, Result, ensure};
use llama_cpp_sys_2 as sys;
use zse_format::GgufWriter;
use zse_quant::GgmlType;

use super::context::Context;
use super::model::Model;

/// Sums over the rows of activations that a weight met.
#[derive(Default)]
struct Sums {
    /// `[cols]`.
    squares: Vec<f64>,
    rows: u64,
}

/// Mean squares of activations, `[cols]` for each weight.
pub(crate) struct Importance {
    columns: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    /// Gathers them while `model` reads `chunks`. Mixtures of experts are not covered: their
    /// weights are not in the result.
    ///
    /// # Errors
    /// If llama.cpp fails.
    pub(crate) fn gather(model: &Model, chunks: &[&[u32]], threads: usize) -> Result<Self> {
        let mut sums = BTreeMap::<String, Sums>::new();
        let longest = chunks
            .iter()
            .map(|c| c.len())
            .max()
            .context("no text to gather from")?;
        {
            // SAFETY: `observe` is made for this map, and the context calls it from the thread
            // that runs the forward pass.
            let context = unsafe { Context::observed(model, longest, threads, observe, &mut sums) };
            let mut context = context?;
            for chunk in chunks {
                context.forward(chunk)?;
            }
        }
        let mean = |s: Sums| {
            s.squares
                .iter()
                .map(|q| (q / s.rows as f64) as f32)
                .collect()
        };
        let columns: BTreeMap<_, _> = sums.into_iter().map(|(name, s)| (name, mean(s))).collect();
        ensure!(!columns.is_empty(), "the observer saw no matrix product");
        Ok(Self { columns })
    }

    /// By weight: its name as C has it, and `[cols]`.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(CString, &[f32])>> {
        self.columns
            .iter()
            .map(|(name, columns)| Ok((CString::new(name.as_str())?, &columns[..])))
    }

    /// Writes them as GGUF, as `llama-imatrix` does.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut writer = GgufWriter::new();
        writer.set("general.type", "imatrix")?;
        for (name, columns) in &self.columns {
            writer.declare(
                &format!("{name}.in_sum2"),
                GgmlType::F32,
                &[columns.len() as u64, 1],
            )?;
            writer.declare(&format!("{name}.counts"), GgmlType::F32, &[1])?;
        }
        let mut body = writer.create(path)?;
        for (name, columns) in &self.columns {
            let bytes: Vec<u8> = columns.iter().flat_map(|v| v.to_le_bytes()).collect();
            body.write(&format!("{name}.in_sum2"), &bytes)?;
            body.write(&format!("{name}.counts"), &1f32.to_le_bytes())?;
        }
        Ok(body.finish()?)
    }
}

/// Adds the activations of a matrix product to the sums that `target` points to.
///
/// With `ask` it says whether it wants to see the operation; it is then called again when that is
/// done, and answers whether to go on.
///
/// # Safety
/// `tensor` must be a node of a graph that runs on the CPU, `target` a `BTreeMap<String, Sums>`
/// that nothing else uses.
unsafe extern "C" fn observe(
    tensor: *mut sys::ggml_tensor,
    ask: bool,
    target: *mut c_void,
) -> bool {
    // SAFETY: a node; the sources of a matrix product are its two operands.
    let (node, [weight, input]) = unsafe { (&*tensor, [(*tensor).src[0], (*tensor).src[1]]) };
    if node.op != sys::GGML_OP_MUL_MAT {
        return !ask;
    }
    // SAFETY: operands of a node of the graph; a tensor's name ends in NUL.
    let (weight, input, name) =
        unsafe { (&*weight, &*input, CStr::from_ptr((*weight).name.as_ptr())) };
    // Products of attention have no weight.
    let Some(name) = name.to_str().ok().filter(|name| name.ends_with(".weight")) else {
        return !ask;
    };
    let [cols, rows, ..] = input.ne.map(|n| usize::try_from(n).unwrap_or(0));
    let is_plain = input.type_ == sys::GGML_TYPE_F32
        && input.nb[0] == size_of::<f32>()
        && input.nb[1] == cols * size_of::<f32>()
        && input.ne[2] * input.ne[3] == 1
        && weight.ne[0] == input.ne[0];
    if ask || !is_plain || input.data.is_null() {
        return is_plain;
    }
    // SAFETY: contiguous f32 of that shape, in memory, by the checks above, kept until the
    // observer returns; the second borrows what only the observer uses.
    let (values, sums) = unsafe {
        let values = slice::from_raw_parts(input.data.cast::<f32>(), cols * rows);
        (values, &mut *target.cast::<BTreeMap<String, Sums>>())
    };
    let sums = sums.entry(name.to_owned()).or_default();
    sums.squares.resize(cols, 0.0);
    sums.rows += rows as u64;
    for row in values.chunks_exact(cols.max(1)) {
        for (sum, &value) in sums.squares.iter_mut().zip(row) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    true
}
