"""Makes the fixtures whose weights libraries have quantized, packed and unpacked, in more families of models.

    python make_libraries.py [KIND...]
        (needs torch, transformers >= 5, safetensors, gguf, mlx, compressed-tensors, and the files of auto-gptq 0.7.1
         and autoawq 0.2.9, whose packages need not be importable: pip install --no-deps is enough; for version 2 of GPTQ
         also the source distribution of gptqmodel 7.7.0, unpacked where $GPTQMODEL says)

KIND/ beside this script is a tiny random model of transformers, saved by it and quantized; KIND.golden what
transformers computes from the weights as the format's library dequantizes them (recorded.py).

| format | quantized by | packed and unpacked by |
|---|---|---|
| GPTQ, in order of activation and not | AutoGPTQ's `GPTQ` on random activations | its `qlinear_cuda.QuantLinear` |
| GPTQ, version 2 | the same | the same, and GPTQModel's `convert_gptq_v1_to_v2_format_module` |
| AWQ | rounding to nearest, here: AutoAWQ's search needs a GPU | AutoAWQ's `WQLinear_GEMM`, `dequantize_gemm` |
| MLX | mlx | mlx |
| compressed-tensors: int8, FP8 a channel, FP8 a tensor | its `calculate_qparams` | its `ModelCompressor` |
| F16, BF16 | transformers | transformers |
"""

import ast
import importlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from recorded import record

HERE = Path(__file__).parent
SIZES = dict(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=62, eos_token_id=63, pad_token_id=63,
    tie_word_embeddings=True, attn_implementation="eager", rope_parameters=dict(rope_type="default", rope_theta=10000.0),
)

# Where groups need no more; rows and columns of GPTQ's matrices are multiples of 32.
SMALL = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, head_dim=16)


def bare(name: str, *parts: str) -> None:
    """Lets modules of a package be imported without what its `__init__` imports."""
    if name in sys.modules:
        return
    folder = Path(importlib.util.find_spec(name).submodule_search_locations[0])
    for part in ("", *parts):
        module = types.ModuleType(f"{name}.{part}".strip("."))
        module.__path__ = [str(folder / part.replace(".", "/"))]
        sys.modules[module.__name__] = module


def llama(**more):
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES | more))


def qwen2(**more):
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES | more))


def qwen3(**more):
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**SIZES | dict(head_dim=16) | more))


def phi3():
    sizes = SIZES | dict(hidden_size=32, num_attention_heads=2)
    return hf.Phi3ForCausalLM(hf.Phi3Config(**sizes, sliding_window=None))


def qwen3moe():
    mixture = dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True, head_dim=16)
    return hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**SIZES, **mixture))


def mixtral():
    sizes = SIZES | dict(intermediate_size=32)
    return hf.MixtralForCausalLM(hf.MixtralConfig(**sizes, num_local_experts=3, num_experts_per_tok=2, sliding_window=None))


def to_version_2():
    """GPTQModel's function that brings a packed module from version 1 to version 2, without what its file imports."""
    text = (Path(os.environ["GPTQMODEL"]) / "gptqmodel/utils/model.py").read_text()
    name = "convert_gptq_v1_to_v2_format_module"
    function = next(n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == name)
    scope = dict(torch=torch, nn=torch.nn, BaseQuantLinear=torch.nn.Module, log=mock.MagicMock())
    exec(ast.unparse(function), scope)
    return scope[name]


def gptq(bits: int, group: int, symmetric: bool, act_order: bool = True, version: int = 1):
    """Tensors and dequantized weights of a module, and what `config.json` says of it."""
    bare("auto_gptq", "nn_modules", "nn_modules.qlinear")
    GPTQ = importlib.import_module("auto_gptq.quantization").GPTQ
    QuantLinear = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda").QuantLinear

    # It waits for a GPU at the end, though nothing runs there.
    torch.cuda.synchronize = lambda *_: None

    def layer(w):
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False).half()
        linear.weight.data = w.half()
        own = GPTQ(linear.float())
        own.quantizer.configure(bits, perchannel=True, sym=symmetric, mse=False)
        # Channels that matter in another order than they stand in.
        activations = torch.randn(256, w.shape[1]) * torch.rand(w.shape[1]).mul(3).exp()
        own.add_batch(activations, None)
        scale, zero, g_idx = own.fasterquant(group_size=group, actorder=act_order)
        packed = QuantLinear(bits, group, w.shape[1], w.shape[0], False, weight_dtype=torch.float16)
        linear = linear.half()
        linear.weight.data = own.layer.weight.data.half()
        packed.pack(linear, scale.half().float(), zero, g_idx)
        tensors = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
        tensors["scales"], tensors["g_idx"] = tensors["scales"].half(), tensors["g_idx"].int()
        # In single precision, so that nothing is rounded but what the format has rounded.
        packed.scales = tensors["scales"].float()
        packed.g_idx = tensors["g_idx"].long()
        back = packed(torch.eye(w.shape[1])).T.contiguous()
        if version == 2:
            # That the module says so itself is newer than AutoGPTQ.
            packed.qzero_format = lambda format: None
            to_version_2()(packed, bits, torch.int32)
            tensors["qzeros"] = packed.qzeros
        return tensors, back

    config = dict(quant_method="gptq", bits=bits, group_size=group, desc_act=act_order, sym=symmetric, checkpoint_format="gptq" if version == 1 else "gptq_v2")
    return layer, config


def awq(group: int):
    bare("awq")
    WQLinear = importlib.import_module("awq.modules.linear.gemm").WQLinear_GEMM
    dequantize = importlib.import_module("awq.utils.packing_utils").dequantize_gemm

    def layer(w):
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        parts = w.float().reshape(w.shape[0], -1, group)
        low, high = parts.amin(2), parts.amax(2)
        scales = ((high - low).clamp(min=1e-5) / 15).half().float()
        zeros = (-low / scales).round().clamp(0, 15)
        shifted = (parts / scales[..., None]).round() + zeros[..., None]
        linear.weight.data = ((shifted.clamp(0, 15) - zeros[..., None]) * scales[..., None]).reshape(w.shape)
        packed = WQLinear.from_linear(linear, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
        back = dequantize(packed.qweight, packed.qzeros, packed.scales.float(), 4, group)
        return {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}, back.T.contiguous()

    return layer, dict(quant_method="awq", bits=4, group_size=group, version="gemm", zero_point=True)


def mlx(bits: int, group: int):
    import mlx.core as mx
    import numpy as np

    def layer(w):
        q, scales, biases = mx.quantize(mx.array(w.float().numpy()).astype(mx.float16), group_size=group, bits=bits)
        back = mx.dequantize(q, *(x.astype(mx.float32) for x in (scales, biases)), group_size=group, bits=bits)
        made = dict(weight=q, scales=scales, biases=biases)
        return {k: torch.from_numpy(np.array(v)) for k, v in made.items()}, torch.from_numpy(np.array(back.astype(mx.float32)))

    layer.embeds = True
    return layer, dict(group_size=group, bits=bits)


def compressed(strategy: str, ty: str, activations: bool):
    """Of whole models: compressed-tensors has its own idea of which modules it quantizes. What it calls the format
    depends on whether activations are to be quantized, which no golden has."""
    scheme = dict(num_bits=8, type=ty, strategy=strategy, symmetric=True)
    inputs = dict(num_bits=8, type=ty, strategy="token", dynamic=True, symmetric=True)

    def whole(model, folder: Path) -> dict[str, torch.Tensor]:
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
        from compressed_tensors.quantization.utils import calculate_qparams

        group = dict(targets=["Linear"], weights=scheme, input_activations=inputs if activations else None)
        apply_quantization_config(model, QuantizationConfig(config_groups=dict(group_0=group), ignore=["lm_head"]))
        for module in model.modules():
            if getattr(module, "quantization_scheme", None):
                args = module.quantization_scheme.weights
                w = module.weight.data.float()
                w = w if args.strategy == "channel" else w.reshape(1, -1)
                scale, _ = calculate_qparams(w.amin(1, keepdim=True), w.amax(1, keepdim=True), args)
                module.weight_scale.data = scale.reshape(module.weight_scale.shape).to(module.weight_scale.dtype)
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(folder)
        compressor.update_config(str(folder))
        for module in model.modules():
            if ty == "int" and hasattr(module, "weight_scale"):
                # A product that is rounded to BF16 would hide more than the format does.
                module.weight_scale.data = module.weight_scale.data.float()
        compressor.decompress_model(model)
        return {name: w.float() for name, w in model.state_dict().items() if name.endswith(("weight", "bias"))}

    return whole


def is_quantized(name: str, tensor: torch.Tensor, embeds: bool) -> bool:
    """Whether a tensor of a file is the weight of a product, and no router's; or an embedding, if `embeds`."""
    if embeds and "embed_tokens" in name:
        return True
    parts = (".q_proj.", ".k_proj.", ".v_proj.", ".o_proj.", "_proj.weight", ".w1.", ".w2.", ".w3.")
    return tensor.ndim == 2 and any(part in name for part in parts)


def plain(dtype: torch.dtype):
    def whole(model, folder: Path) -> None:
        model.to(dtype).save_pretrained(folder)

    return whole


KINDS = {
    "gptq-2-act-order": (lambda: llama(**SMALL), lambda: gptq(2, 32, True)),
    "gptq-3-act-order": (lambda: llama(**SMALL), lambda: gptq(3, 32, False)),
    "gptq-8-act-order": (lambda: llama(**SMALL), lambda: gptq(8, 32, True)),
    "gptq-2-groups": (lambda: llama(**SMALL), lambda: gptq(2, 32, False, act_order=False)),
    "gptq-3-groups": (lambda: llama(**SMALL), lambda: gptq(3, 32, True, act_order=False)),
    "gptq-4-groups": (qwen2, lambda: gptq(4, 64, False, act_order=False)),
    "gptq-8-groups": (lambda: llama(**SMALL), lambda: gptq(8, 32, True, act_order=False)),
    "gptq-4-groups-v2": (qwen2, lambda: gptq(4, 32, False, act_order=False, version=2)),
    "gptq-phi3": (phi3, lambda: gptq(4, 32, False)),
    "gptq-qwen3moe": (qwen3moe, lambda: gptq(4, 32, True)),
    "awq-qwen2": (qwen2, lambda: awq(64)),
    "awq-mixtral": (mixtral, lambda: awq(32)),
    "awq-128": (lambda: qwen2(hidden_size=128, intermediate_size=128, num_key_value_heads=1), lambda: awq(128)),
    "mlx-128": (lambda: llama(hidden_size=128, intermediate_size=128, num_key_value_heads=1), lambda: mlx(2, 128)),
    "compressed-int8-qwen2": (lambda: qwen2(**SMALL), compressed("channel", "int", True)),
    "compressed-fp8-channel": (lambda: qwen3(**SMALL), compressed("channel", "float", True)),
    "compressed-fp8-tensor": (lambda: llama(**SMALL), compressed("tensor", "float", False)),
    "plain-f16": (lambda: llama(**SMALL | dict(intermediate_size=32)), plain(torch.float16)),
    "plain-bf16": (lambda: qwen3(**SMALL | dict(intermediate_size=32)), plain(torch.bfloat16)),
}


def quantize(saved: Path, folder: Path, by) -> dict[str, torch.Tensor]:
    """Writes the directory of the quantized weights of a model that is saved, and gives them dequantized."""
    layer, method = by()
    tensors, back = {}, {}
    for name, w in load_file(saved / "model.safetensors").items():
        if not is_quantized(name, w, getattr(layer, "embeds", False)):
            tensors[name], back[name] = w, w.float()
            continue
        module = name.removesuffix(".weight")
        made, back[name] = layer(w.float())
        tensors |= {f"{module}.{part}": tensor.contiguous() for part, tensor in made.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((saved / "config.json").read_text()) | dict(quantization_config=method)
    if "quant_method" not in method:
        # MLX's has no name, and stands there twice.
        config["quantization"] = method
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return back


def make(kind: str, scratch: Path) -> None:
    build, by = KINDS[kind]
    torch.manual_seed(17)
    model = build().float()
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape) * (0.3 if p.ndim > 1 else 0.2) / (p.shape[-1] / 16) ** 0.5
        # Norms are near one, biases near nothing.
        p.data += float("norm" in name)
    folder = HERE / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    saved = scratch / "saved"
    dtype = torch.bfloat16 if kind.startswith("compressed") else torch.float16
    if kind.startswith(("compressed", "plain")):
        back = by(model.to(dtype), folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        saved = folder
    else:
        model.to(dtype).save_pretrained(saved)
        back = quantize(saved, folder, by)
    if back:
        # What the file has not (a tied output) is the model's own affair.
        names = set(load_file(saved / "model.safetensors")) if saved != folder else set(back) - {"lm_head.weight"}
        saved = scratch / "back"
        saved.mkdir()
        config = json.loads((folder / "config.json").read_text()) | {"dtype": "float32"}
        config = {key: value for key, value in config.items() if not key.startswith("quantization")}
        (saved / "config.json").write_text(json.dumps(config))
        weights = {name: w.contiguous() for name, w in back.items() if name in names}
        save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    model, info = type(model).from_pretrained(saved, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    left = {k: v for k, v in info.items() if v}
    if set(left.pop("missing_keys", ())) - {"lm_head.weight"} or left:
        raise SystemExit(f"{kind}: transformers did not take all weights: {info}")
    stored = load_file(saved / "model.safetensors")
    down = next(w for name, w in stored.items() if "down_proj" in name or ".experts.0.w2" in name)
    record(kind, model, down[:8].float().numpy().copy())
    size = sum(f.stat().st_size for f in folder.iterdir()) + (HERE / f"{kind}.golden").stat().st_size
    print(f"{kind}: {size} bytes")


def main() -> None:
    for kind in sys.argv[1:] or KINDS:
        with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
            make(kind, Path(scratch))


if __name__ == "__main__":
    main()
