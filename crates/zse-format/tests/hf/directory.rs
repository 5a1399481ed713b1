//! Model directories made by hand: tiny Llamas, and what others change of them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zse_format::hf::Preview;
use zse_format::{Checkpoint, FormatError};

/// Name, dtype, shape and bytes.
pub(crate) type Tensor = (String, &'static str, Vec<u64>, Vec<u8>);

/// A model to be written.
pub(crate) struct Model {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<Tensor>,
    /// Further files.
    pub(crate) files: Vec<(&'static str, String)>,
}

/// A directory, and what opens it.
pub(crate) struct Directory {
    dir: TempDir,
}

/// A tensor of numbers that differ from one another.
pub(crate) fn floats(name: &str, shape: &[u64]) -> Tensor {
    let n = shape.iter().product::<u64>();
    let bytes = (0..n).flat_map(|i| (i as f32 + 0.5).to_le_bytes());
    (name.to_owned(), "F32", shape.to_vec(), bytes.collect())
}

/// A file of safetensors.
pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &data].concat()
}

impl Model {
    /// One layer of width 8, two query heads and a key head of length 4, a vocabulary of 6.
    pub(crate) fn llama() -> Self {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 6,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "rope_scaling": null, "tie_word_embeddings": false,
        });
        let layer = "model.layers.0";
        let mut tensors = vec![
            floats("model.embed_tokens.weight", &[6, 8]),
            floats("model.norm.weight", &[8]),
            floats("lm_head.weight", &[6, 8]),
        ];
        for (name, shape) in [
            ("input_layernorm", &[8][..]),
            ("post_attention_layernorm", &[8]),
            ("self_attn.q_proj", &[8, 8]),
            ("self_attn.k_proj", &[4, 8]),
            ("self_attn.v_proj", &[4, 8]),
            ("self_attn.o_proj", &[8, 8]),
            ("mlp.gate_proj", &[16, 8]),
            ("mlp.up_proj", &[16, 8]),
            ("mlp.down_proj", &[8, 16]),
        ] {
            tensors.push(floats(&format!("{layer}.{name}.weight"), shape));
        }
        Self {
            config,
            tensors,
            files: Vec::new(),
        }
    }

    /// Gemma 3 of the same sizes.
    pub(crate) fn gemma3() -> Self {
        let mut model = Self::llama().with(json!({
            "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh",
            "sliding_window": 16, "head_dim": 4, "query_pre_attn_scalar": 4,
        }));
        model.remove("lm_head.weight");
        for (name, len) in [
            ("pre_feedforward_layernorm", 8),
            ("post_feedforward_layernorm", 8),
            ("self_attn.q_norm", 4),
            ("self_attn.k_norm", 4),
        ] {
            let name = format!("model.layers.0.{name}.weight");
            model.tensors.push(floats(&name, &[len]));
        }
        model
    }

    /// With other entries of the configuration; `null` removes one.
    pub(crate) fn with(mut self, entries: Value) -> Self {
        for (key, value) in entries.as_object().unwrap() {
            self.config[key] = value.clone();
        }
        self
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|t| t.0 != name);
    }

    /// Replaces the tensor of this name.
    pub(crate) fn replace(&mut self, tensor: Tensor) {
        self.remove(&tensor.0);
        self.tensors.push(tensor);
    }

    pub(crate) fn write(&self) -> Directory {
        let directory = Directory {
            dir: tempfile::tempdir().unwrap(),
        };
        directory.add("config.json", self.config.to_string());
        directory.add("model.safetensors", safetensors(&self.tensors));
        for (name, text) in &self.files {
            directory.add(name, text);
        }
        directory
    }

    /// The error of opening it, which is that of its `config.json` alone if that is what is wrong.
    pub(crate) fn refused(&self) -> String {
        let directory = self.write();
        let opened = directory.open();
        let refused = opened.err().map(|e| e.to_string()).unwrap_or_default();
        let file = directory.path("config.json").display().to_string();
        let text = self.config.to_string();
        match Preview::parse(text.as_bytes(), &file) {
            Err(error) => assert_eq!(error.to_string(), refused),
            Ok(_) => assert!(!refused.starts_with(&file), "not seen before: {refused}"),
        }
        refused
    }
}

impl Directory {
    pub(crate) fn add(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(&self) -> Result<Checkpoint, FormatError> {
        Checkpoint::open(self.dir.path())
    }
}

/// The numbers of an F32 tensor.
pub(crate) fn numbers(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name).unwrap();
    assert_eq!(tensor.ty.name(), "f32", "{name}");
    let bytes = tensor.data.bytes();
    let numbers = bytes.as_chunks::<4>().0.iter();
    numbers.map(|b| f32::from_le_bytes(*b)).collect()
}
