"""Writes the fuzz target's seeds, seeds/gguf/*: small valid files that between them use every part
of the format. Run it from any folder; the result is the same every time."""

import struct
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?",
           U64: "Q", I64: "q", F64: "d"}


def string(text: bytes) -> bytes:
    """A length and bytes."""
    return struct.pack("<Q", len(text)) + text


def value(ty: int, content) -> bytes:
    """A metadata value; an array's content is (element type, items)."""
    if ty == STRING:
        return string(content)
    if ty == ARRAY:
        element, items = content
        head = struct.pack("<IQ", element, len(items))
        return head + b"".join(value(element, item) for item in items)
    return struct.pack("<" + FORMATS[ty], content)


def gguf(metadata, tensors, version=3, alignment=32) -> bytes:
    """A file of (key, type, content) and (name, dims, type id, bytes of data)."""
    if alignment != 32:
        metadata = [*metadata, (b"general.alignment", U32, alignment)]
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, ty, content in metadata:
        out += string(key) + struct.pack("<I", ty) + value(ty, content)
    data = b""
    for name, dims, ty, size in tensors:
        data += b"\0" * (-len(data) % alignment)
        out += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, ty, len(data))
        data += bytes(i % 251 for i in range(size))
    return out + b"\0" * (-len(out) % alignment if tensors else 0) + data


SCALARS = [(U8, 7), (I8, -7), (U16, 700), (I16, -700), (U32, 7), (I32, -7), (F32, 0.5), (BOOL, True),
           (STRING, b"text"), (U64, 7), (I64, -7), (F64, 0.5)]
ARRAYS = [(ty, [content, content]) for ty, content in SCALARS]
SEEDS = {
    "empty": gguf([], []),
    "scalars": gguf([(b"k.%d" % ty, ty, content) for ty, content in SCALARS], []),
    "arrays": gguf([(b"k.%d" % ty, ARRAY, (ty, items)) for ty, items in ARRAYS], []),
    "nested": gguf([(b"n", ARRAY, (ARRAY, [(ARRAY, [(U8, [1, 2])]), (STRING, [b"a", b"\xff"])]))], []),
    "tensors": gguf([(b"general.architecture", STRING, b"llama")],
                    [(b"norm", (4,), 0, 16), (b"q8_0", (32, 2), 8, 68), (b"q4_K", (256,), 12, 144)]),
    "aligned": gguf([], [(b"a", (3, 1, 2, 1), 24, 6), (b"b", (1,), 1, 2)], alignment=8),
    "version2": gguf([(b"k", STRING, b"v")], [(b"scalar", (), 0, 4)], version=2),
}

if __name__ == "__main__":
    folder = Path(__file__).parent / "seeds" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, content in SEEDS.items():
        (folder / seed).write_bytes(content)
