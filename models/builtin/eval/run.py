"""Runs the evaluation through the `zse` binary.

    python3 models/builtin/eval/run.py                       # zse from PATH or target/release, built-in model
    python3 models/builtin/eval/run.py --zse PATH --model FILE.gguf

All items go to one process, `zse run MODEL --messages FILE --temp 0 --json`,
which answers with one JSON object a line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from builtin.eval import score  # noqa: E402


def find_zse():
    """The binary of this checkout, or the one on the PATH."""
    built = HERE.parents[2] / "target" / "release" / "zse"
    return str(built) if built.exists() else shutil.which("zse") or sys.exit("no zse binary: build it, or give --zse PATH")


def answers(zse, model, listed, extra):
    """The text that zse gives for every item."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for item in listed:
            request = {"messages": item["messages"]} | ({"tools": item["tools"]} if "tools" in item else {})
            file.write(json.dumps(request, ensure_ascii=False) + "\n")
        file.flush()
        command = [zse, "run", model, "--messages", file.name, "--temp", "0", "-n", "400", "--json", *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True)
    return [json.loads(line)["text"] for line in done.stdout.splitlines() if line.strip()]


def main():
    """Arguments, run, table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--zse", default=None, help="path of the binary")
    p.add_argument("--model", default="builtin")
    p.add_argument("--items", default=score.ITEMS, help="JSON lines of items")
    p.add_argument("--json", action="store_true", help="print the scores as JSON")
    p.add_argument("--wrong", action="store_true", help="print every wrong answer")
    p.add_argument("extra", nargs="*", help="more options for zse, after --")
    args = p.parse_args()
    listed = score.items(args.items)
    given = answers(args.zse or find_zse(), args.model, listed, args.extra)
    scores = score.table(listed, given)
    if args.wrong:
        for item, text in zip(listed, given):
            if not score.right(item, text):
                print(json.dumps({"id": item["id"], "want": item["expect"]["want"], "got": text}, ensure_ascii=False))
    print(json.dumps(scores) if args.json else score.report(scores))


if __name__ == "__main__":
    main()
