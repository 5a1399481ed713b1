//! Model directories as Hugging Face lays them out: what they say in GGUF's keys and tensors, and
//! what is refused.

mod bert;
mod directory;
mod families;
mod fp8;
mod lora;
mod pieces;
mod preview;
mod quant;
mod refused;
mod shards;
mod tokenizer;
