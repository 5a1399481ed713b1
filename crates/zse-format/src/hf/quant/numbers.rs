//! Tensors of a file as numbers, and small integers packed into bytes.

use half::{bf16, f16};
use zse_quant::GgmlType;

use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The numbers of a tensor of floats, whose type [`check_floats`] has checked.
pub(super) fn floats(raw: &Raw) -> Vec<f32> {
    let bytes = raw.bytes();
    match raw.dtype {
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
        Dtype::Bf16 => {
            let halves = bytes.as_chunks().0.iter();
            halves.map(|&b| bf16::from_le_bytes(b).to_f32()).collect()
        }
        _ => {
            let halves = bytes.as_chunks().0.iter();
            halves.map(|&b| f16::from_le_bytes(b).to_f32()).collect()
        }
    }
}

/// The ggml type of a tensor of floats with `shape`; what is wrong if it is none.
pub(super) fn check_floats(what: &str, raw: &Raw, shape: &[u64]) -> Result<GgmlType, String> {
    check_shape(what, raw, shape)?;
    let problem = || {
        format!(
            "has {what} of dtype {}, but they must be floats",
            raw.dtype.name()
        )
    };
    raw.float().ok_or_else(problem)
}

pub(super) fn check_shape(what: &str, raw: &Raw, shape: &[u64]) -> Result<(), String> {
    if *raw.shape != *shape {
        return Err(format!(
            "has {what} of shape {:?}, but they must have {shape:?}",
            raw.shape
        ));
    }
    Ok(())
}

pub(super) fn check_dtype(what: &str, raw: &Raw, dtypes: &[Dtype]) -> Result<(), String> {
    if !dtypes.contains(&raw.dtype) {
        return Err(format!("has {what} of dtype {}", raw.dtype.name()));
    }
    Ok(())
}

/// Both sizes of a matrix, of which neither is 0.
pub(super) fn matrix(what: &str, raw: &Raw) -> Result<[usize; 2], String> {
    match *raw.shape {
        [rows, cols] if rows > 0 && cols > 0 => Ok([rows as usize, cols as usize]),
        _ => Err(format!(
            "has {what} of shape {:?}, but they must be a matrix",
            raw.shape
        )),
    }
}

/// Integers of `bits` (1 to 8) that stand behind one another in `stream`, least significant bits
/// first, from bit 0 on. `stream` holds all that `codes` asks for.
pub(super) fn unpack(stream: &[u8], bits: u32, codes: &mut [u8]) {
    let (mut buffer, mut filled) = (0u32, 0);
    let mut bytes = stream.iter();
    let mask = (1 << bits) - 1;
    for code in codes {
        if filled < bits {
            let next = bytes.next().copied().unwrap_or_default();
            buffer |= u32::from(next) << filled;
            filled += 8;
        }
        *code = (buffer & mask) as u8;
        buffer >>= bits;
        filled -= bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_width_are_unpacked() {
        for bits in 1..=8 {
            let codes: Vec<u8> = (0..64u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let mut stream = vec![0u8; 8 * bits as usize];
            for (i, code) in codes.iter().enumerate() {
                for bit in 0..bits as usize {
                    let at = i * bits as usize + bit;
                    stream[at / 8] |= (code >> bit & 1) << (at % 8);
                }
            }
            let mut found = vec![0; 64];
            unpack(&stream, bits, &mut found);
            assert_eq!(found, codes, "{bits} bits");
        }
    }
}
