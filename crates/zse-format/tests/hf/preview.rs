//! What `config.json` alone tells of the committed models is what loading makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use zse_format::hf::Preview;
use zse_format::{Checkpoint, Metadata};
use zse_quant::GgmlType;

/// The directories of zse-model's fixtures with a `config.json`.
fn fixtures() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests");
    let folders = ["golden", "quantized"].map(|name| fs::read_dir(tests.join(name)).unwrap());
    let mut found: Vec<_> = folders
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() > 50, "{} fixtures", found.len());
    found
}

fn preview(directory: &Path) -> Preview {
    let path = directory.join("config.json");
    let text = fs::read(&path).unwrap();
    Preview::parse(&text, &path.display().to_string()).unwrap()
}

/// Keys and values that `config.json` is the source of.
fn keys(metadata: &Metadata) -> Vec<(String, String)> {
    let others = |key: &str| {
        key.starts_with("tokenizer.") || key == "general.name" || key.ends_with("pooling_type")
    };
    let all = metadata.iter().filter(|(key, _)| !others(key));
    all.map(|(key, value)| (key.to_owned(), format!("{value:?}")))
        .collect()
}

/// Bytes of 256 weights.
fn bytes(ty: GgmlType) -> usize {
    256 / ty.block_len() * ty.block_bytes()
}

#[test]
fn keys_are_those_of_the_loaded_model() {
    for path in fixtures() {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let (told, found) = (keys(preview(&path).metadata()), keys(checkpoint.metadata()));
        assert_eq!(told, found, "{}", path.display());
    }
}

#[test]
fn weights_take_what_was_told() {
    let mut told = 0;
    for path in fixtures() {
        let preview = preview(&path);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for tensor in checkpoint.tensors().filter(|t| t.shape.len() > 1) {
            let cols = tensor.shape[0];
            let is_embedding = matches!(tensor.name, "token_embd.weight" | "output.weight");
            let is_layers = tensor.name.starts_with("blk.") && !tensor.name.contains("gate_inp");
            // Their modules have widths of their own.
            let differs = name == "mlx-mixtral" && tensor.name.contains("ffn_down");
            // Plain floats stay what they are, whatever the file calls them.
            let is_plain = is_embedding && tensor.ty == GgmlType::F32;
            if !preview.is_quantized() || differs || is_plain || !is_embedding && !is_layers {
                continue;
            }
            let expected = match is_embedding {
                true => preview.embedding(cols),
                false => preview.matrix(cols),
            };
            let Some(expected) = expected else { continue };
            told += 1;
            let what = format!("{name}, {} of {cols}: {expected:?}", tensor.name);
            assert_eq!(
                bytes(expected),
                bytes(tensor.ty),
                "{what}, is {:?}",
                tensor.ty
            );
        }
    }
    assert!(told > 200, "{told} matrices");
}
