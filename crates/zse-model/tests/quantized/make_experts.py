"""Makes the fixtures of mixtures of experts as MLX stores them, all experts of a layer in one tensor.

    python make_experts.py        (needs torch, transformers >= 5, safetensors, gguf, mlx, mlx-lm)

MODEL/ beside this script is a tiny random model of transformers that mlx-lm has converted and
quantized by its own code, and MODEL.golden what transformers computes from the weights as mlx
dequantizes them (recorded.py). Prints how far mlx-lm's logits are from those."""

import json
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
import transformers as hf
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from safetensors.torch import save_file

from recorded import PROMPT, record

HERE = Path(__file__).parent
SIZES = dict(
    vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=128, bos_token_id=62, eos_token_id=63, pad_token_id=63, num_experts_per_tok=2,
    attn_implementation="eager", rope_parameters=dict(rope_type="default", rope_theta=10000.0),
)
# What mlx-lm calls transformers' parts of a mixture.
MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def wide_down(path: str, module) -> bool | dict:
    """Another width for the last product of each expert."""
    if not hasattr(module, "to_quantized") or path.endswith("gate"):
        return False
    return {"group_size": 64, "bits": 5} if "down_proj" in path else True


def qwen3moe():
    config = hf.Qwen3MoeConfig(**SIZES, intermediate_size=128, head_dim=16, num_experts=6, norm_topk_prob=True,
                               moe_intermediate_size=32, tie_word_embeddings=True)
    return hf.Qwen3MoeForCausalLM(config), None


def mixtral():
    config = hf.MixtralConfig(**SIZES, intermediate_size=64, num_local_experts=4, sliding_window=None)
    return hf.MixtralForCausalLM(config), wide_down


def dequantized(folder: Path) -> dict[str, np.ndarray]:
    """All weights of a directory that mlx-lm wrote, by mlx, experts apart as files of transformers have them."""
    quantization = json.loads((folder / "config.json").read_text())["quantization"]
    stored = mx.load(str(folder / "model.safetensors"))
    weights = {}
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        if f"{module}.scales" in stored:
            widths = quantization.get(module, quantization)
            scales, biases = (stored[f"{module}.{k}"].astype(mx.float32) for k in ("scales", "biases"))
            tensor = mx.dequantize(tensor, scales, biases, group_size=widths["group_size"], bits=widths["bits"])
        array = np.array(tensor.astype(mx.float32))
        if ".switch_mlp." not in module:
            weights[name] = array
            continue
        layer, part = module.split(".switch_mlp.")
        part = MIXTRAL[part] if "block_sparse_moe" in layer else part
        weights |= {f"{layer}.experts.{e}.{part}.weight": w for e, w in enumerate(array)}
    return weights


def make(kind: str, model, predicate, scratch: Path) -> None:
    model = model.float()
    for p in model.parameters():
        p.data = torch.randn(p.shape) * (0.3 if p.ndim > 1 else 0.2) / (p.shape[-1] / 16) ** 0.5 + (p.ndim == 1)
    model.to(torch.float16).save_pretrained(scratch)
    # mlx-lm wants what configurations had before transformers 5.
    content = json.loads((scratch / "config.json").read_text())
    content["rope_theta"] = content["rope_parameters"]["rope_theta"]
    content.setdefault("num_experts", content.get("num_local_experts"))
    (scratch / "config.json").write_text(json.dumps(content))
    own, config = load_model(scratch)
    own, config = quantize_model(own, config, 32, 4, quant_predicate=predicate or own.quant_predicate)
    folder = HERE / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_model(folder, own)
    save_config(config, folder / "config.json")
    (folder / "model.safetensors.index.json").unlink()

    plain = scratch / "plain"
    plain.mkdir()
    weights = {name: torch.from_numpy(w.copy()) for name, w in dequantized(folder).items()}
    original = json.loads((scratch / "config.json").read_text()) | {"dtype": "float32"}
    (plain / "config.json").write_text(json.dumps(original))
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    model, info = type(model).from_pretrained(plain, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    left = {k: v for k, v in info.items() if v}
    if set(left.pop("missing_keys", ())) - {"lm_head.weight"} or left:
        raise SystemExit(f"{kind}: transformers did not take all weights: {info}")

    down = next(w for name, w in weights.items() if ".experts.0." in name and ("w2" in name or "down_proj" in name))
    logits = record(kind, model, down[:16].numpy().copy())
    theirs = np.array(own(mx.array([PROMPT]))[0].astype(mx.float32))
    print(f"{kind}: logits of mlx-lm (f16) differ by {abs(theirs - logits).max() / abs(logits).max():.1e} of the largest")


@torch.no_grad()
def main() -> None:
    for kind, of in {"mlx-qwen3moe": qwen3moe, "mlx-mixtral": mixtral}.items():
        torch.manual_seed(11)
        with tempfile.TemporaryDirectory() as scratch:
            make(kind, *of(), Path(scratch))


if __name__ == "__main__":
    main()
