//! In which form the weights of a directory are stored: `quantization_config` of `config.json`.

use super::Config;
use super::fp8::Fp8;
use super::quant::Method;
use super::stored::Stored;
use super::weights::Matrix;
use crate::FormatError;
use crate::safetensors::Dtype;
use zse_quant::GgmlType;

/// The form of the weights, where it is not plain floats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Quantization {
    None,
    /// Integers with scales.
    Quantized(Method),
    /// FP8; rows and columns that share a scale, where it is not a row or all of them.
    Fp8 {
        block: Option<[usize; 2]>,
    },
}

impl Quantization {
    /// Reads `quantization_config`, or `quantization` as MLX calls it, or `compression_config` as
    /// compressed-tensors did first; `renames` are those of tensors.
    pub(super) fn read(c: &Config, renames: &[(&str, &str)]) -> Result<Self, FormatError> {
        // MLX writes both, the former without a method.
        if let Some(q) = c.object("quantization")? {
            return Ok(Self::Quantized(Method::mlx(&q, renames)?));
        }
        let keys = ["quantization_config", "compression_config"];
        let Some(key) = keys.into_iter().find(|key| c.get(key).is_some()) else {
            return Ok(Self::None);
        };
        let q = c.object(key)?.unwrap_or_else(|| c.empty(key));
        match q.require_str("quant_method")? {
            "fp8" => {
                // Of eight bits with more range and fewer digits.
                if q.str("fmt")?.is_some_and(|fmt| fmt.contains("e5m2")) {
                    return Err(q.not_implemented("fmt", "e4m3 is"));
                }
                let block = block(&q, "weight_block_size")?;
                Ok(Self::Fp8 { block })
            }
            "fbgemm_fp8" => Ok(Self::Fp8 { block: None }),
            "compressed-tensors" => Self::compressed_tensors(&q),
            "gptq" => Ok(Self::Quantized(Method::gptq(&q)?)),
            "awq" => Ok(Self::Quantized(Method::awq(&q)?)),
            "bitsandbytes" => Ok(Self::Quantized(Method::bits_and_bytes(&q)?)),
            _ => Err(q.not_implemented(
                "quant_method",
                "fp8, fbgemm_fp8, compressed-tensors, gptq, awq, bitsandbytes and MLX's are",
            )),
        }
    }

    fn compressed_tensors(q: &Config) -> Result<Self, FormatError> {
        // Rotations that activations go through, too (QuIP, SpinQuant).
        let transforms = q.object("transform_config")?;
        if transforms.is_some_and(|transforms| transforms.keys().next().is_some()) {
            return Err(q.not_implemented("transform_config", "weights without transforms are"));
        }
        let groups = || weights_of_groups(q);
        match q.require_str("format")? {
            "float-quantized" => Ok(Self::Fp8 {
                block: block_of_groups(q)?,
            }),
            "pack-quantized" => Ok(Self::Quantized(Method::pack_quantized(&groups()?)?)),
            // Weights alone, of either kind.
            "naive-quantized" if has_floats(q)? => Ok(Self::Fp8 {
                block: block_of_groups(q)?,
            }),
            "int-quantized" | "naive-quantized" => {
                Ok(Self::Quantized(Method::int_quantized(&groups()?)?))
            }
            _ => Err(q.not_implemented(
                "format",
                "float-quantized, pack-quantized, int-quantized and naive-quantized are",
            )),
        }
    }

    /// The type that matrices of layers with `cols` columns will have, told by the configuration; `float`
    /// is the type of plain ones. `None` where it does not say enough.
    pub(super) fn announced(&self, cols: usize, float: GgmlType) -> Option<GgmlType> {
        match self {
            Self::None => Some(float),
            Self::Fp8 { .. } => Some(GgmlType::Bf16),
            Self::Quantized(method) => method.announced(cols, float),
        }
    }

    /// Whether embeddings are quantized as well as the matrices of layers.
    pub(super) fn has_embeddings(&self) -> bool {
        matches!(self, Self::Quantized(method) if method.has_embeddings())
    }

    /// The weight of `module`, if the directory has one.
    pub(super) fn weight(
        &self,
        stored: &mut Stored<'_>,
        module: &str,
    ) -> Result<Option<Matrix>, FormatError> {
        if let Self::Quantized(method) = self
            && let Some(quantized) = method.weight(stored, module)?
        {
            return Ok(Some(Matrix::Quantized(quantized)));
        }
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
                Fp8::new(raw, scales, *block)
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

/// The rows and columns of a block.
fn block(c: &Config, key: &str) -> Result<Option<[usize; 2]>, FormatError> {
    let Some(sizes) = c.u32s(key)? else {
        return Ok(None);
    };
    match sizes[..] {
        [rows, cols] if rows > 0 && cols > 0 => Ok(Some([rows as usize, cols as usize])),
        _ => Err(c.unusable(key, "must be two sizes of at least 1".to_owned())),
    }
}

/// What compressed-tensors' `config_groups` say of weights.
fn weights_of_groups(q: &Config) -> Result<Vec<Config>, FormatError> {
    let Some(groups) = q.object("config_groups")? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for name in groups.keys() {
        if let Some(group) = groups.object(name)? {
            all.extend(group.object("weights")?);
        }
    }
    Ok(all)
}

/// Whether compressed-tensors' `config_groups` have weights that are floats.
fn has_floats(q: &Config) -> Result<bool, FormatError> {
    for weights in weights_of_groups(q)? {
        if weights.str("type")? == Some("float") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The block of compressed-tensors' `config_groups`, which must agree in it.
fn block_of_groups(q: &Config) -> Result<Option<[usize; 2]>, FormatError> {
    let mut common = None;
    for weights in weights_of_groups(q)? {
        let found = block(&weights, "block_structure")?;
        if *common.get_or_insert(found) != found {
            let what = "the same for all config_groups is";
            return Err(weights.not_implemented("block_structure", what));
        }
    }
    Ok(common.flatten())
}
