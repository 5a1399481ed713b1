"""Compares speeds on this machine's GPU with those of the last release: `speeds.py ZSE FIGURES SYNTH OUT`; part of
gpu-check.

FIGURES is a table of figures, each with the loss that is allowed (bench/results/gpu-figures.csv). Models of real
shapes with random weights are made by SYNTH (bench/synth.py; needs numpy) in /dev/shm and deleted again. What was
measured is written to OUT, a table of the same form: that of the next release. A card that is not in the table is
measured, and compared with nothing.
"""

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

HEAD = ("gpu", "model", "test", "tokens_per_s", "allowed_loss")
TEST = re.compile(r"(pp|tg)(\d+)(?:x(\d+))?$")
FOLDER = Path("/dev/shm/zse-speeds")


def read(path):
    """The figures of a table, in its order."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def arguments(test):
    """What `zse bench` is asked for: `pp512` a prompt, `tg128` tokens, `tg128x32` of 32 sequences together."""
    kind, tokens, sequences = TEST.match(test).groups()
    n_prompt, n_gen = (tokens, "0") if kind == "pp" else ("0", tokens)
    return ["-p", n_prompt, "-n", n_gen, "-b", sequences or "1"]


def compare(known, rates, gpu):
    """Lines of a report, and the tests that lost more than they may: `rates` by model and test."""
    lines, lost = [], []
    for row in known:
        name, before = f"{row['model']} {row['test']}", float(row["tokens_per_s"])
        rate = rates.get((row["model"], row["test"]))
        if rate is None:
            lines.append(f"| {name} | - | | | not measured |")
            lost.append(name)
            continue
        if row["gpu"] != gpu:
            lines.append(f"| {name} | {rate:,.0f} | | | another card: not compared |")
            continue
        ratio, least = rate / before, 1 - float(row["allowed_loss"])
        verdict = "ok" if ratio >= least else "LOST"
        lines.append(f"| {name} | {rate:,.0f} | {before:,.0f} | {ratio:.3f} (at least {least:.2f}) | {verdict} |")
        if ratio < least:
            lost.append(name)
    head = ["| test | tokens/s | last release | ratio | |", "|---|---:|---:|---|---|"]
    return head + lines, lost


def measure(zse, synth, known):
    """Tokens a second of all tests, by model and test."""
    rates = {}
    for model in dict.fromkeys(row["model"] for row in known):
        shape, _, quant = model.partition(":")
        FOLDER.mkdir(exist_ok=True)
        file = FOLDER / "model.gguf"
        began = time.monotonic()
        subprocess.run([sys.executable, synth, shape, quant, file], check=True, stdout=subprocess.DEVNULL)
        print(f"{model} made in {time.monotonic() - began:.0f} s", flush=True)
        try:
            for row in (row for row in known if row["model"] == model):
                command = [zse, "bench", file, "--device", "cuda", "-o", "json", *arguments(row["test"])]
                done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
                if done.returncode == 0:
                    rates[model, row["test"]] = json.loads(done.stdout)[0]["avg_ts"]
        finally:
            file.unlink()
    return rates


def main():
    """Measures, compares, writes."""
    zse, figures, synth, out = sys.argv[1:]
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpu = subprocess.run(query, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout.splitlines()[0].strip()
    known = read(figures)
    rates = measure(zse, synth, known)
    lines, lost = compare(known, rates, gpu)
    print("\n".join(lines))
    with open(out, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEAD)
        for row in known:
            rate = rates.get((row["model"], row["test"]))
            if rate is not None:
                table.writerow((gpu, row["model"], row["test"], f"{rate:.1f}", row["allowed_loss"]))
    if lost:
        sys.exit("slower than the last release, or not measured: " + ", ".join(lost))


if __name__ == "__main__":
    main()
