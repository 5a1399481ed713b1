//! Which of GGUF's tensors a module of a model is, for what stands beside the model.

use super::rules::Change;
use super::stored::renamed;
use super::{FAMILIES, Family};

/// The tensor without `.weight` that the weight of `module` is in models of `architecture`, and what
/// becomes of its numbers there; `None` for a module that such models do not have.
pub(crate) fn tensor_of(architecture: &str, module: &str) -> Option<(String, Change)> {
    let mut families = FAMILIES.iter().filter(|f| f.architecture == architecture);
    families.find_map(|family| {
        let renamed = renamed(module, family.renames);
        // Models without a head have no `model.` before their layers.
        find(family, &renamed).or_else(|| find(family, &format!("model.{renamed}")))
    })
}

fn find(family: &Family, module: &str) -> Option<(String, Change)> {
    family.rules.iter().find_map(|rule| {
        let layer = layer(rule.from, module)?;
        Some((rule.to.replace("{l}", layer), rule.change))
    })
}

/// What stands in `module` where `pattern` has `{l}`, if the rest is the same; the numbers of
/// experts, `{e}`, all stand for one tensor.
fn layer<'m>(mut pattern: &str, module: &'m str) -> Option<&'m str> {
    let (mut rest, mut layer) = (module, "");
    while let Some((before, behind)) = pattern.split_once('{') {
        rest = rest.strip_prefix(before)?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, next) = rest.split_at(end.unwrap_or(rest.len()));
        let is_plain = number == "0" || !number.is_empty() && !number.starts_with('0');
        let (key, next_pattern) = behind.split_once('}').filter(|_| is_plain)?;
        if key == "l" {
            layer = number;
        }
        (rest, pattern) = (next, next_pattern);
    }
    (rest == pattern).then_some(layer)
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
            let (found, change) = tensor_of(architecture, module).expect(module);
            assert_eq!((found.as_str(), change), (expected, Change::None));
        }
        let (_, change) = tensor_of("llama", "model.layers.0.self_attn.k_proj").expect("a rule");
        assert_eq!(change, Change::RotatedKeys);
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
