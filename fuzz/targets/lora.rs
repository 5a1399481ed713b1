//! Reads any adapter for a small model.
//!
//! The first byte says what it is: a GGUF file, or what PEFT writes, its configuration up to the first
//! byte that is 0 and the tensors behind that.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use zse_format::{Checkpoint, GgufWriter, Lora};
use zse_quant::GgmlType;

/// One layer of two heads of 4 and half as many of keys.
const WEIGHTS: [(&str, [u64; 2]); 5] = [
    ("token_embd.weight", [8, 6]),
    ("blk.0.attn_q.weight", [8, 8]),
    ("blk.0.attn_k.weight", [8, 4]),
    ("blk.0.ffn_up.weight", [8, 16]),
    ("blk.0.ffn_down.weight", [16, 8]),
];

struct Bench {
    folder: PathBuf,
    base: Checkpoint,
}

fn base() -> Checkpoint {
    let mut writer = GgufWriter::new();
    for (key, value) in [("general.architecture", "llama"), ("general.type", "model")] {
        writer.set(key, value).expect("it is new");
    }
    for (key, value) in [
        ("attention.head_count", 2u32),
        ("attention.head_count_kv", 1),
    ] {
        writer
            .set(&format!("llama.{key}"), value)
            .expect("it is new");
    }
    for (name, shape) in WEIGHTS {
        writer
            .declare(name, GgmlType::F32, &shape)
            .expect("it is new");
    }
    let mut body = writer.begin(Vec::new(), "base").expect("memory takes it");
    for (name, shape) in WEIGHTS {
        let bytes = vec![0; 4 * shape.iter().product::<u64>() as usize];
        body.write(name, &bytes).expect("its turn");
    }
    Checkpoint::from_bytes(body.finish().expect("it is whole"), "base").expect("it is sound")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder for temporary files can be written to");
}

fuzz_target!(|input: &[u8]| {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("zse-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
        Bench {
            folder,
            base: base(),
        }
    });
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let path = if kind % 2 == 0 {
        let path = bench.folder.join("adapter.gguf");
        write(&path, rest);
        path
    } else {
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(rest.len());
        write(&bench.folder.join("adapter_config.json"), &rest[..end]);
        let tensors = rest.get(end + 1..).unwrap_or_default();
        write(&bench.folder.join("adapter_model.safetensors"), tensors);
        bench.folder.clone()
    };
    let Ok(lora) = Lora::open(&path, &bench.base) else {
        return;
    };
    assert!(!lora.weights().is_empty());
    for weight in lora.weights() {
        let stored = bench.base.tensor(&weight.name);
        let stored = stored.or_else(|| bench.base.tensor("token_embd.weight"));
        let shape = stored.expect("the model has it").shape;
        assert_eq!(
            [weight.a.cols, weight.b.rows],
            [shape[0] as usize, shape[1] as usize]
        );
        assert_eq!(weight.a.rows, weight.b.cols);
        assert!(weight.scale.is_finite());
        for matrix in [&weight.a, &weight.b] {
            let numbers = matrix.to_f32();
            assert_eq!(numbers.len(), matrix.rows * matrix.cols);
            assert!(numbers.iter().all(|x| x.is_finite()));
        }
    }
});
