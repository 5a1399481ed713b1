"""Golden vectors: random blocks of every weight type with ggml's own decoding of them.

    python3 make.py path/to/libggml-base.so [out.bin [values_per_type [seed]]]

writes, little-endian, for each type: u32 id, u32 bytes of blocks, u32 values, the blocks, the
values as f32. Every byte of every block is random, so that scales may be infinite or NaN.
decode.rs reads `decode.bin`; for a big comparison, write a larger file and point ZSE_GOLDEN at it.
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


# F32 and Q8_K have no to_float in ggml's table.
F32, Q8_K = 0, 15
TYPES = [F32, 1, 2, 3, *range(6, 9), *range(10, 24), 29, 30, 34, 35, *range(39, 43)]


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
            blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
            decoded = np.empty(n * length, dtype=np.float32)
            args = (blocks.ctypes.data, decoded.ctypes.data, decoded.size)
            if ty == F32:
                decoded = blocks.view(np.float32).reshape(-1)
            elif ty == Q8_K:
                ggml.dequantize_row_q8_K(*map(ctypes.c_void_p, args[:2]), ctypes.c_int64(args[2]))
            else:
                traits.to_float(*args)
            np.array([ty, blocks.size, decoded.size], dtype="<u4").tofile(f)
            blocks.tofile(f)
            decoded.astype("<f4").tofile(f)


main()
