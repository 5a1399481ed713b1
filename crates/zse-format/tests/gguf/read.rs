//! Valid files are read exactly.

use std::fs;
use std::path::Path;

use zse_format::{Checkpoint, FormatError, Value, ValueType};
use zse_quant::GgmlType;

use crate::counting::peak_during;
use crate::raw::{sample, scalars, walk};

fn opened(version: u32, alignment: u32) -> Checkpoint {
    Checkpoint::from_bytes(sample(version, alignment).bytes, "sample").expect("a valid file")
}

#[test]
fn versions_2_and_3_are_read_at_any_alignment() {
    for version in [2, 3] {
        for alignment in [1, 2, 8, 32, 64, 4096] {
            let file = opened(version, alignment);
            let (all, expected) = (file.tensors(), [48, 68, 4, 144]);
            assert!(
                all.map(|t| t.data.len()).eq(expected),
                "alignment {alignment}"
            );
            assert!(
                file.tensors()
                    .all(|t| t.data.bytes().iter().all(|&b| b == 0xA5))
            );
            assert_eq!(file.metadata().len(), 19);
        }
    }
}

#[test]
fn tensors_have_name_type_and_shape() {
    let file = opened(3, 32);
    let quant = file.tensor("quant.weight").expect("it is there");
    assert_eq!(
        (quant.ty, quant.shape, quant.elements()),
        (GgmlType::Q8_0, &[32, 2][..], 64)
    );
    assert_eq!(file.tensor("scalar").expect("it is there").shape, [1]);
    assert!(file.tensor("quant").is_none());
    let names: Vec<_> = file.tensors().map(|t| t.name).collect();
    assert_eq!(
        names,
        ["norm.weight", "quant.weight", "scalar", "k_quant.weight"]
    );
}

#[test]
fn every_value_type_is_decoded() {
    let file = opened(3, 32);
    let metadata = file.metadata();
    for (id, bytes) in scalars() {
        let value = metadata
            .get(&format!("test.scalar.{id}"))
            .expect("it is there");
        assert_eq!(value.value_type().id(), id);
        let encoded = match value {
            Value::F32(v) => v.to_le_bytes().to_vec(),
            Value::F64(v) => v.to_le_bytes().to_vec(),
            integer => {
                let v = integer.as_integer().expect("the others are integers");
                v.to_le_bytes()[..bytes.len()].to_vec()
            }
        };
        assert_eq!(encoded, bytes, "type {id}");
    }
    assert!(matches!(metadata.get("test.bool"), Some(Value::Bool(true))));
    let nested = metadata
        .get("test.nested")
        .and_then(|v| v.as_array())
        .expect("an array");
    assert_eq!((nested.len(), nested.element_type()), (2, ValueType::Array));
    let inner: Vec<_> = nested.iter().filter_map(|v| v.as_array()).collect();
    assert_eq!(
        inner[0].iter().next().and_then(|v| v.as_str()),
        Some("deep")
    );
    assert!(inner[1].iter().filter_map(|v| v.as_u32()).eq([1, 2]));
}

#[test]
fn getters_convert_or_name_the_key() {
    let file = opened(3, 32);
    let metadata = file.metadata();
    assert_eq!(
        metadata.u32("test.scalar.2").expect("it fits"),
        Some(60_000)
    );
    assert_eq!(metadata.f32("test.scalar.12").expect("a float"), Some(-0.1));
    assert_eq!(
        metadata.i32s("test.i32s").expect("integers"),
        Some(vec![-1; 3])
    );
    assert_eq!(
        metadata.bools("test.bools").expect("bools"),
        Some(vec![false, true])
    );
    assert_eq!(metadata.str("absent").expect("no error"), None);
    assert_eq!(
        metadata.require_str("general.architecture").expect("text"),
        "llama"
    );

    let missing = metadata.require_u32("absent").expect_err("absent");
    assert!(
        matches!(&missing, FormatError::Missing { key, .. } if key == "absent"),
        "{missing}"
    );
    let wrong_types = [
        metadata.u32("test.scalar.10").map(drop),
        metadata.u32("test.scalar.1").map(drop),
        metadata.f32("test.scalar.4").map(drop),
        metadata.str("test.bool").map(drop),
        metadata.u32s("test.i32s").map(drop),
        metadata.strings("test.i32s").map(drop),
        metadata.bool("test.nested").map(drop),
    ];
    for wrong in wrong_types {
        let message = wrong.expect_err("another type").to_string();
        assert!(message.starts_with("sample: metadata \"test."), "{message}");
    }
}

#[test]
fn strings_are_bytes_or_utf8() {
    let file = opened(3, 32);
    let strings = || {
        file.metadata()
            .require_strings("test.strings")
            .expect("strings")
    };
    assert_eq!(strings().len(), 3);
    assert!(strings().eq([&b"one"[..], b"", b"\xE2\x96"]));
    let text: Vec<_> = strings().utf8().collect();
    assert!(matches!(text[..2], [Ok("one"), Ok("")]));
    let error = text[2].as_ref().expect_err("not UTF-8").to_string();
    assert!(
        error.contains("test.strings") && error.contains("string 2"),
        "{error}"
    );
}

#[test]
fn a_mapped_file_is_read_again_after_its_pages_are_released() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("sample.gguf");
    let raw = sample(3, 4096);
    fs::write(&path, &raw.bytes).expect("written");
    let file = Checkpoint::open(&path).expect("a valid file");
    assert_eq!(file.file_bytes(), raw.bytes.len() as u64);
    let last = file.tensor("k_quant.weight").expect("it is there");
    let before = last.data.bytes().to_vec();
    file.release_pages(&last);
    assert_eq!(last.data.bytes(), before);
}

#[test]
fn bytes_are_copied_as_they_are_and_a_file_that_was_cut_short_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("copied.gguf");
    let mut bytes = sample(3, 32).bytes;
    let end = bytes.len();
    bytes[end - 144..]
        .iter_mut()
        .zip(0..)
        .for_each(|(b, i)| *b = i);
    fs::write(&path, &bytes).expect("writable");
    let of_memory = Checkpoint::from_bytes(bytes.clone(), "memory").expect("a valid file");
    let file = Checkpoint::open(&path).expect("a valid file");
    file.prefetch(usize::MAX);
    for checkpoint in [&of_memory, &file] {
        let data = checkpoint
            .tensor("k_quant.weight")
            .expect("it is there")
            .data;
        let mut copy = [0; 100];
        data.slice(4..124)
            .slice(10..110)
            .copy_to(&mut copy)
            .expect("it is there");
        assert_eq!(copy[..], data.bytes()[14..114]);
    }
    let cut = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("writable");
    cut.set_len(end as u64 - 144).expect("writable");
    let data = file.tensor("k_quant.weight").expect("it is there").data;
    assert!(data.copy_to(&mut [0; 144]).is_err());
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = Checkpoint::open(&dir.path().join("absent.gguf")).expect_err("nothing to open");
    assert!(matches!(error, FormatError::Io { .. }), "{error}");
    let error = Checkpoint::open(dir.path()).expect_err("no model");
    assert!(matches!(error, FormatError::Unusable { .. }), "{error}");
    let empty = dir.path().join("empty.gguf");
    fs::write(&empty, []).expect("written");
    let error = Checkpoint::open(&empty)
        .expect_err("nothing in it")
        .to_string();
    assert!(error.contains("magic of the header"), "{error}");
}

#[test]
fn real_vocabularies_open_without_copying_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab");
    let Ok(listing) = fs::read_dir(&folder) else {
        println!("passed over: no folder {}", folder.display());
        return;
    };
    let paths = listing.map(|entry| entry.expect("listed").path());
    for path in paths.filter(|path| path.extension().is_some_and(|e| e == "gguf")) {
        let (file, peak) = peak_during(|| Checkpoint::open(&path).expect("a real file"));
        assert!(peak < 64 * 1024, "{}: {peak} bytes", path.display());
        let tokens = file
            .metadata()
            .require_strings("tokenizer.ggml.tokens")
            .expect("tokens");
        let types = file
            .metadata()
            .require_i32s("tokenizer.ggml.token_type")
            .expect("types");
        assert_eq!(tokens.len(), types.len());
        assert_eq!(tokens.count(), types.len());
        assert!(walk(&file) > types.len());
    }
}

#[test]
fn the_fuzz_targets_seeds_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/gguf");
    let seeds = fs::read_dir(&folder).expect("the seeds are committed");
    let opened = seeds.map(|seed| {
        let path = seed.expect("listed").path();
        Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"))
    });
    assert!(opened.map(|file| walk(&file)).sum::<usize>() > 200);
}
