//! Models as Hugging Face lays them out: a directory of JSON files and safetensors.

pub mod tokenizer;
