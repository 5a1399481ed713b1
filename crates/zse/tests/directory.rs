//! Models as Hugging Face lays them out, through the SDK.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use zse::ModelSource;
use zse::format::Checkpoint;
use zse::quantize::{Mixture, QuantizeOptions, quantize};

/// A fixture of zse-model: a file and a directory of the same model.
fn fixture(name: &str) -> PathBuf {
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/../zse-model/tests/golden");
    Path::new(goldens).join(name)
}

#[test]
fn a_directory_is_a_model() {
    let path = fixture("llama2");
    let source: ModelSource = path.to_str().unwrap().parse().unwrap();
    let checkpoint = source.open().unwrap();
    assert!(checkpoint.is_mapped());
    let layers = checkpoint.metadata().require_u32("llama.block_count");
    assert_eq!(layers.unwrap(), 2);
}

#[test]
fn a_directory_is_quantized_as_its_gguf_file() {
    let out = tempfile::tempdir().unwrap();
    let quantized = |name: &str| {
        let source = Checkpoint::open(&fixture(name)).unwrap();
        let path = out.path().join("out.gguf");
        let options = QuantizeOptions::new(Mixture::parse("Q8_0").unwrap());
        quantize(&source, &path, &options, |_| ControlFlow::Continue(())).unwrap();
        Checkpoint::from_bytes(std::fs::read(&path).unwrap(), name).unwrap()
    };
    for name in ["llama3", "mixtral", "gemma2"] {
        let (file, directory) = (quantized(&format!("{name}.gguf")), quantized(name));
        assert_eq!(
            file.tensors().count(),
            directory.tensors().count(),
            "{name}"
        );
        for tensor in file.tensors() {
            let found = directory.tensor(tensor.name).unwrap();
            let what = format!("{name}, {}", tensor.name);
            assert_eq!((found.ty, found.shape), (tensor.ty, tensor.shape), "{what}");
            // Factors of frequencies are computed here and there, and may differ in their last bit.
            if tensor.name != "rope_freqs.weight" {
                assert!(found.data.bytes() == tensor.data.bytes(), "{what}");
            }
        }
    }
}
