#!/usr/bin/env python3
"""Reads a .zse file by docs/format.md alone: none of ZSE's code, and cells from the page's own table.

    by_the_page.py MODEL.zse [MODEL.gguf]

Every rule of the page that concerns a reader is checked; with the GGUF file of the same model (such as
`zse convert MODEL.zse -o MODEL.gguf` makes), tensors are compared byte by byte. Needs `gguf` for that, and
`xxhash` for checksums (both from PyPI).
"""

import json
import re
import struct
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs/format.md"
# Bytes of the value types with a fixed length, by id.
WIDTHS = {0: 1, 1: 1, 7: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 10: 8, 11: 8, 12: 8}
FLOATS = {"f32": 4, "f16": 2, "bf16": 2}


def cells():
    """Of each type: values and bytes of a cell, and bytes and unit of its fields."""
    found = {}
    for types, values, size, fields in re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \| ([\d, ]+) \| (\d+) \| ([\w /,]+) \|$", PAGE.read_text(), re.M
    ):
        fields = [(int(a), int(b)) for a, b in re.findall(r"(\d+)/(\d+)", fields)]
        assert sum(a for a, _ in fields) == int(size), types
        for ty, n in zip(re.findall(r"`(\w+)`", types), values.split(", "), strict=True):
            found[ty] = int(n), int(size), fields
    return found


def metadata(raw, entries):
    at = 0

    def take(n):
        nonlocal at
        at += n
        assert at <= len(raw)
        return raw[at - n : at]

    def number(n):
        return int.from_bytes(take(n), "little")

    def value(ty):
        if ty == 8:
            return take(number(8))
        if ty == 9:
            of = number(4)
            return [value(of) for _ in range(number(8))]
        return take(WIDTHS[ty])

    found = {}
    for _ in range(entries):
        key = take(number(8)).decode()
        assert 1 <= len(key) <= 65535 and key not in found
        found[key] = value(number(4))
    assert at == len(raw)
    return found


def rows(tensor, raw, table):
    """The rows of a tensor, one after the other, as GGUF has them."""
    cols, count, *experts = tensor["shape"] + [1] * (4 - len(tensor["shape"]))
    experts = experts[0] * experts[1]
    ty = tensor["type"]
    values, cell, fields = table[ty]
    row = cols * FLOATS[ty] if ty in FLOATS else cols // values * cell
    if tensor["layout"] == "ggml":
        assert len(raw) == experts * count * row
        return raw
    assert tensor["layout"] == "tiles16"
    columns, tiles = -(-cols // values), -(-count // 16)
    tile = 16 * columns * cell
    assert len(raw) == experts * tiles * tile
    out = bytearray()
    for n in range(experts * count):
        t, r = n // count * tiles + n % count // 16, n % count % 16
        one = bytearray()
        for b in range(columns):
            offset = 0
            for size, unit in fields:
                start = t * tile + b * 16 * cell + 16 * offset
                for u in range(size // unit):
                    one += raw[start + (16 * u + r) * unit :][:unit]
                offset += size
        out += one[:row]
    return bytes(out)


def read(path):
    """The header, the metadata, and the rows of each tensor by name."""
    try:
        from xxhash import xxh3_64_intdigest as xxh3
    except ImportError:
        xxh3 = None
    raw = Path(path).read_bytes()
    assert raw[:8] == b"\x89ZSE\r\n\x1a\n"
    version, entries, *numbers = struct.unpack_from("<IIQQQQQQ", raw, 8)
    of_header, of_metadata, data, whole, checksum, zero = numbers
    begin, end = 64 + of_header, 64 + of_header + of_metadata
    assert (version, whole, zero, data % 4096) == (1, len(raw), 0, 0) and data >= end
    assert not any(raw[end:data])
    assert xxh3 is None or xxh3(raw[64:end]) == checksum
    header = json.loads(raw[64:begin])
    table, tensors, rest, last = cells(), {}, iter(header["tensors"]), 0
    for group in header["groups"]:
        assert group["offset"] % 4096 == 0 and group["offset"] >= last and group["tensors"] >= 1
        at = group["offset"]
        for _ in range(group["tensors"]):
            tensor = next(rest)
            assert tensor["offset"] % 64 == 0 and tensor["offset"] >= at
            at = tensor["offset"] + tensor["bytes"]
            own = raw[data + tensor["offset"] : data + at]
            assert len(own) == tensor["bytes"] and tensor["name"] not in tensors
            assert xxh3 is None or f"{xxh3(own):016x}" == tensor["xxh3"]
            tensors[tensor["name"]] = tensor["shape"], rows(tensor, own, table)
        last = group["offset"] + group["bytes"]
        assert at == last and data + last <= len(raw)
    assert next(rest, None) is None
    return header, metadata(raw[begin:end], entries), tensors, xxh3 is not None


def main():
    _, keys, tensors, has_checksums = read(sys.argv[1])
    said = "checksums agree" if has_checksums else "checksums not compared (no xxhash)"
    print(f"{len(keys)} keys, {len(tensors)} tensors, {said}")
    if len(sys.argv) > 2:
        from gguf import GGUFReader

        others = GGUFReader(sys.argv[2]).tensors
        assert len(others) == len(tensors)
        for other in others:
            shape, own = tensors[other.name]
            assert shape == [int(n) for n in other.shape] and own == other.data.tobytes(), other.name
        print("the tensors are those of the GGUF file")


if __name__ == "__main__":
    main()
