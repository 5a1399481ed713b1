"""Compares what a model answers on a GPU with what it answers on the CPU: `answers.py ZSE MODELS`, where
MODELS/builtin/eval has the evaluation set of the built-in model. Greedy, all items; part of gpu-check.

Fails if fewer than 97% of the items get the same tokens, or if the scores differ by more than one of a hundred items.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAME = 0.97
APART = 0.01


def answers(zse, items, device):
    """The tokens and the text of every item."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for item in items:
            request = {"messages": item["messages"]} | ({"tools": item["tools"]} if "tools" in item else {})
            file.write(json.dumps(request, ensure_ascii=False) + "\n")
        file.flush()
        options = ["--temp", "0", "-n", "400", "--json", "--parallel", "16", "--device", device]
        command = [zse, "run", "builtin", "--messages", file.name, *options]
        began = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    print(f"{device}: {time.monotonic() - began:.1f} s")
    given = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    return [answer["ids"] for answer in given], [answer["text"] for answer in given]


def verdict(score, items, cpu, gpu):
    """Lines of a report, and whether all is well; `cpu` and `gpu` are tokens and texts."""
    if not len(items) == len(cpu[0]) == len(gpu[0]):
        return [f"{len(items)} items have {len(cpu[0])} answers on the CPU and {len(gpu[0])} on the GPU"], False
    same = [a == b for a, b in zip(cpu[0], gpu[0])]
    rights = [[score.right(item, text) for item, text in zip(items, texts)] for _, texts in (cpu, gpu)]
    on_cpu, on_gpu = map(sum, rights)
    percent = 100 / len(items)
    share = sum(same) / len(items)
    lines = [
        f"the same tokens: {sum(same)} of {len(items)} items, {100 * share:.1f}% (at least {100 * SAME:.0f}%)",
        f"right: {percent * on_cpu:.2f}% on the CPU, {percent * on_gpu:.2f}% on the GPU (at most {100 * APART:.0f}% apart)",
    ]
    other = [item["id"] for item, alike in zip(items, same) if not alike]
    if other:
        lines.append("other tokens: " + " ".join(other))
    return lines, share >= SAME and abs(on_cpu - on_gpu) <= APART * len(items)


def main():
    """Runs both, prints the report."""
    zse, models = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(models))
    from builtin.eval import score

    items = score.items()
    cpu, gpu = (answers(zse, items, device) for device in ("cpu", "cuda"))
    lines, good = verdict(score, items, cpu, gpu)
    print("\n".join(lines))
    sys.exit(not good)


if __name__ == "__main__":
    main()
