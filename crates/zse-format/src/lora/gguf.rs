//! Adapters in GGUF: `general.type` is `adapter`, and the matrices of a weight `NAME` are `NAME.lora_a`
//! and `NAME.lora_b`; of a stack of experts, stacks of as many. Weights have the order of rows that the
//! model's file has.

use std::path::Path;

use super::{Lora, LoraMatrix, MAX_RANK, Pairs, Side, matrices_of, matrix, unusable};
use crate::{Checkpoint, FormatError};

pub(super) fn read(path: &Path, base: &Checkpoint) -> Result<Lora, FormatError> {
    let adapter = Checkpoint::open(path)?;
    let (metadata, file) = (adapter.metadata(), path.display().to_string());
    let expect = |key: &str, expected: &str, what: &str| match metadata.str(key)? {
        Some(found) if found == expected => Ok(()),
        found => Err(FormatError::Unusable {
            file: file.clone(),
            field: key.to_owned(),
            problem: format!(
                "is {}, but must be {expected:?}: {what}",
                found.map_or_else(|| "absent".to_owned(), |found| format!("{found:?}"))
            ),
        }),
    };
    expect("general.type", "adapter", "this file is no adapter")?;
    expect("adapter.type", "lora", "other adapters are not implemented")?;
    let architecture = base.metadata().require_str("general.architecture")?;
    let why = "the adapter is for another model";
    expect("general.architecture", architecture, why)?;
    let invocation = "adapter.alora.invocation_tokens";
    if metadata.get(invocation).is_some() {
        return Err(FormatError::Unusable {
            file,
            field: invocation.to_owned(),
            problem: "is there: adapters that begin in the middle of a text are not implemented"
                .to_owned(),
        });
    }
    let alpha = metadata.f32("adapter.lora.alpha")?.unwrap_or(0.0);

    let mut pairs = Pairs::default();
    for tensor in adapter.tensors() {
        let failed = |problem: String| unusable(&file, tensor.name, problem);
        let a = tensor.name.strip_suffix(".lora_a").map(|n| (n, Side::A));
        let b = tensor.name.strip_suffix(".lora_b").map(|n| (n, Side::B));
        let Some((name, side)) = a.or(b) else {
            let problem = "is no matrix of a product, which is not implemented";
            return Err(failed(problem.to_owned()));
        };
        // Fastest first in GGUF.
        let mut shape: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        let experts = match shape.len() {
            3 => shape.remove(0) as usize,
            _ => 1,
        };
        let [rows, cols] = matrix(&shape).map_err(failed)?;
        // All of it before anything is made of the numbers: a file may claim any shape.
        check(base, name, side, [rows, cols], experts as u64).map_err(failed)?;
        let bytes = tensor.data.bytes();
        let size = bytes.len() / experts;
        for (expert, bytes) in bytes.chunks_exact(size).enumerate() {
            let matrix = LoraMatrix::decode(tensor.ty, rows, cols, bytes.to_vec());
            pairs
                .add((name.to_owned(), expert), side, matrix.map_err(failed)?)
                .map_err(failed)?;
        }
    }
    // 0 says that there is no factor.
    pairs.finish(&file, |_, rank| match alpha == 0.0 {
        true => 1.0,
        false => alpha / rank as f32,
    })
}

/// Whether matrices of this shape, one for each of `experts`, fit the weight `name` of `base` on this side;
/// or what is wrong with them.
fn check(
    base: &Checkpoint,
    name: &str,
    side: Side,
    [rows, cols]: [usize; 2],
    experts: u64,
) -> Result<(), String> {
    let ([inputs, outputs], of_base) = matrices_of(base, name)?;
    if experts != of_base {
        return Err(format!(
            "is of {experts} experts, but the model has {of_base}"
        ));
    }
    let (rank, len, expected) = match side {
        Side::A => (rows, cols, inputs),
        Side::B => (cols, rows, outputs),
    };
    if len as u64 != expected {
        return Err(format!(
            "has matrices [{rows}, {cols}], but the model's weight is [{outputs}, {inputs}]: the adapter \
             is for another model"
        ));
    }
    match rank as u64 <= MAX_RANK {
        true => Ok(()),
        false => Err(format!("has rank {rank}, must be at most {MAX_RANK}")),
    }
}
