"""What ggml's encoders make of generated weights: bytes where rounding is fixed, else errors.

    python3 make_encode.py path/to/libggml-base.so

writes `encode.bin` (for each type of EXACT, little-endian: u32 id, u32 length, the bytes for the
first row of all kinds of weights one after another) and `encode_errors.txt` (a line `type kind seed importance
error`, the error being the sum of importance * (weight - decoded weight)^2). encode.rs generates
the same weights; keep `weights` and `importance` in step with it.
"""

import ctypes
import sys

import numpy as np

ROWS, COLS = 4, 512
SEEDS = [1, 2]
# Name and id. Rounding is fixed by the format, at least without importance.
EXACT = {"f16": 1, "bf16": 30, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}
SEARCHED = {
    "q2_K": 10,
    "q3_K": 11,
    "q4_K": 12,
    "q5_K": 13,
    "q6_K": 14,
    "iq4_nl": 20,
    "iq4_xs": 23,
    "mxfp4": 39,
}
SEARCHED_BY_IMPORTANCE = {name: EXACT[name] for name in ("q4_0", "q4_1", "q5_0", "q5_1")}
KINDS = [
    "normal",
    "peaked",
    "heavy",
    "outliers",
    "scaled",
    "tiny",
    "huge",
    "constant",
    "zero",
    "positive",
    "sparse",
    "ticks",
    "subnormal",
]


def draws(seed, count):
    """The first `count` numbers of SplitMix64, as multiples of 2^-24 in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def weights(kind, seed):
    """[ROWS, COLS] f32, in steps that are exact or rounded once in f64."""
    d = draws(seed, ROWS * COLS * 16).reshape(ROWS, COLS, 16)
    n, u = d[..., :12].sum(-1) - 6.0, d[..., 12]
    row, col = d[:, :1, 13], d[:1, :, 13]
    column = np.arange(COLS)
    values = {
        "normal": n * 0.02,
        "peaked": n * u * 0.05,
        "heavy": n * 0.02 / (u + 0.02),
        "outliers": n * np.where(column % 97 == 5, 0.4, 0.02),
        "scaled": n * (0.01 + 0.04 * row) * (0.5 + col) * np.where(u < 0.004, 6.0, 1.0),
        "tiny": n * 1e-6,
        "huge": n * 1000.0,
        "constant": n * 0.0 + (d[0, 0, 0] - 0.5),
        "zero": n * 0.0,
        "positive": 0.5 + np.abs(n) * 0.1,
        "sparse": np.where(u < 0.05, n, 0.0),
        "ticks": np.floor(n * 16.0) / 64.0,
        "subnormal": n * 1e-39,
    }
    return np.ascontiguousarray(values[kind].astype(np.float32))


def importance(seed):
    """[COLS] f32: squares of normal numbers, every 16th column without importance."""
    d = draws(seed + 1000, COLS * 16).reshape(COLS, 16)
    n = d[:, :12].sum(-1) - 6.0
    return np.where(np.arange(COLS) % 16 == 3, 0.0, n * n).astype(np.float32)


def main():
    """Writes both files."""
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_get_type_traits.restype = ctypes.c_void_p

    def encode(ty, x, weight):
        blocks = np.zeros(x.nbytes, dtype=np.uint8)
        size = ggml.ggml_quantize_chunk(
            ctypes.c_int(ty),
            ctypes.c_void_p(x.ctypes.data),
            ctypes.c_void_p(blocks.ctypes.data),
            ctypes.c_int64(0),
            ctypes.c_int64(len(x)),
            ctypes.c_int64(COLS),
            ctypes.c_void_p(None if weight is None else weight.ctypes.data),
        )
        return blocks[:size]

    with open("encode.bin", "wb") as f:
        for ty in EXACT.values():
            blocks = np.concatenate([encode(ty, weights(kind, 1)[:1], None) for kind in KINDS])
            np.array([ty, blocks.size], dtype="<u4").tofile(f)
            blocks.tofile(f)

    with open("encode_errors.txt", "w", encoding="ascii") as f:
        for kind in KINDS:
            for seed in SEEDS:
                x = weights(kind, seed)
                for label, weight in (("plain", None), ("weighted", importance(seed))):
                    types = SEARCHED if weight is None else SEARCHED | SEARCHED_BY_IMPORTANCE
                    for name, ty in types.items():
                        blocks = encode(ty, x, weight)
                        decoded = np.empty_like(x)
                        getattr(ggml, f"dequantize_row_{name}")(
                            ctypes.c_void_p(blocks.ctypes.data),
                            ctypes.c_void_p(decoded.ctypes.data),
                            ctypes.c_int64(x.size),
                        )
                        miss = x.astype(np.float64) - decoded.astype(np.float64)
                        counts = 1.0 if weight is None else weight.astype(np.float64)
                        print(name, kind, seed, label, repr(float((counts * miss**2).sum())), file=f)


main()
