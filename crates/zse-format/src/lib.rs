//! Model files read in place.
//!
//! A [`Checkpoint`] is what every model format becomes: [`Metadata`] (typed key-value pairs) and
//! named tensors, each a [`TensorView`] of the file's own bytes, or of bytes made of them when they
//! are asked for. Files are memory mapped, so opening a model of any size takes milliseconds and
//! copies no weights.
//!
//! - GGUF v2 and v3, whole or split over several files, at any alignment; [`GgufWriter`] writes v3.
//!   The format is specified at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//! - Directories of safetensors files as Hugging Face lays models out, with GGUF's names of keys
//!   and tensors. [`Safetensors`] reads such a file by itself.
//! - `.zse` version 1, which [`ZseWriter`] writes; `docs/format.md` specifies it.
//!
//! [`Lora`] reads adapters that stand beside a model, from directories of PEFT and from GGUF files.
//!
//! Files are untrusted. Everything but the contents of tensors is checked while opening, with
//! checked arithmetic and before anything is allocated for it; a file that breaks a rule is
//! refused with a [`FormatError`] that names the file, the field and the byte. Opening allocates
//! at most the larger of 1 MB and four times the file's size (in practice a few kilobytes), and
//! time is linear in the size of the header but for the sorting of names.
//!
//! ```
//! use zse_format::{Checkpoint, GgufWriter};
//! use zse_quant::GgmlType;
//!
//! # fn main() -> Result<(), zse_format::FormatError> {
//! let mut writer = GgufWriter::new();
//! writer.set("general.architecture", "llama")?;
//! writer.declare("output_norm.weight", GgmlType::F32, &[2])?;
//! let mut body = writer.begin(Vec::new(), "example")?;
//! body.write("output_norm.weight", &[0, 0, 128, 63, 0, 0, 0, 64])?;
//! let file = body.finish()?;
//!
//! let checkpoint = Checkpoint::from_bytes(file, "example")?;
//! assert_eq!(checkpoint.metadata().require_str("general.architecture")?, "llama");
//! let norm = checkpoint.tensor("output_norm.weight").expect("it was written");
//! assert_eq!((norm.ty, norm.shape, norm.data.len()), (GgmlType::F32, &[2][..], 8));
//! assert_eq!(norm.data.bytes()[..4], 1f32.to_le_bytes());
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

#[cfg(not(target_endian = "little"))]
compile_error!("zse reads tensors in place, which needs a little-endian machine");

mod charsmap;
mod checkpoint;
mod checksum;
mod data;
mod error;
mod gguf;
pub mod hf;
mod layout;
mod lora;
mod metadata;
mod names;
mod plan;
pub mod pre_tokenizer;
mod region;
mod safetensors;
mod source;
mod text;
mod value;
mod zse;

pub use charsmap::CharsmapParts;
pub use checkpoint::{Checkpoint, TensorView};
pub use checksum::{Checksum, Checksummer};
pub use data::{TensorBytes, TensorData};
pub use error::{FormatError, Problem};
pub use gguf::limits;
pub use gguf::write::{GgufBody, GgufFile, GgufWriter};
pub use layout::Layout;
pub use lora::{Lora, LoraMatrix, LoraWeight};
pub use metadata::{Metadata, Strings};
pub use plan::FilePlan;
pub use region::FileBytes;
pub use safetensors::{Dtype, Safetensors, SafetensorsView};
pub use value::{Array, EncodedValue, Value, ValueType};
pub use zse::index::{Group, Origin, Provenance};
pub use zse::read::Converted;
pub use zse::write::ZseWriter;
