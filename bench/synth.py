"""Models of real shapes with random weights, for measurements of speed where no trained ones can be
had. Needs numpy. The text that they write is noise.

    python3 bench/synth.py SHAPE QUANT OUT.gguf
"""

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model, and the rate of its rotary embedding."""

    arch: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    head_dim: int
    theta: float
    vocab: int
    bias: bool = False
    tied: bool = False
    experts: int = 0
    used: int = 0


SHAPES = {
    "tiny": Shape("llama", 256, 4, 8, 4, 768, 32, 1e4, 4096),
    "tinyllama": Shape("llama", 2048, 22, 32, 4, 5632, 64, 1e4, 32000),
    "llama1": Shape("llama", 2048, 16, 32, 8, 8192, 64, 5e5, 128256, tied=True),
    "llama8": Shape("llama", 4096, 32, 32, 8, 14336, 128, 5e5, 128256),
    "qwen7": Shape("qwen2", 3584, 28, 28, 4, 18944, 128, 1e6, 152064, bias=True),
    "moe-small": Shape("qwen3moe", 1024, 12, 16, 4, 512, 64, 1e6, 32000, experts=32, used=4),
}

# Type: its number in GGUF, weights and bytes of a block, and where in a block f16 scales stand and
# what they are, so that activations stay finite.
TYPES = {
    "f32": (0, 1, 4, []),
    "f16": (1, 1, 2, []),
    "q4_0": (2, 32, 18, [(0, 5e-3)]),
    "q4_1": (3, 32, 20, [(0, 5e-3), (2, -4e-2)]),
    "q5_0": (6, 32, 22, [(0, 2e-3)]),
    "q5_1": (7, 32, 24, [(0, 2e-3), (2, -3e-2)]),
    "q8_0": (8, 32, 34, [(0, 3e-4)]),
    "q2_k": (10, 256, 84, [(80, 2e-3), (82, 3e-3)]),
    "q3_k": (11, 256, 110, [(108, 4e-4)]),
    "q4_k": (12, 256, 144, [(0, 4e-4), (2, 3e-3)]),
    "q5_k": (13, 256, 176, [(0, 2e-4), (2, 3e-3)]),
    "q6_k": (14, 256, 210, [(208, 2e-5)]),
    "iq2_xxs": (16, 256, 66, [(0, 2e-3)]),
    "iq2_xs": (17, 256, 74, [(0, 2e-3)]),
    "iq3_xxs": (18, 256, 98, [(0, 1e-3)]),
    "iq1_s": (19, 256, 50, [(0, 5e-3)]),
    "iq4_nl": (20, 32, 18, [(0, 4e-4)]),
    "iq3_s": (21, 256, 110, [(0, 5e-4)]),
    "iq2_s": (22, 256, 82, [(0, 2e-3)]),
    "iq4_xs": (23, 256, 136, [(0, 2e-5)]),
    "bf16": (30, 1, 2, []),
}

# Mixtures: most tensors, and those that they keep at a higher precision.
MIXTURES = {
    "q4_k_m": ("q4_k", "q6_k"),
    "q4_0": ("q4_0", "q6_k"),
}

ALIGNMENT = 32


class Gguf:
    """A GGUF file in the making."""

    def __init__(self) -> None:
        self.metadata: list[bytes] = []
        self.tensors: list[tuple[str, tuple[int, ...], str]] = []

    def put(self, key: str, value) -> None:
        self.metadata.append(_string(key) + _value(value))

    def declare(self, name: str, ty: str, *dims: int) -> None:
        self.tensors.append((name, dims, ty))

    def write(self, path: Path, data) -> None:
        """Writes the file; `data(type, weights)` gives a tensor's bytes."""
        out = [struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.metadata))]
        out += self.metadata
        offset = 0
        for name, dims, ty in self.tensors:
            shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
            out.append(_string(name) + shape + struct.pack("<IQ", TYPES[ty][0], offset))
            offset += _padded(_bytes(ty, dims))
        header = b"".join(out)
        with open(path, "wb") as file:
            file.write(header.ljust(_padded(len(header)), b"\0"))
            for _, dims, ty in self.tensors:
                block = data(ty, int(np.prod(dims)))
                file.write(block)
                file.write(b"\0" * (_padded(len(block)) - len(block)))


def _padded(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _bytes(ty: str, dims: tuple[int, ...]) -> int:
    _, length, size, _ = TYPES[ty]
    return int(np.prod(dims)) // length * size


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _value(value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _string(value)
        case [str(), *_]:
            items = b"".join(_string(item) for item in value)
            return struct.pack("<IIQ", 9, 8, len(value)) + items
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    raise TypeError(f"no GGUF value: {value!r}")


def vocabulary(gguf: Gguf, size: int) -> None:
    """Byte-level BPE without merges: the 256 bytes, then words that no text gives."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    tokens = [letters[b] for b in range(256)]
    tokens += [f"<word {i}>" for i in range(len(tokens), size - 1)] + ["<end>"]
    gguf.put("tokenizer.ggml.model", "gpt2")
    gguf.put("tokenizer.ggml.pre", "gpt-2")
    gguf.put("tokenizer.ggml.tokens", tokens)
    gguf.put("tokenizer.ggml.token_type", [1] * (size - 1) + [3])
    gguf.put("tokenizer.ggml.merges", [f"{letters[104]} {letters[105]}"])
    gguf.put("tokenizer.ggml.bos_token_id", size - 1)
    gguf.put("tokenizer.ggml.eos_token_id", size - 1)


def weights(rng: np.random.Generator):
    """Random blocks, cut from a pool at random places: fast, and repeated only after 64 MiB."""
    pool = rng.integers(0, 256, 64 << 20, dtype=np.uint8)

    def data(ty: str, n: int) -> bytes:
        if ty == "f32":
            return np.ones(n, np.float32).tobytes()
        if ty in ("f16", "bf16"):
            # Small numbers of both signs.
            bits = rng.integers(0, 128, n, dtype=np.uint16) | {"f16": 0x2000, "bf16": 0x3C00}[ty]
            return (bits | rng.integers(0, 2, n, dtype=np.uint16) << 15).astype("<u2").tobytes()
        _, length, size, scales = TYPES[ty]
        total = n // length * size
        start = int(rng.integers(0, 1 << 20))
        blocks = np.resize(pool[start:], total).reshape(-1, size)
        for at, scale in scales:
            blocks[:, at : at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        return blocks.tobytes()

    return data


def tensors(s: Shape, quant: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Names, types and dimensions, the innermost first."""
    base, high = MIXTURES.get(quant, (quant, quant))
    stack = (s.experts,) if s.experts else ()
    kind = "_exps" if s.experts else ""
    # Of matrices that are looked up, llama.cpp's mixtures keep tied ones at the higher precision.
    out = [("token_embd.weight", high if s.tied else base, (s.width, s.vocab))]
    if not s.tied:
        out.append(("output.weight", high, (s.width, s.vocab)))
    out.append(("output_norm.weight", "f32", (s.width,)))
    q_width, kv_width = s.heads * s.head_dim, s.kv_heads * s.head_dim
    for i in range(s.layers):
        p = f"blk.{i}."
        # As llama.cpp's mixtures: the first and last eighth of the layers, and every third between.
        more = i < s.layers // 8 or i >= 7 * s.layers // 8 or (i - s.layers // 8) % 3 == 2
        mixed = high if more else base
        out += [(p + f"{name}_norm.weight", "f32", (s.width,)) for name in ("attn", "ffn")]
        for name, rows, ty in (("q", q_width, base), ("k", kv_width, base), ("v", kv_width, mixed)):
            out.append((p + f"attn_{name}.weight", ty, (s.width, rows)))
            if s.bias:
                out.append((p + f"attn_{name}.bias", "f32", (rows,)))
        out.append((p + "attn_output.weight", base, (q_width, s.width)))
        if s.arch.startswith("qwen3"):
            out += [(p + f"attn_{name}_norm.weight", "f32", (s.head_dim,)) for name in "qk"]
        if s.experts:
            out.append((p + "ffn_gate_inp.weight", "bf16", (s.width, s.experts)))
        out += [
            (p + f"ffn_gate{kind}.weight", base, (s.width, s.ff, *stack)),
            (p + f"ffn_up{kind}.weight", base, (s.width, s.ff, *stack)),
            (p + f"ffn_down{kind}.weight", mixed, (s.ff, s.width, *stack)),
        ]
    return out


@dataclass(frozen=True)
class Work:
    """What a model has to do for a token."""

    # Bytes of weights that are read to generate one.
    bytes: float
    # Operations (two a multiply-add) on one of a prompt.
    ops: float
    # Numbers of keys and values that it leaves behind.
    kv: int


def work(shape_name: str, quant: str) -> Work:
    s = SHAPES[shape_name]
    total, ops = 0.0, 0.0
    for name, ty, dims in tensors(s, quant):
        used = s.used / s.experts if len(dims) == 3 else 1
        if name != "token_embd.weight" or s.tied:
            total += _bytes(ty, dims) * used
        if len(dims) > 1 and name.startswith("blk."):
            ops += 2 * int(np.prod(dims)) * used
    return Work(total, ops, 2 * s.layers * s.kv_heads * s.head_dim)


def make(shape_name: str, quant: str, path: Path) -> None:
    """Writes the model of a shape with weights of a type or mixture."""
    s = SHAPES[shape_name]
    gguf = Gguf()
    gguf.put("general.architecture", s.arch)
    gguf.put("general.name", f"{shape_name} {quant} (random)")
    for key, value in {
        "context_length": 32768,
        "embedding_length": s.width,
        "block_count": s.layers,
        "feed_forward_length": s.ff,
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
        "attention.key_length": s.head_dim,
        "attention.value_length": s.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": s.theta,
        "rope.dimension_count": s.head_dim,
        "vocab_size": s.vocab,
    }.items():
        gguf.put(f"{s.arch}.{key}", value)
    if s.experts:
        gguf.put(f"{s.arch}.expert_count", s.experts)
        gguf.put(f"{s.arch}.expert_used_count", s.used)
        gguf.put(f"{s.arch}.expert_feed_forward_length", s.ff)
    vocabulary(gguf, s.vocab)
    for name, ty, dims in tensors(s, quant):
        gguf.declare(name, ty, *dims)
    partial = path.with_suffix(".part")
    gguf.write(partial, weights(np.random.default_rng(0)))
    partial.rename(path)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in TYPES | MIXTURES:
        sys.exit(f"{__doc__}\nshapes: {' '.join(SHAPES)}\nquants: {' '.join(TYPES | MIXTURES)}")
    make(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
