"""How near `zse info`'s memory is to what a run takes: `python3 bench/fit.py [MODEL...]` (see bench/README.md).

For each model, context and type of keys and values: the total that `zse info --json` tells, and the most
memory of a `zse bench` that fills the context. Fails where they differ by more than a tenth. Results go to
bench/results/NAME.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import common
import machine

MOST = 0.1


def estimate(zse: Path, model: str, options: list[str]) -> int:
    out = subprocess.run([zse, "info", model, "--json", *options], capture_output=True, text=True, check=True).stdout
    return json.loads(out)["memory"]["total"]


def measure(zse: Path, model: str, context: int, options: list[str]) -> int:
    command = [zse, "bench", model, "-p", str(context - 8), "-n", "4", "-r", "1", *options]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}: ended with {process.returncode}")
    return used.ru_maxrss << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["builtin"])
    parser.add_argument("--zse", type=Path, help="ZSE; built where none is given")
    parser.add_argument("--contexts", default="512,2048")
    parser.add_argument("--kv-types", default="f16,q8_0")
    parser.add_argument("--name", default="fit", help="of the results")
    args = parser.parse_args()
    zse = common.zse(args.zse)
    lines = [
        "# Estimates of memory",
        "",
        f"- {machine.cpu_name()}; ZSE {common.commit()}",
        "",
        "| model | context | keys and values | `zse info` | measured | difference |",
        "|---|---:|---|---:|---:|---:|",
    ]
    worst = 0.0
    for model in args.models:
        for context in map(int, args.contexts.split(",")):
            for kv in args.kv_types.split(","):
                options = ["--ctx", str(context), "--kv-type", kv]
                told, taken = estimate(zse, model, options), measure(zse, model, context, options)
                worst = max(worst, abs(told / taken - 1))
                name = Path(model).stem
                lines.append(f"| {name} | {context} | {kv} | {told / 2**20:.1f} MiB | {taken / 2**20:.1f} MiB | {told / taken - 1:+.1%} |")
                print(lines[-1], file=sys.stderr)
    lines += ["", f"At most {worst:.1%} apart (10% wanted)."]
    common.publish(args.name, lines)
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
