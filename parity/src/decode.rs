//! Decoding of blocks: the same bits as ggml's.

use anyhow::Result;
use zse_model::conformance::Rng;
use zse_quant::GgmlType;

use crate::llama;
use crate::section::{Section, Table};

/// Weights decoded at a time.
const ROW: usize = 1 << 16;

/// Compares `weights` weights of each type, in blocks of random bytes.
///
/// # Errors
/// If ggml's blocks have another size than ours.
pub(crate) fn section(weights: usize, seed: u64) -> Result<Section> {
    let mut section = Section::new(
        "Decoding",
        "Blocks of random bytes, so that every quant and every scale occurs (infinite and NaN \
         scales too), decoded by ggml and by ZSE. A mismatch is a weight with other \
         bits; two NaNs are equal.",
    );
    let mut table = Table::new(&["type", "weights", "mismatches"]);
    let mut rng = Rng::new(seed);
    let mut all = 0;
    for &ty in GgmlType::WEIGHTS {
        let Some(mismatches) = mismatches(ty, weights.div_ceil(ROW), &mut rng)? else {
            section.promise(ty == GgmlType::F32, || {
                format!("{ty}: not compared, as ggml has no decoder for it")
            });
            continue;
        };
        let count = weights.div_ceil(ROW) * ROW;
        all += count;
        table.row([format!("`{ty}`"), count.to_string(), mismatches.to_string()]);
        section.promise(mismatches == 0, || {
            format!("{ty}: {mismatches} of {count} weights differ from ggml's")
        });
    }
    section.add(&table);
    section.add(format!(
        "{all} weights in all. Not compared, because there is nothing to decode: `{}`.",
        GgmlType::F32
    ));
    Ok(section)
}

/// How many weights differ in `rows` rows of random blocks; `None` if ggml cannot decode the type.
fn mismatches(ty: GgmlType, rows: usize, rng: &mut Rng) -> Result<Option<usize>> {
    let bytes = ROW / ty.block_len() * ty.block_bytes();
    let (mut ours, mut theirs) = (vec![0.0f32; ROW], vec![0.0f32; ROW]);
    let mut found = 0;
    for _ in 0..rows {
        let words = std::iter::repeat_with(|| rng.bits().to_le_bytes());
        let blocks: Vec<u8> = words.flatten().take(bytes).collect();
        if !llama::decode(ty, &blocks, &mut theirs)? {
            return Ok(None);
        }
        zse_quant::decode(ty, &blocks, &mut ours)?;
        let differ =
            |(a, b): &(&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
        found += ours.iter().zip(&theirs).filter(differ).count();
    }
    Ok(Some(found))
}
