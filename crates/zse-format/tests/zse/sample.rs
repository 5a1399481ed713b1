//! A small `.zse` file, and ways to change it.

use zse_format::{Checksum, Checksummer, EncodedValue, Layout, Origin, Provenance, ZseWriter};
use zse_quant::GgmlType;
use zse_quant::pack::pack_rows;

/// Where the fields of the prelude stand.
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const METADATA_BYTES: usize = 24;
pub(crate) const DATA_AT: usize = 32;
pub(crate) const FILE_BYTES: usize = 40;
pub(crate) const PRELUDE: usize = 64;

/// Rows of the packed tensor: one more than a tile.
const ROWS: usize = 17;

/// The packed tensor's rows: 2 matrices of 17 rows of 32 values.
pub(crate) fn packed_rows() -> Vec<u8> {
    (0..2 * ROWS * 34).map(|i| (i % 251) as u8).collect()
}

/// The same in tiles.
pub(crate) fn tiles() -> Vec<u8> {
    let mut tiles = vec![0; 2 * 2 * 16 * 34];
    let matrices = tiles.chunks_exact_mut(2 * 16 * 34);
    for (to, from) in matrices.zip(packed_rows().chunks_exact(ROWS * 34)) {
        pack_rows(GgmlType::Q8_0, ROWS, 32, from, to).expect("sizes that fit");
    }
    tiles
}

/// A file with metadata of several kinds and four tensors in three groups.
pub(crate) fn sample() -> Vec<u8> {
    let mut writer = ZseWriter::new(Provenance {
        converter: "zse 0.1.0".to_owned(),
        target: "cpu".to_owned(),
        source: Origin {
            name: "sample.gguf".to_owned(),
            bytes: 1234,
            xxh3: Checksum(0x0123_4567_89AB_CDEF),
        },
    });
    writer.set("general.architecture", "llama").expect("a key");
    writer.set("llama.block_count", 1u32).expect("a key");
    let tokens = EncodedValue::strings([&b"a"[..], b"", b"\xFF"]);
    writer.set("tokenizer.ggml.tokens", tokens).expect("a key");
    let scores: &[f32] = &[0.0, f32::NEG_INFINITY, -1.5];
    writer.set("tokenizer.ggml.scores", scores).expect("a key");
    let mut declare = |group: &str, name: &str, ty, layout, shape: &[u64]| {
        let declared = writer.declare(group, name, ty, layout, shape);
        declared.expect("a good tensor");
    };
    declare(
        "input",
        "token_embd.weight",
        GgmlType::F16,
        Layout::Rows,
        &[4, 3],
    );
    declare(
        "blk.0",
        "blk.0.attn_norm.weight",
        GgmlType::F32,
        Layout::Rows,
        &[4],
    );
    declare(
        "blk.0",
        "blk.0.ffn_up_exps.weight",
        GgmlType::Q8_0,
        Layout::Tiles16,
        &[32, 17, 2],
    );
    declare(
        "output",
        "output_norm.weight",
        GgmlType::F32,
        Layout::Rows,
        &[4],
    );
    let data = [vec![7; 24], vec![1; 16], tiles(), vec![2; 16]];
    let plan = writer.plan().expect("it fits");
    let checksums: Vec<Checksum> = data.iter().map(|bytes| Checksum::of(bytes)).collect();
    let mut file = writer.finished_header(&checksums).expect("it fits");
    assert_eq!(file.len(), plan.header.len());
    file.resize(plan.bytes as usize, 0);
    for (place, bytes) in plan.tensors.iter().zip(&data) {
        assert_eq!(place.end - place.start, bytes.len() as u64);
        file[place.start as usize..place.end as usize].copy_from_slice(bytes);
    }
    file
}

/// A field of the prelude.
pub(crate) fn field(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn set(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The JSON of the header.
pub(crate) fn header(file: &[u8]) -> String {
    let json = &file[PRELUDE..][..field(file, HEADER_BYTES) as usize];
    String::from_utf8(json.to_vec()).expect("JSON is UTF-8")
}

/// The file with another JSON header; all else follows it as before.
pub(crate) fn with_header(file: &[u8], json: &str) -> Vec<u8> {
    let old = PRELUDE + field(file, HEADER_BYTES) as usize;
    let metadata = &file[old..][..field(file, METADATA_BYTES) as usize];
    let data = &file[field(file, DATA_AT) as usize..];
    let mut new = file[..PRELUDE].to_vec();
    new.extend_from_slice(json.as_bytes());
    new.extend_from_slice(metadata);
    let mut checksum = Checksummer::default();
    checksum.write(&new[PRELUDE..]);
    set(&mut new, 48, checksum.finish().0);
    new.resize(new.len().next_multiple_of(4096), 0);
    let data_at = new.len() as u64;
    new.extend_from_slice(data);
    let len = new.len() as u64;
    set(&mut new, HEADER_BYTES, json.len() as u64);
    set(&mut new, DATA_AT, data_at);
    set(&mut new, FILE_BYTES, len);
    new
}
