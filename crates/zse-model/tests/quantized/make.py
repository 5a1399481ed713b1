"""Makes the fixtures of quantized directories: a tiny random model in each format that
zse-format's `hf/quant` reads, and what transformers computes from the dequantized weights.

    python make.py        (needs torch, transformers >= 5, safetensors, gguf, mlx, bitsandbytes,
                           compressed-tensors)

FORMAT/ beside this script is a directory as Hugging Face lays models out, and FORMAT.golden what it
computes (recorded.py), with the first rows of `down_proj` of layer 0 dequantized.

MLX, bitsandbytes and compressed-tensors quantize and dequantize by their own libraries. GPTQ and AWQ are
packed and unpacked here as AutoGPTQ's and AutoAWQ's modules do it (qlinear_cuda_old.py, gemm.py)."""

import json
import shutil
from pathlib import Path

import bitsandbytes.functional as bnb
import mlx.core as mx
import numpy as np
import torch
import transformers as hf
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from safetensors.torch import save_file

from recorded import record

HERE = Path(__file__).parent
CONFIG = dict(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=62, eos_token_id=63, pad_token_id=63,
    tie_word_embeddings=True, attn_implementation="eager",
)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
torch.manual_seed(5)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes `[rows, n]` as streams of bits along each row: i32 `[rows, n * bits / 32]`."""
    planes = (codes.astype(np.uint32)[..., None] >> np.arange(bits, dtype=np.uint32)) & 1
    return np.packbits(planes.astype(np.uint8).reshape(len(codes), -1), axis=1, bitorder="little").view(np.int32)


def quantize(w: torch.Tensor, bits: int, group_of: np.ndarray, symmetric: bool):
    """Codes `[rows, cols]`, zero points and f16 scales `[rows, groups]` by rounding to nearest."""
    w = w.float().numpy()
    groups = group_of.max() + 1
    codes, zeros, scales = np.zeros(w.shape, np.int64), [], []
    for g in range(groups):
        part = w[:, group_of == g]
        top = 2**bits - 1
        if symmetric:
            scale, zero = 2 * abs(part).max(1) / top, np.full(len(w), 2 ** (bits - 1))
        else:
            low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
            scale = (high - low) / top
            zero = np.clip(np.round(-low / scale), 1, top)
        scale = scale.astype(np.float16)
        codes[:, group_of == g] = np.clip(np.round(part / scale[:, None].astype(np.float32)) + zero[:, None], 0, top)
        zeros.append(zero.astype(np.int64))
        scales.append(scale)
    return codes, np.stack(zeros, 1), np.stack(scales, 1)


def dequantize(codes, zeros, scales, group_of) -> torch.Tensor:
    return torch.from_numpy((scales[:, group_of].astype(np.float32) * (codes - zeros[:, group_of])).astype(np.float32))


def gptq(bits, group, symmetric, act_order=False, version=1):
    def layer(name, w):
        rows, cols = w.shape
        size = cols if group == -1 else group
        group_of = np.arange(cols) // size
        if act_order:
            group_of = np.random.default_rng(3).permutation(group_of)
        codes, zeros, scales = quantize(w, bits, group_of, symmetric)
        stored = zeros.T - 1 if version == 1 else zeros.T
        tensors = {
            "qweight": torch.from_numpy(np.ascontiguousarray(pack(codes, bits).T)),
            "qzeros": torch.from_numpy(pack(stored, bits)),
            "scales": torch.from_numpy(np.ascontiguousarray(scales.T)),
            "g_idx": torch.from_numpy(group_of.astype(np.int32)),
        }
        return tensors, dequantize(codes, zeros, scales, group_of)

    config = dict(quant_method="gptq", bits=bits, group_size=group, desc_act=act_order, sym=symmetric,
                  checkpoint_format="gptq" if version == 1 else "gptq_v2")
    return layer, dict(quantization_config=config)


def awq(group):
    def layer(name, w):
        group_of = np.arange(w.shape[1]) // group
        codes, zeros, scales = quantize(w, 4, group_of, False)

        def packed(values):
            """`[rows, out]` -> `[rows, out / 8]`, interleaved."""
            eight = values.reshape(len(values), -1, 8)[..., AWQ_ORDER]
            return torch.from_numpy(pack(eight.reshape(values.shape), 4))

        tensors = dict(qweight=packed(codes.T), qzeros=packed(zeros.T), scales=torch.from_numpy(np.ascontiguousarray(scales.T)))
        return tensors, dequantize(codes, zeros, scales, group_of)

    return layer, dict(quantization_config=dict(quant_method="awq", bits=4, group_size=group, version="gemm", zero_point=True))


def mlx(bits, group, dtype=torch.float16):
    to_mx = {torch.float16: mx.float16, torch.bfloat16: mx.bfloat16}[dtype]

    def to_torch(array):
        return torch.from_numpy(np.array(array.astype(mx.float32))).to(dtype)

    def layer(name, w):
        q, scales, biases = mx.quantize(mx.array(w.float().numpy()).astype(to_mx), group_size=group, bits=bits)
        back = mx.dequantize(q, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)
        tensors = dict(weight=torch.from_numpy(np.array(q)), scales=to_torch(scales), biases=to_torch(biases))
        return tensors, torch.from_numpy(np.array(back.astype(mx.float32)))

    layer.embeds = True
    return layer, dict(quantization=dict(group_size=group, bits=bits), quantization_config=dict(group_size=group, bits=bits))


def nf4(kind, nested, dtype):
    def layer(name, w):
        data, state = bnb.quantize_4bit(w.to(dtype), quant_type=kind, blocksize=64, compress_statistics=nested)
        back = bnb.dequantize_4bit(data, state)
        tensors = {"weight": data}
        tensors |= {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        return tensors, back.float()

    config = dict(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested)
    return layer, dict(quantization_config=config)


def llm_int8():
    def layer(name, w):
        data, absmax, _ = bnb.int8_vectorwise_quant(w.half())
        back = bnb.int8_vectorwise_dequant(data, absmax)
        return {"weight": data, "SCB": absmax, "weight_format": torch.tensor(0, dtype=torch.uint8)}, back.float()

    return layer, dict(quantization_config=dict(quant_method="bitsandbytes", load_in_8bit=True))


def compressed(bits, group, symmetric, dtype=torch.bfloat16):
    """`pack-quantized`."""
    def layer(name, w):
        rows, cols = w.shape
        size = cols if group is None else group
        parts = w.float().reshape(rows, -1, size)
        top = 2**bits - 1
        if symmetric:
            scale = 2 * parts.abs().amax(2) / top
            zero = torch.zeros_like(scale, dtype=torch.int8)
        else:
            low, high = parts.amin(2).clamp(max=0), parts.amax(2).clamp(min=0)
            scale = (high - low) / top
            zero = (-(2 ** (bits - 1)) - low / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8)
        scale = scale.to(dtype)
        q = (parts / scale.float()[..., None] + zero.float()[..., None]).round()
        q = q.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8)
        packed = pack_to_int32(q.reshape(rows, cols), bits)
        tensors = dict(weight_packed=packed, weight_scale=scale, weight_shape=torch.tensor([rows, cols]))
        if not symmetric:
            tensors["weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0).contiguous()
            assert torch.equal(unpack_from_int32(tensors["weight_zero_point"], bits, zero.shape, packed_dim=0), zero)
        q = unpack_from_int32(packed, bits, torch.Size([rows, cols])).reshape(parts.shape)
        back = (q.float() - zero.float()[..., None]) * scale.float()[..., None]
        return tensors, back.reshape(rows, cols)

    return layer, dict(quantization_config=dict(quant_method="compressed-tensors", format="pack-quantized"))


def int_quantized(dtype=torch.bfloat16):
    def layer(name, w):
        scale = (w.float().abs().amax(1, keepdim=True) / 127).to(dtype)
        q = (w.float() / scale.float()).round().clamp(-128, 127).to(torch.int8)
        return dict(weight=q, weight_scale=scale), q.float() * scale.float()

    return layer, dict(quantization_config=dict(quant_method="compressed-tensors", format="int-quantized"))


FORMATS = {
    "gptq-4-sym": gptq(4, 32, True),
    "gptq-4-asym": gptq(4, 32, False),
    "gptq-4-v2": gptq(4, 64, False, version=2),
    "gptq-4-act-order": gptq(4, 32, True, act_order=True),
    "gptq-2": gptq(2, 32, False),
    "gptq-3": gptq(3, -1, False),
    "gptq-8": gptq(8, 32, True),
    "gptq-8-asym": gptq(8, 64, False),
    "awq": awq(32),
    **{f"mlx-{bits}": mlx(bits, 32) for bits in (2, 3, 4, 5, 6, 8)},
    "mlx-4-bf16": mlx(4, 64, torch.bfloat16),
    "nf4": nf4("nf4", False, torch.float16),
    "nf4-nested": nf4("nf4", True, torch.bfloat16),
    "fp4": nf4("fp4", False, torch.bfloat16),
    "llm-int8": llm_int8(),
    "compressed-4": compressed(4, 32, True),
    "compressed-4-asym": compressed(4, 32, False),
    "compressed-4-channel": compressed(4, None, True, torch.float16),
    "compressed-8": compressed(8, 32, True),
    "compressed-int8": int_quantized(),
}


@torch.no_grad()
def main() -> None:
    rope = dict(rope_type="default", rope_theta=10000.0)
    config = hf.LlamaConfig(**CONFIG, rope_parameters=rope)
    model = hf.LlamaForCausalLM(config).float()
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape) * (0.3 if p.ndim == 2 else 0.2) / (p.shape[-1] / 16) ** 0.5 + (p.ndim == 1)
        p.data = p.data.half().float()
    original = {name: w.clone() for name, w in model.state_dict().items()}
    for kind, (layer, more) in FORMATS.items():
        tensors, plain = {}, {}
        for name, w in original.items():
            module = name.removesuffix(".weight")
            if name == "lm_head.weight":
                continue
            if w.ndim == 2 and ("proj" in name or getattr(layer, "embeds", False)):
                made, plain[name] = layer(module, w)
                tensors |= {f"{module}.{k}": v.contiguous() for k, v in made.items()}
            else:
                tensors[name], plain[name] = w.half(), w
        model.load_state_dict({**plain, "lm_head.weight": plain["model.embed_tokens.weight"]})
        folder = HERE / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        content = json.loads(config.to_json_string()) | more
        content.setdefault("quantization_config", more.get("quantization_config"))
        (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n")
        record(kind, model, plain["model.layers.0.mlp.down_proj.weight"][:16].numpy().copy())


if __name__ == "__main__":
    main()
