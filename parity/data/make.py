"""Makes the texts that quantized models are measured on: heldout.txt and calibration.txt.

    python parity/data/make.py          # from the root of the repository

Conversations of the built-in model's generator, on the held-out side of its split (no request or
name in them appears in training), from seeds of their own.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "models"))

from builtin.chat import END_OF_TEXT, segments  # noqa: E402
from builtin.data import conversation, pick_task  # noqa: E402
from builtin.data.draw import Draw  # noqa: E402

# Name: seed, characters.
TEXTS = {"heldout.txt": (31_000_001, 30_000), "calibration.txt": (31_000_002, 20_000)}


def text(seed, characters):
    """Conversations, each ended by the end-of-text token, until there is that much of them."""
    d, parts, length = Draw(seed, heldout=True), [], 0
    while length < characters:
        task = pick_task(d)
        if task == "plain":
            continue
        part = "".join(piece for piece, _ in segments(*conversation(d, task))) + END_OF_TEXT
        parts.append(part)
        length += len(part)
    return "".join(parts)


if __name__ == "__main__":
    for name, (seed, characters) in TEXTS.items():
        (HERE / name).write_text(text(seed, characters), encoding="utf-8")
