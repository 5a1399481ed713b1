//! In which form the weights of a directory are stored: `quantization_config` of `config.json`.

use serde_json::json;

use super::Config;
use super::fp8::Fp8;
use super::stored::Stored;
use super::weights::Matrix;
use crate::FormatError;
use crate::safetensors::Dtype;

/// The form of the weights, where it is not plain floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantization {
    None,
    /// FP8; rows and columns that share a scale, where it is not a row or all of them.
    Fp8 {
        block: Option<[usize; 2]>,
    },
}

impl Quantization {
    /// Reads `quantization_config`, or `compression_config` as it was called.
    pub(super) fn read(c: &Config) -> Result<Self, FormatError> {
        let Some(q) = c.object("quantization_config")? else {
            return Ok(Self::None);
        };
        match q.require_str("quant_method")? {
            "fp8" => {
                let block = match q.u32s("weight_block_size")? {
                    None => None,
                    Some(sizes) => match sizes[..] {
                        [rows, cols] if rows > 0 && cols > 0 => {
                            Some([rows as usize, cols as usize])
                        }
                        _ => {
                            let problem = "must be two sizes of at least 1".to_owned();
                            return Err(q.unusable("weight_block_size", problem));
                        }
                    },
                };
                Ok(Self::Fp8 { block })
            }
            "fbgemm_fp8" => Ok(Self::Fp8 { block: None }),
            "compressed-tensors" => {
                q.expect("format", &[json!("float-quantized")])?;
                Ok(Self::Fp8 { block: None })
            }
            _ => Err(q.not_implemented("quant_method", "fp8 is")),
        }
    }

    /// The weight of `module`, if the directory has one.
    pub(super) fn weight(
        self,
        stored: &mut Stored<'_>,
        module: &str,
    ) -> Result<Option<Matrix>, FormatError> {
        let name = format!("{module}.weight");
        let Some(raw) = stored.take(&name) else {
            return Ok(None);
        };
        if let Some(ty) = raw.float() {
            return Ok(Some(Matrix::Plain(raw, ty)));
        }
        match self {
            Self::Fp8 { block } if raw.dtype == Dtype::F8E4M3 => {
                // Of activations: these are not rounded here.
                for unused in ["input_scale", "activation_scale", "input_scale_ub"] {
                    stored.take(&format!("{module}.{unused}"));
                }
                let scales = match stored.take(&format!("{name}_scale_inv")) {
                    Some(scales) => scales,
                    None => stored.require(&format!("{name}_scale"))?,
                };
                Fp8::new(raw, scales, block)
                    .map(|fp8| Some(Matrix::Fp8(fp8)))
                    .map_err(|problem| stored.unusable(&name, problem))
            }
            _ => {
                let dtype = raw.dtype.name();
                let problem = format!(
                    "has dtype {dtype}, which the directory's config.json does not explain"
                );
                Err(stored.unusable(&name, problem))
            }
        }
    }
}
