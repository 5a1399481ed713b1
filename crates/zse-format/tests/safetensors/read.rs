//! Valid files.

use std::fs;
use std::path::Path;

use zse_format::{Dtype, Safetensors};

use crate::raw::{file, sample};

#[test]
fn tensors_are_found_with_their_bytes() {
    let file = Safetensors::from_bytes(sample(), "sample").unwrap();
    let names: Vec<_> = file.tensors().map(|t| t.name).collect();
    assert_eq!(names, ["a.é", "b.weight", "four bits", "none"]);
    for (name, dtype, shape, data) in [
        ("a.é", Dtype::F32, &[][..], 0..4u8),
        ("b.weight", Dtype::Bf16, &[2, 3], 4..16),
        ("none", Dtype::I64, &[0, 7], 16..16),
        ("four bits", Dtype::F4, &[1, 1, 1, 1, 4], 16..18),
    ] {
        let tensor = file.tensor(name).unwrap();
        assert_eq!((tensor.dtype, tensor.shape), (dtype, shape), "{name}");
        assert!(tensor.data.iter().copied().eq(data), "{name}");
    }
    assert!(file.tensor("b").is_none());
}

#[test]
fn files_are_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, sample()).unwrap();
    let mapped = Safetensors::open(&path).unwrap();
    assert_eq!(mapped.tensors().len(), 4);
    let missing = Safetensors::open(&dir.path().join("other.safetensors"));
    assert!(missing.unwrap_err().to_string().contains("cannot open"));
}

#[test]
fn the_fuzz_targets_seeds_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/safetensors");
    let seeds = fs::read_dir(&folder).unwrap();
    let opened = seeds.map(|seed| Safetensors::open(&seed.unwrap().path()).unwrap());
    assert_eq!(opened.map(|file| file.tensors().len()).sum::<usize>(), 10);
}

#[test]
fn an_empty_file_has_no_tensors() {
    let empty = Safetensors::from_bytes(file("{}", 0), "empty").unwrap();
    assert_eq!(empty.tensors().len(), 0);
}
