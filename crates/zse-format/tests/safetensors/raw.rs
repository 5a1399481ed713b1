//! Safetensors files made by hand.

/// A file of a header and `data` bytes of 0, 1, 2, ...
pub(crate) fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

/// A header with all that the format allows, and its bytes of data.
pub(crate) const SAMPLE: (&str, usize) = (
    r#"{"__metadata__":{"format":"pt"},
"b.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
"a.\u00e9":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
"none":{"data_offsets":[16,16],"shape":[0,7],"dtype":"I64"},
"four bits":{"dtype":"F4","shape":[1,1,1,1,4],"data_offsets":[16,18]}}  "#,
    18,
);

/// The sample as a file.
pub(crate) fn sample() -> Vec<u8> {
    file(SAMPLE.0, SAMPLE.1)
}
