"""Golden vectors: random blocks of every weight type with ggml's own decoding of them.

    python3 make.py path/to/libggml-base.so [out.bin [values_per_type [seed]]]

writes, little-endian, for each type: u32 id, u32 bytes of blocks, u32 values, the blocks, the
values as f32. Every byte of a block is random, except that the exponent bits of float scales are
drawn so that no scale is infinite or NaN (whose payload is nobody's contract). decode.rs reads
`decode.bin`; for a big comparison, write a larger file and point ZSE_GOLDEN at it.
"""

import ctypes
import sys

import numpy as np


class Traits(ctypes.Structure):
    """ggml_type_traits of ggml.h."""

    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("block_len", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float", ctypes.c_void_p),
    ]


# id -> offsets of f16 scales in a block. F32 and Q8_K have no to_float in ggml's table.
TYPES = {
    0: [], 1: [0], 2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0],
    10: [80, 82], 11: [108], 12: [0, 2], 13: [0, 2], 14: [208], 15: [],
    16: [0], 17: [0], 18: [0], 19: [0], 20: [0], 21: [0], 22: [0], 23: [0],
    29: [], 30: [], 34: [52], 35: [64], 39: [], 40: [],
}  # fmt: skip


def f16(rng, n):
    """Random finite f16 bit patterns, subnormals and both zeros among them."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    bits[rng.random(n) < 0.02] &= 0x8000
    return bits


def random_blocks(rng, ty, n, size):
    """n blocks of `size` random bytes with finite scales."""
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for offset in TYPES[ty]:
        blocks[:, offset : offset + 2] = f16(rng, n).view(np.uint8).reshape(n, 2)
    if ty in (0, 15, 30):  # f32 or bf16: clear one exponent bit where all are set
        top = 1 if ty == 30 else 3
        full = ((blocks[:, top] & 0x7F) == 0x7F) & (blocks[:, top - 1] >= 0x80)
        blocks[full, top] ^= 0x40
    if ty == 29:  # IQ1_M's f16 scale is spread over the upper nibbles of four u16
        bits = f16(rng, n)
        for i in range(4):
            nibble = ((bits >> (4 * i)) & 15).astype(np.uint8)
            blocks[:, 49 + 2 * i] = (blocks[:, 49 + 2 * i] & 15) | (nibble << 4)
    return blocks


def main():
    """Writes the file."""
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    out = sys.argv[2] if len(sys.argv) > 2 else "decode.bin"
    values = int(sys.argv[3]) if len(sys.argv) > 3 else 768
    rng = np.random.default_rng(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    with open(out, "wb") as f:
        for ty in TYPES:
            traits = ggml.ggml_get_type_traits(ty).contents
            length, size = traits.block_len, traits.block_bytes
            n = values // length
            blocks = random_blocks(rng, ty, n, size)
            decoded = np.empty(n * length, dtype=np.float32)
            args = (blocks.ctypes.data, decoded.ctypes.data, decoded.size)
            if ty == 0:
                decoded = blocks.view(np.float32).reshape(-1)
            elif ty == 15:
                ggml.dequantize_row_q8_K(*map(ctypes.c_void_p, args[:2]), ctypes.c_int64(args[2]))
            else:
                traits.to_float(*args)
            assert not np.isnan(decoded).any(), traits.type_name
            np.array([ty, blocks.size, decoded.size], dtype="<u4").tofile(f)
            blocks.tofile(f)
            decoded.astype("<f4").tofile(f)


main()
