"""Holds the kernels to the instructions that they took before.

    python3 bench/guard.py              # compares with bench/instructions.csv; fails if one takes more
    python3 bench/guard.py --update     # after a change that is meant to take more, or takes less

Counts under valgrind, which repeats to a tenth of a percent on any machine, busy or not, but knows
no AVX-512: the kernels are written once for all instruction sets, and AVX2 and scalar ones are
counted. A count is that of one repetition of `zse bench` on one thread: the difference between runs
with two and with one, so that loading does not count.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import CACHE, ROOT, build, model, own_python, target

BASELINE = ROOT / "bench/instructions.csv"

QUANTS = ("q4_0", "q8_0", "q4_k", "q6_k", "iq4_xs", "f16")
TESTS = {"pp32": ["-p", 32, "-n", 0], "tg4": ["-p", 0, "-n", 4], "tg4 b4": ["-p", 0, "-n", 4, "-b", 4]}

# A compiler's whims are smaller than this, and a lost fast path is much greater.
TOLERANCE = 0.02

Key = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the counts down")
    parser.add_argument("--zse", type=Path, help="the binary, instead of building it")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for models")
    args = parser.parse_args()
    own_python(args.cache)
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing (apt install valgrind)")
    if not args.zse:
        build("-p", "zse-cli")
    zse = args.zse or target() / "release/zse"
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    counts = {}
    for quant in QUANTS:
        path = model("tiny", quant, args.cache)
        for isa in ("avx2", "scalar"):
            for test, options in TESTS.items():
                counts[isa, quant, test] = count(zse, path, isa, options)
                print(f"{isa} {quant} {test}: {counts[isa, quant, test]:,}", file=sys.stderr)
    if args.update:
        write(compiler, counts)
        print(f"wrote {BASELINE}", file=sys.stderr)
        return
    known_compiler, known = read()
    if known_compiler != compiler:
        print(f"note: {known_compiler} made the counts to compare with, {compiler} these")
    worse = show(counts, known)
    if worse:
        sys.exit(f"{worse} take over {TOLERANCE:.0%} more; if that is meant, say why and --update")


def count(zse: Path, path: Path, isa: str, options: list) -> int:
    """Instructions of one repetition."""
    once, twice = (instructions(zse, path, isa, [*options, "-r", r]) for r in (1, 2))
    return twice - once


def instructions(zse: Path, path: Path, isa: str, options: list) -> int:
    bench = [zse, "bench", path, "--device", f"cpu:{isa}", "-t", 1, "-o", "csv", *options]
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *bench]
    run = subprocess.run(list(map(str, valgrind)), capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode != 0 or not collected:
        sys.exit(f"{' '.join(map(str, bench))} failed under valgrind:\n{run.stderr[-2000:]}")
    return int(collected[1])


def write(compiler: str, counts: dict[Key, int]) -> None:
    with open(BASELINE, "w", newline="") as file:
        file.write(f"# {compiler}\n")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["isa", "type", "test", "instructions"])
        out.writerows([*key, n] for key, n in counts.items())


def read() -> tuple[str, dict[Key, int]]:
    if not BASELINE.exists():
        sys.exit(f"there is no {BASELINE}: make it with --update")
    first, *lines = BASELINE.read_text().splitlines()
    rows = csv.DictReader(lines)
    return first.removeprefix("# "), {
        (row["isa"], row["type"], row["test"]): int(row["instructions"]) for row in rows
    }


def show(counts: dict[Key, int], known: dict[Key, int]) -> int:
    """Prints a table; gives how many counts grew too much."""
    worse = 0
    print(f"{'':28} {'before':>14} {'now':>14} {'change':>8}")
    for key, now in counts.items():
        before = known.get(key)
        if before is None:
            print(f"{' '.join(key):28} {'':>14} {now:>14,}")
            continue
        change = now / before - 1
        worse += change > TOLERANCE
        mark = "  more" if change > TOLERANCE else ""
        print(f"{' '.join(key):28} {before:>14,} {now:>14,} {change:>+8.1%}{mark}")
    return worse


if __name__ == "__main__":
    main()
