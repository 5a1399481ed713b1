//! Valid files are read exactly; that of version 1 in this folder for ever.

use std::fs;
use std::path::{Path, PathBuf};

use zse_format::{Checkpoint, FormatError, Layout, Problem};
use zse_quant::GgmlType;

use crate::counting::peak_during;
use crate::sample::{DATA_AT, field, packed_rows, sample, tiles};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1.zse")
}

/// All that the sample holds, as it must be read from what `open` opens.
fn check(open: impl Fn() -> Checkpoint) {
    let file = open();
    let metadata = file.metadata();
    assert_eq!(metadata.len(), 4);
    let number = metadata.require_u32("llama.block_count");
    assert_eq!(number.expect("a number"), 1);
    let tokens = metadata.require_strings("tokenizer.ggml.tokens");
    assert!(tokens.expect("strings").eq([&b"a"[..], b"", b"\xFF"]));
    let scores = metadata.require_f32s("tokenizer.ggml.scores");
    assert_eq!(scores.expect("floats"), [0.0, f32::NEG_INFINITY, -1.5]);

    let names: Vec<_> = file.tensors().map(|t| t.name).collect();
    let expected = [
        "token_embd.weight",
        "blk.0.attn_norm.weight",
        "blk.0.ffn_up_exps.weight",
        "output_norm.weight",
    ];
    assert_eq!(names, expected);
    let plain = file.tensor("token_embd.weight").expect("it is there");
    assert_eq!((plain.ty, plain.shape), (GgmlType::F16, &[4, 3][..]));
    assert_eq!((plain.layout(), plain.tiles), (Layout::Rows, None));
    assert_eq!(plain.data.bytes(), [7; 24]);
    let packed = file
        .tensor("blk.0.ffn_up_exps.weight")
        .expect("it is there");
    assert_eq!(
        (packed.ty, packed.shape),
        (GgmlType::Q8_0, &[32, 17, 2][..])
    );
    assert_eq!(
        (packed.layout(), packed.stored_len()),
        (Layout::Tiles16, tiles().len())
    );
    assert_eq!(packed.tiles, Some(&tiles()[..]));
    assert_eq!(packed.data.len(), packed_rows().len());
    assert_eq!(packed.data.bytes(), packed_rows());
    file.release_pages(&packed);
    // Rows of tiles one by one, over the end of a tile and of a matrix.
    for rows in [1, 3, 16, 20] {
        let step = rows * 34;
        // Another one, which has made nothing yet.
        let file = open();
        let data = file.tensor(packed.name).expect("it is there").data;
        let pieces = (0..data.len()).step_by(step).flat_map(|at| {
            let end = data.len().min(at + step);
            data.piece(at..end).to_vec()
        });
        assert_eq!(pieces.collect::<Vec<_>>(), packed_rows());
        assert_eq!(file.most_made(), step);
    }
    assert_eq!(packed.data.bytes(), packed_rows());
    let kept = file.tiles(packed.name).expect("it has tiles").slice(3..40);
    assert_eq!(*kept, tiles()[3..40]);

    let converted = file.converted().expect("a .zse file");
    let groups = converted
        .groups()
        .iter()
        .map(|g| (&*g.name, g.tensors, g.offset));
    assert!(groups.eq([("input", 1, 0), ("blk.0", 2, 4096), ("output", 1, 8192)]));
    let provenance = converted.provenance();
    assert_eq!(
        (&*provenance.converter, &*provenance.target),
        ("zse 0.1.0", "cpu")
    );
    assert_eq!(
        (&*provenance.source.name, provenance.source.bytes),
        ("sample.gguf", 1234)
    );
    assert_eq!(provenance.source.xxh3.0, 0x0123_4567_89AB_CDEF);
    assert!(file.verify(|_| ()).expect("undamaged"));
}

#[test]
fn version_1_is_read_for_ever() {
    check(|| Checkpoint::open(&fixture()).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn what_is_written_today_is_version_1() {
    let sample = sample();
    check(|| Checkpoint::from_bytes(sample.clone(), "sample").expect("a valid file"));
    let fixture = fs::read(fixture()).expect("the fixture is committed");
    assert!(
        fixture == sample,
        "a change of the format needs a new version"
    );
}

#[test]
fn weights_are_not_copied() {
    let ((), peak) = peak_during(|| {
        let file = Checkpoint::open(&fixture()).expect("a valid file");
        let packed = file
            .tensor("blk.0.ffn_up_exps.weight")
            .expect("it is there");
        assert!(packed.tiles.is_some() && packed.data.len() == 2 * 17 * 34);
    });
    assert!(peak < 16 << 10, "{peak} bytes");
}

#[test]
fn damage_is_found_where_it_is() {
    let good = sample();
    let data_at = field(&good, DATA_AT) as usize;
    for (at, part) in [
        (70, "checksum of the header"),
        (data_at + 23, "checksum of tensor \"token_embd.weight\""),
        (
            data_at + 8192 + 15,
            "checksum of tensor \"output_norm.weight\"",
        ),
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        // Some damage to the header shows when it is read.
        let Ok(file) = Checkpoint::from_bytes(bytes, "damaged") else {
            assert!(at < data_at);
            continue;
        };
        let error = file.verify(|_| ()).expect_err("it is damaged");
        let FormatError::Malformed { field, problem, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(field, part);
        assert!(matches!(problem, Problem::Checksum { .. }), "{error}");
    }
}
