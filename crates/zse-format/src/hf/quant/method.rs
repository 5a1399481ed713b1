//! Which format the weights of a directory have: `quantization_config` of `config.json`, or
//! `quantization` as MLX calls it.

use std::collections::HashMap;

use serde_json::json;
use zse_quant::GgmlType;

use super::Quantized;
use super::announced::Announced;
use super::awq::Awq;
use super::codebook::Tensors;
use super::compressed::Packed;
use super::gptq::{Gptq, Parameters};
use super::int8::Int8;
use super::mlx::Mlx;
use crate::FormatError;
use crate::hf::Config;
use crate::hf::stored::{Stored, renamed};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// A format with what the configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Gptq {
        parameters: Parameters,
        symmetric: bool,
        act_order: bool,
    },
    Awq {
        /// `None` where all inputs are one group.
        group_size: Option<usize>,
    },
    Mlx {
        widths: Widths,
        /// Of modules that differ.
        modules: HashMap<String, Widths>,
    },
    BitsAndBytes {
        /// Codes are a byte, not half of one.
        is_int8: bool,
    },
    PackQuantized(Vec<Announced>),
    IntQuantized(Vec<Announced>),
}

/// Bits and group size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    bits: u32,
    group_size: usize,
}

const GPTQ_BITS: [u32; 4] = [2, 3, 4, 8];
const MLX_BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];

impl Method {
    /// GPTQ, from `quantization_config`.
    pub(crate) fn gptq(q: &Config) -> Result<Self, FormatError> {
        // `-:` begins patterns of modules that are not quantized: they have no codes.
        if q.object("dynamic")?
            .is_some_and(|dynamic| dynamic.keys().any(|pattern| !pattern.starts_with("-:")))
        {
            return Err(q.not_implemented("dynamic", "all layers must have the same bits"));
        }
        q.allow_only("pack_dtype", &[json!("int32")])?;
        let known = [json!("gptq"), json!("gptq_v2")];
        q.allow_only("checkpoint_format", &known)?;
        q.allow_only("is_marlin_format", &[json!(false)])?;
        Ok(Self::Gptq {
            parameters: Parameters {
                bits: bits(q, &GPTQ_BITS)?,
                group_size: group_size(q)?,
                less_one: q.str("checkpoint_format")? != Some("gptq_v2"),
            },
            symmetric: q.bool("sym", true)?,
            act_order: q.bool("desc_act", false)?,
        })
    }

    /// AWQ, from `quantization_config`.
    pub(crate) fn awq(q: &Config) -> Result<Self, FormatError> {
        q.allow_only("bits", &[json!(4)])?;
        q.allow_only("version", &[json!("gemm"), json!("GEMM")])?;
        let group_size = group_size(q)?;
        Ok(Self::Awq { group_size })
    }

    /// bitsandbytes, from `quantization_config`.
    pub(crate) fn bits_and_bytes(q: &Config) -> Result<Self, FormatError> {
        let is_int8 = q.bool("load_in_8bit", false)?;
        if !is_int8 {
            q.allow_only("bnb_4bit_quant_type", &[json!("nf4"), json!("fp4")])?;
            q.allow_only("bnb_4bit_quant_storage", &[json!("uint8")])?;
        }
        Ok(Self::BitsAndBytes { is_int8 })
    }

    /// compressed-tensors' `pack-quantized`, from what `config_groups` say of weights.
    pub(crate) fn pack_quantized(groups: &[Config]) -> Result<Self, FormatError> {
        for weights in groups {
            weights.allow_only("num_bits", &[json!(4), json!(8)])?;
        }
        let announced = groups.iter().map(|w| Announced::of_group(w, 4));
        Ok(Self::PackQuantized(announced.collect::<Result<_, _>>()?))
    }

    /// compressed-tensors' `int-quantized`, from what `config_groups` say of weights.
    pub(crate) fn int_quantized(groups: &[Config]) -> Result<Self, FormatError> {
        let announced = groups.iter().map(|w| Announced::of_group(w, 8));
        let announced = announced.collect::<Result<Vec<_>, _>>()?;
        // Whatever codes are in use, they are stored as bytes.
        let bytes = announced.into_iter().map(|a| Announced { bits: 8, ..a });
        Ok(Self::IntQuantized(bytes.collect()))
    }

    /// The type that quantized matrices of `cols` columns will have, told by the configuration: `float`
    /// where they become floats, of several the largest; `None` where it does not say enough.
    pub(crate) fn announced(&self, cols: usize, float: GgmlType) -> Option<GgmlType> {
        let all = match self {
            Self::BitsAndBytes { is_int8: false } => return Some(float),
            Self::BitsAndBytes { is_int8: true } => vec![Announced {
                bits: 8,
                group_size: None,
                symmetric: true,
                act_order: false,
            }],
            Self::Gptq {
                parameters: Parameters {
                    bits, group_size, ..
                },
                symmetric,
                act_order,
            } => vec![Announced {
                bits: *bits,
                group_size: *group_size,
                symmetric: *symmetric,
                act_order: *act_order,
            }],
            Self::Awq { group_size } => vec![Announced {
                bits: 4,
                group_size: *group_size,
                symmetric: false,
                act_order: false,
            }],
            Self::Mlx { widths, .. } => vec![Announced {
                bits: widths.bits,
                group_size: Some(widths.group_size),
                symmetric: false,
                act_order: false,
            }],
            Self::PackQuantized(groups) | Self::IntQuantized(groups) => groups.clone(),
        };
        let types = all.iter().map(|a| a.ty(cols).unwrap_or(float));
        // Bytes of 256 weights, which all block lengths divide.
        types.max_by_key(|ty| 256 / ty.block_len() * ty.block_bytes())
    }

    /// Whether embeddings are quantized as well as the matrices of layers.
    pub(crate) fn has_embeddings(&self) -> bool {
        matches!(self, Self::Mlx { .. })
    }

    /// MLX, from `quantization`, which calls modules as they were before `renames`.
    pub(crate) fn mlx(q: &Config, renames: &[(&str, &str)]) -> Result<Self, FormatError> {
        q.allow_only("mode", &[json!("affine")])?;
        let mut modules = HashMap::new();
        for name in q.keys() {
            // `false` of a module that is not quantized: it has no scales.
            if !q.get(name).is_some_and(serde_json::Value::is_object) {
                continue;
            }
            if let Some(module) = q.object(name)? {
                module.allow_only("mode", &[json!("affine")])?;
                modules.insert(renamed(name, renames), widths(&module)?);
            }
        }
        Ok(Self::Mlx {
            widths: widths(q)?,
            modules,
        })
    }

    /// The weight of `module`, if it is quantized.
    pub(crate) fn weight(
        &self,
        stored: &mut Stored<'_>,
        module: &str,
    ) -> Result<Option<Quantized>, FormatError> {
        let mut taken = Taken { stored, module };
        let read = match self {
            Self::Gptq { parameters, .. } => taken.gptq(*parameters)?,
            Self::Awq { group_size } => taken.awq(*group_size)?,
            Self::Mlx { widths, modules } => taken.mlx(*modules.get(module).unwrap_or(widths))?,
            Self::BitsAndBytes { .. } => taken.bits_and_bytes()?,
            Self::PackQuantized(_) => taken.pack_quantized()?,
            Self::IntQuantized(_) => taken.int_quantized()?,
        };
        let unusable = |problem| stored.unusable(&format!("{module}.weight"), problem);
        read.transpose().map_err(unusable)
    }
}

/// The bits of weights, which must be among `known`.
fn bits(q: &Config, known: &[u32]) -> Result<u32, FormatError> {
    let bits = q.require_u32("bits")?;
    if !known.contains(&bits) {
        return Err(q.not_implemented("bits", &format!("known are {known:?}")));
    }
    Ok(bits)
}

/// The size of groups; `None` where all inputs are one.
fn group_size(q: &Config) -> Result<Option<usize>, FormatError> {
    if q.get("group_size") == Some(&json!(-1)) {
        return Ok(None);
    }
    match q.require_u32("group_size")? {
        0 => Err(q.not_implemented("group_size", "it must be -1 or at least 1")),
        size => Ok(Some(size as usize)),
    }
}

fn widths(q: &Config) -> Result<Widths, FormatError> {
    let bits = bits(q, &MLX_BITS)?;
    match group_size(q)? {
        Some(group_size) => Ok(Widths { bits, group_size }),
        None => Err(q.not_implemented("group_size", "it must be at least 1")),
    }
}

/// What a module's tensors make, or what is wrong with them; `None` if it is not quantized.
type Read = Result<Option<Result<Quantized, String>>, FormatError>;

/// The tensors of a module.
struct Taken<'a, 'f> {
    stored: &'a mut Stored<'f>,
    module: &'a str,
}

impl Taken<'_, '_> {
    fn take(&mut self, name: &str) -> Option<Raw> {
        self.stored.take(&format!("{}.{name}", self.module))
    }

    fn require(&mut self, name: &str) -> Result<Raw, FormatError> {
        self.stored.require(&format!("{}.{name}", self.module))
    }

    fn has(&self, name: &str) -> bool {
        self.stored.has(&format!("{}.{name}", self.module))
    }

    fn gptq(&mut self, parameters: Parameters) -> Read {
        let Some(qweight) = self.take("qweight") else {
            return Ok(None);
        };
        let tensors = Gptq {
            qweight,
            qzeros: self.require("qzeros")?,
            scales: self.require("scales")?,
            g_idx: self.take("g_idx"),
        };
        Ok(Some(tensors.read(parameters)))
    }

    fn awq(&mut self, group_size: Option<usize>) -> Read {
        let Some(qweight) = self.take("qweight") else {
            return Ok(None);
        };
        let tensors = Awq {
            qweight,
            qzeros: self.require("qzeros")?,
            scales: self.require("scales")?,
        };
        Ok(Some(tensors.read(group_size)))
    }

    fn mlx(&mut self, widths: Widths) -> Read {
        let Some(scales) = self.take("scales") else {
            return Ok(None);
        };
        let tensors = Mlx {
            weight: self.require("weight")?,
            scales,
            biases: self.require("biases")?,
        };
        Ok(Some(tensors.read(widths.bits, widths.group_size)))
    }

    fn bits_and_bytes(&mut self) -> Read {
        if let Some(scales) = self.take("SCB") {
            // 0: rows as they are, which is how files have them.
            let format = self.take("weight_format");
            if format.is_some_and(|format| format.bytes().iter().any(|&byte| byte != 0)) {
                let problem = "has a weight_format other than rows, which is not supported";
                return Ok(Some(Err(problem.to_owned())));
            }
            let tensors = Int8 {
                weight: self.require("weight")?,
                scales,
                zero_points: None,
                divisor: 127.0,
            };
            return Ok(Some(tensors.read()));
        }
        let states = ["nf4", "fp4"].map(|ty| format!("weight.quant_state.bitsandbytes__{ty}"));
        let Some(state) = states.iter().find_map(|name| self.take(name)) else {
            return Ok(None);
        };
        let nested = match self.take("weight.nested_quant_map") {
            Some(map) => Some([map, self.require("weight.nested_absmax")?]),
            None => None,
        };
        let tensors = Tensors {
            weight: self.require("weight")?,
            quant_map: self.require("weight.quant_map")?,
            absmax: self.require("weight.absmax")?,
            nested,
            state,
        };
        Ok(Some(tensors.read()))
    }

    fn pack_quantized(&mut self) -> Read {
        let Some(packed) = self.take("weight_packed") else {
            return Ok(None);
        };
        let tensors = Packed {
            packed,
            scales: self.require("weight_scale")?,
            zero_points: self.take("weight_zero_point"),
            g_idx: self.take("weight_g_idx"),
            shape: self.require("weight_shape")?,
        };
        Ok(Some(tensors.read()))
    }

    fn int_quantized(&mut self) -> Read {
        if !self.has("weight_scale") {
            return Ok(None);
        }
        let weight = self.require("weight")?;
        if weight.dtype != Dtype::I8 {
            let problem = format!(
                "has dtype {}, but int-quantized weights are I8",
                weight.dtype.name()
            );
            return Ok(Some(Err(problem)));
        }
        // Of activations: these are not rounded here.
        for unused in ["input_scale", "input_zero_point"] {
            self.take(unused);
        }
        let tensors = Int8 {
            weight,
            scales: self.require("weight_scale")?,
            zero_points: self.take("weight_zero_point"),
            divisor: 1.0,
        };
        Ok(Some(tensors.read()))
    }
}
