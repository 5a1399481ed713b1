//! Which type each tensor of a model gets.

use zse_format::{Checkpoint, TensorView};
use zse_quant::GgmlType;

use super::mixture::{Mixture, Rule};

/// What a tensor is for, as far as its type depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Embedding,
    Output,
    AttnV,
    AttnK,
    AttnOutput,
    FfnDown,
    Other,
}

impl Role {
    fn of(name: &str) -> Self {
        match name {
            "output.weight" => return Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => return Self::Embedding,
            _ => {}
        }
        let roles = [
            ("attn_qkv.weight", Self::AttnV),
            ("attn_kv_b.weight", Self::AttnV),
            ("attn_v.weight", Self::AttnV),
            ("attn_k.weight", Self::AttnK),
            ("attn_output.weight", Self::AttnOutput),
            ("ffn_down", Self::FfnDown),
        ];
        let found = roles.into_iter().find(|(part, _)| name.contains(part));
        found.map_or(Self::Other, |(_, role)| role)
    }
}

/// Names of matrices that stay as they are: tiny ones that decide much (routers, positions, token
/// types), and those that are not multiplied.
const KEPT: [&str; 8] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
    "rope_factors",
];

/// The type that a tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) ty: GgmlType,
    /// Whether blocks of the type that the mixture wants do not divide the tensor's rows.
    pub(crate) is_fallback: bool,
    /// Weights that share a scale, where these are more than a block has.
    pub(crate) group: Option<usize>,
}

impl Choice {
    /// The tensor's own type.
    pub(crate) fn unchanged(tensor: &TensorView<'_>) -> Self {
        Self {
            ty: tensor.ty,
            is_fallback: false,
            group: None,
        }
    }

    /// `ty`, or what comes nearest to it, for a tensor that is encoded at all.
    pub(crate) fn of_type(tensor: &TensorView<'_>, ty: GgmlType) -> Self {
        let wanted = if is_encoded(tensor) { ty } else { tensor.ty };
        let ty = fallback(wanted, tensor.shape[0] as usize);
        Self {
            ty,
            is_fallback: ty != wanted,
            group: None,
        }
    }
}

/// What the choice depends on besides the tensor itself.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    mixture: &'a Mixture,
    /// Every tensor that is encoded gets the base type.
    is_pure: bool,
    has_importance: bool,
    layers: usize,
    experts: usize,
    /// Query heads to a key head.
    sharing: usize,
    /// 8 heads share keys and values in 80 layers: `attn_v` is a small part of Llama 2/3 70B.
    is_70b: bool,
    /// Layers that have values of their own, in order.
    value_layers: Vec<usize>,
    is_tied: bool,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        mixture: &'a Mixture,
        is_pure: bool,
        has_importance: bool,
    ) -> Self {
        let metadata = checkpoint.metadata();
        let arch = metadata
            .str("general.architecture")
            .ok()
            .flatten()
            .unwrap_or_default();
        let number = |key: &str| {
            let value = metadata.u32(&format!("{arch}.{key}"));
            value.ok().flatten().map(|v| v as usize)
        };
        let layers = number("block_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(1);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let mut value_layers: Vec<usize> = checkpoint
            .tensors()
            .filter(|t| Role::of(t.name) == Role::AttnV)
            .filter_map(|t| layer_of(t.name))
            .collect();
        value_layers.sort_unstable();
        Self {
            mixture,
            is_pure,
            has_importance,
            layers,
            experts: number("expert_count").unwrap_or(0),
            sharing: heads / kv_heads.max(1),
            is_70b: layers == 80 && (arch == "qwen2" || arch == "llama" && heads != kv_heads),
            value_layers,
            is_tied: checkpoint.tensor("output.weight").is_none(),
        }
    }

    /// The type of `tensor` in the result; its own if it is to be copied.
    pub(crate) fn choose(&self, tensor: &TensorView<'_>) -> Choice {
        let base = self.mixture.base;
        let wanted = match self.is_pure || !base.is_quantized() {
            true => base,
            false => self.mixed(tensor),
        };
        let choice = Choice::of_type(tensor, wanted);
        Choice {
            group: self.mixture.group.filter(|_| choice.ty == base),
            ..choice
        }
    }

    fn mixed(&self, tensor: &TensorView<'_>) -> GgmlType {
        let base = self.mixture.base;
        let role = Role::of(tensor.name);
        let layer = layer_of(tensor.name).unwrap_or(0);
        if role == Role::Output || role == Role::Embedding && self.is_tied {
            let fits = base.row_bytes(tensor.shape[0] as usize).is_some();
            return match base {
                GgmlType::Q8_0 => base,
                _ if fits && !self.mixture.is_experts_only() => GgmlType::Q6K,
                _ => GgmlType::Q8_0,
            };
        }
        if self.mixture.is_experts_only() {
            let is_expert = tensor.shape.get(2).is_some_and(|&n| n > 1);
            return if is_expert { base } else { GgmlType::Q8_0 };
        }
        let of_8 = self.experts == 8;
        match role {
            Role::AttnV | Role::AttnK if of_8 => GgmlType::Q8_0,
            Role::AttnV => {
                let at = self.value_layers.partition_point(|&l| l < layer);
                let ty = self.apply(self.mixture.attn_v, at, self.value_layers.len());
                match ty {
                    GgmlType::Q3K | GgmlType::Q4K if self.is_70b => GgmlType::Q5K,
                    _ => ty,
                }
            }
            Role::AttnOutput if of_8 => {
                self.apply(self.mixture.attn_output_of_8, layer, self.layers)
            }
            Role::AttnOutput => self.apply(self.mixture.attn_output, layer, self.layers),
            Role::FfnDown => self.apply(self.mixture.ffn_down, layer, self.layers),
            Role::AttnK | Role::Embedding | Role::Output | Role::Other => base,
        }
    }

    /// The type that `rule` gives the `at`-th of `n` tensors of a kind.
    fn apply(&self, rule: Rule, at: usize, n: usize) -> GgmlType {
        let base = self.mixture.base;
        match rule {
            Rule::Base => base,
            Rule::Is(ty) => ty,
            Rule::MoreBits(ty) => {
                let is_edge = at < n / 8 || at >= 7 * n / 8;
                if is_edge || (at - n / 8) % 3 == 2 {
                    ty
                } else {
                    base
                }
            }
            Rule::First(count, ty, rest) => {
                if at < count {
                    ty
                } else {
                    rest
                }
            }
            Rule::FirstPart(part, ty, rest) => {
                if at < n / part {
                    ty
                } else {
                    rest
                }
            }
            Rule::Shared(ty, rest) => {
                if self.sharing >= 4 {
                    ty
                } else {
                    rest
                }
            }
            Rule::FirstEighthWeighted(ty) if self.has_importance && at < n / 8 => ty,
            Rule::FirstEighthUnweighted(ty) if !self.has_importance && at < n / 8 => ty,
            Rule::FirstEighthWeighted(_) | Rule::FirstEighthUnweighted(_) => base,
        }
    }
}

/// Whether a tensor is a matrix of weights, and not one of those that stay as they are.
fn is_encoded(tensor: &TensorView<'_>) -> bool {
    let is_matrix = tensor.shape.iter().skip(1).any(|&d| d > 1);
    is_matrix
        && tensor.ty.is_weight()
        && tensor.name.ends_with("weight")
        && !KEPT.iter().any(|part| tensor.name.contains(part))
}

/// `ty`, or the nearest type whose blocks divide rows of `cols` weights.
fn fallback(ty: GgmlType, cols: usize) -> GgmlType {
    let fits = |ty: GgmlType| ty.row_bytes(cols).is_some();
    if fits(ty) {
        return ty;
    }
    let smaller = match ty {
        GgmlType::Iq4Xs => GgmlType::Iq4Nl,
        GgmlType::Q2K | GgmlType::Q3K => GgmlType::Q4_0,
        GgmlType::Q4K => GgmlType::Q5_0,
        GgmlType::Q5K => GgmlType::Q5_1,
        GgmlType::Q6K => GgmlType::Q8_0,
        _ => GgmlType::F16,
    };
    if fits(smaller) {
        smaller
    } else {
        GgmlType::F16
    }
}

/// The layer in a name such as `blk.3.attn_v.weight`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
