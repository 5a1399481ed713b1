//! Which of GGUF's tensors a module of a model is, for what stands beside the model.

use super::rules::Change;
use super::stored::renamed;
use super::{FAMILIES, Family};

/// Where the weight of a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleWeight {
    /// The tensor, without `.weight`.
    pub(crate) tensor: String,
    /// Which matrix of the tensor.
    pub(crate) expert: usize,
    /// What becomes of its numbers there.
    pub(crate) change: Change,
}

/// Where the weight of `module` is in models of `architecture`; `None` for a module that such models
/// do not have.
pub(crate) fn tensor_of(architecture: &str, module: &str) -> Option<ModuleWeight> {
    let mut families = FAMILIES.iter().filter(|f| f.architecture == architecture);
    families.find_map(|family| {
        let renamed = renamed(module, family.renames);
        // Models without a head have no `model.` before their layers.
        find(family, &renamed).or_else(|| find(family, &format!("model.{renamed}")))
    })
}

/// The block of layer `l`, `blk.l`, whose experts transformers 5 keeps in `module`, all of them in one
/// parameter; `None` for other modules, and for architectures without mixtures.
pub(crate) fn block_of_experts(architecture: &str, module: &str) -> Option<String> {
    let mut families = FAMILIES.iter().filter(|f| f.architecture == architecture);
    let has_experts = |f: &&Family| f.rules.iter().any(|rule| rule.stacked.is_some());
    if !families.any(has_experts) {
        return None;
    }
    let (layer, _) = numbers("model.layers.{l}.mlp.experts", module)?;
    Some(format!("blk.{layer}"))
}

fn find(family: &Family, module: &str) -> Option<ModuleWeight> {
    family.rules.iter().find_map(|rule| {
        let (layer, expert) = numbers(rule.from, module)?;
        Some(ModuleWeight {
            tensor: rule.to.replace("{l}", layer),
            expert: expert.parse().ok()?,
            change: rule.change,
        })
    })
}

/// What stands in `module` where `pattern` has `{l}` and `{e}`, if the rest is the same. A pattern
/// without experts has expert 0.
fn numbers<'m>(mut pattern: &str, module: &'m str) -> Option<(&'m str, &'m str)> {
    let (mut rest, mut layer, mut expert) = (module, "", "0");
    while let Some((before, behind)) = pattern.split_once('{') {
        rest = rest.strip_prefix(before)?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, next) = rest.split_at(end.unwrap_or(rest.len()));
        let is_plain = number == "0" || !number.is_empty() && !number.starts_with('0');
        let (key, next_pattern) = behind.split_once('}').filter(|_| is_plain)?;
        match key {
            "l" => layer = number,
            _ => expert = number,
        }
        (rest, pattern) = (next, next_pattern);
    }
    (rest == pattern).then_some((layer, expert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_lead_to_their_tensors() {
        for (architecture, module, expected) in [
            ("llama", "model.layers.0.self_attn.v_proj", "blk.0.attn_v"),
            ("llama", "model.layers.31.mlp.down_proj", "blk.31.ffn_down"),
            ("llama", "layers.7.mlp.down_proj", "blk.7.ffn_down"),
            ("llama", "lm_head", "output"),
            (
                "llama",
                "model.layers.2.block_sparse_moe.experts.12.w1",
                "blk.2.ffn_gate_exps",
            ),
            (
                "gemma3",
                "model.language_model.layers.1.self_attn.q_proj",
                "blk.1.attn_q",
            ),
            (
                "bert",
                "bert.encoder.layer.1.attention.self.key",
                "blk.1.attn_k",
            ),
        ] {
            let found = tensor_of(architecture, module).expect(module);
            let expert = if module.contains("experts") { 12 } else { 0 };
            assert_eq!((found.tensor.as_str(), found.expert), (expected, expert));
            assert_eq!(found.change, Change::None);
        }
        let found = tensor_of("llama", "model.layers.0.self_attn.k_proj").expect("a rule");
        assert_eq!(found.change, Change::RotatedKeys);
        let block = |architecture| block_of_experts(architecture, "model.layers.3.mlp.experts");
        assert_eq!(block("qwen3moe").as_deref(), Some("blk.3"));
        assert_eq!(block("qwen3"), None);
        for module in [
            "model.layers.00.self_attn.v_proj",
            "model.layers..self_attn.v_proj",
            "model.layers.x.self_attn.v_proj",
            "model.layers.1.self_attn.v_proj.x",
            "model.layers.1.mlp.fc1",
            "",
        ] {
            assert_eq!(tensor_of("llama", module), None, "{module}");
        }
        assert_eq!(tensor_of("unknown", "lm_head"), None);
    }
}
