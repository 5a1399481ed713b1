//! Checking models before they are here: the verdict on a folder of safetensors is that of loading it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zse_format::Checkpoint;
use zse_hub::Outlook;
use zse_hub_mock::Server;

use crate::{Client, parse};

/// The directories of zse-model's fixtures of quantized weights.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests/quantized");
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

/// What the hub's files tell; those of weights are not read.
fn outlook(config: &[u8], weights: &[u8]) -> Outlook {
    let server = Server::start(&[("config.json", config), ("model.safetensors", weights)]);
    let open = |path: &Path| panic!("{} is not here", path.display());
    let checked = Client::of(&server)
        .hub()
        .check(&parse("org/name"), None, &open);
    let seen = server.seen();
    assert!(seen.iter().all(|seen| !seen.path.contains("safetensors")));
    checked.unwrap().outlook
}

/// The error of loading a folder of these files, without the folder's name.
fn refused(config: &[u8], weights: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let error = Checkpoint::open(folder.path()).err()?.to_string();
    Some(error.replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn quantized_models_are_judged_as_loading_does() {
    let paths = fixtures();
    assert!(paths.len() > 40, "{} fixtures", paths.len());
    for path in paths {
        let config = fs::read(path.join("config.json")).unwrap();
        let weights = fs::read(path.join("model.safetensors")).unwrap();
        let found = outlook(&config, &weights);
        assert_eq!(
            found.obstacle,
            refused(&config, &weights),
            "{}",
            path.display()
        );
        assert_eq!(found.obstacle, None, "{}", path.display());
    }
}

#[test]
fn what_loading_refuses_is_refused_with_its_words() {
    let path = fixtures()
        .into_iter()
        .find(|path| path.ends_with("gptq-4-sym"))
        .unwrap();
    let weights = fs::read(path.join("model.safetensors")).unwrap();
    let config = fs::read(path.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let compressed = |format: &str, weights: Value| {
        json!({ "quant_method": "compressed-tensors", "format": format,
            "config_groups": { "group_0": { "weights": weights } } })
    };
    let gptq = |bits: u32, group_size: i32| json!({ "quant_method": "gptq", "bits": bits, "group_size": group_size });
    for (key, value) in [
        ("model_type", json!("mamba")),
        ("hidden_act", json!("relu2")),
        (
            "rope_parameters",
            json!({ "rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0 }),
        ),
        ("num_attention_heads", json!(0)),
        ("quantization_config", json!({ "quant_method": "aqlm" })),
        ("quantization_config", gptq(5, 128)),
        ("quantization_config", gptq(4, 0)),
        (
            "quantization_config",
            json!({ "quant_method": "gptq", "bits": 4, "group_size": 32,
            "checkpoint_format": "marlin" }),
        ),
        (
            "quantization_config",
            json!({ "quant_method": "awq", "bits": 3, "group_size": 128 }),
        ),
        (
            "quantization_config",
            json!({ "quant_method": "awq", "bits": 4, "group_size": 128,
            "version": "gemv" }),
        ),
        (
            "quantization_config",
            json!({ "quant_method": "fp8", "weight_block_size": [128] }),
        ),
        (
            "quantization_config",
            json!({ "quant_method": "fp8", "fmt": "e5m2" }),
        ),
        (
            "quantization_config",
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true,
            "bnb_4bit_quant_storage": "bfloat16" }),
        ),
        (
            "quantization_config",
            compressed("nvfp4-pack-quantized", json!({ "num_bits": 4 })),
        ),
        (
            "quantization_config",
            compressed("pack-quantized", json!({ "num_bits": 3 })),
        ),
        (
            "quantization_config",
            compressed("pack-quantized", json!({ "num_bits": 2 })),
        ),
        ("quantization", json!({ "bits": 7, "group_size": 64 })),
        (
            "quantization",
            json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" }),
        ),
    ] {
        let mut config = config.clone();
        config[key] = value;
        let config = config.to_string();
        let found = outlook(config.as_bytes(), &weights).obstacle;
        assert!(found.is_some(), "{config}");
        assert_eq!(found, refused(config.as_bytes(), &weights));
    }
}
