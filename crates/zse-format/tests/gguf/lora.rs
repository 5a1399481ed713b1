//! Adapters that claim any shape are refused before anything is made of their numbers.

use std::fs;

use zse_format::{Checkpoint, GgufWriter, Lora};
use zse_quant::GgmlType;

use crate::counting::peak_during;

/// A file of these entries and F32 tensors.
fn file(entries: &[(&str, &str)], tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    for (key, value) in entries {
        writer.set(key, *value).expect("a key");
    }
    for (name, shape) in tensors {
        writer.declare(name, GgmlType::F32, shape).expect("declare");
    }
    let mut body = writer.begin(Vec::new(), "test").expect("memory takes it");
    for (name, shape) in tensors {
        let bytes = vec![0; 4 * shape.iter().product::<u64>() as usize];
        body.write(name, &bytes).expect("its turn");
    }
    body.finish().expect("it is whole")
}

#[test]
fn shapes_that_do_not_fit_take_no_memory() {
    let base: [(&str, &[u64]); 3] = [
        ("token_embd.weight", &[8, 6]),
        ("blk.0.attn_v.weight", &[8, 4]),
        ("blk.0.ffn_down_exps.weight", &[16, 8, 2]),
    ];
    let base = file(&[("general.architecture", "llama")], &base);
    let base = Checkpoint::from_bytes(base, "base").expect("it is sound");
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("lora.gguf");
    let adapter = [
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("general.architecture", "llama"),
    ];
    const MANY: u64 = 1 << 18;
    for (name, shape, expected) in [
        (
            "blk.0.attn_v.weight.lora_a",
            [1, 1, MANY],
            "is of 262144 experts, but the model has 1",
        ),
        (
            "blk.0.ffn_down_exps.weight.lora_a",
            [1, 1, MANY],
            "but the model has 2",
        ),
        ("blk.1.attn_v.weight.lora_a", [1, 1, MANY], "has no place"),
        ("token_embd.weight.lora_b", [1, 1, MANY], "the embeddings"),
        (
            "blk.0.attn_v.weight.lora_a",
            [MANY, 1, 1],
            "but the model's weight is [4, 8]",
        ),
        (
            "blk.0.attn_v.weight.lora_b",
            [MANY / 4, 4, 1],
            "has rank 65536",
        ),
    ] {
        fs::write(&path, file(&adapter, &[(name, &shape[..])])).expect("there is room");
        let (opened, peak) = peak_during(|| Lora::open(&path, &base));
        let error = opened.expect_err(name).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(peak < 1 << 16, "{name} {shape:?}: {peak} bytes");
    }
}
