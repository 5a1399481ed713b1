"""`zse convert` beside llama-quantize, the encoder and the disk: `python3 bench/convert.py` (see bench/README.md).

ZSE and llama.cpp make Q4_K_M of the same BF16 file with as many threads, in turn, round by round: ZSE as a
.zse file, llama.cpp as GGUF. The claim is the ratio of a round; its median counts. Each round also measures what
bounds a conversion: how long the encoder takes for as many weights with nothing else to do, and how fast `dd`
writes; and a conversion that keeps all types. Results go to bench/results/NAME.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import common
import machine
import peers

# The least ratio of the times, and the most memory beside what is mapped.
TARGET, MOST_MEMORY = 1.5, 2e9
# The least share of what the encoder, or the disk, can do.
SHARE = 0.8
ZSE, LLAMA, LOSSLESS = "ZSE", "llama.cpp", "ZSE, types kept"


@dataclass
class Run:
    """One conversion."""

    seconds: float
    # CPU seconds.
    cpu: float
    # Most bytes that were not part of a file.
    memory: int
    # Share of the CPUs that others had.
    others: float


def convert(command: list[str]) -> Run:
    before, begin = machine.ticks(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = [0]
    watch = threading.Thread(target=_watch, args=(process.pid, most))
    watch.start()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with {process.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return Run(seconds, cpu, most[0], machine.others(before, cpu))


def _watch(pid: int, most: list[int]) -> None:
    """Keeps the most anonymous memory of a process, until it ends."""
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        anonymous = [int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")]
        if not anonymous:
            return
        most[0] = max(most[0], *anonymous)
        time.sleep(0.02)


def encoder_rates(probe: Path, threads: int, types: list[str], seconds: float) -> dict[str, float]:
    """Weights a second of each type, by the example `encode_speed` of zse-quant."""
    command = list(map(str, [probe, threads, seconds, *types]))
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def encoder_seconds(weights: dict[str, int], rates: dict[str, float]) -> float:
    """What the encoder takes for so many weights of each type."""
    return sum(count / rates[ty] for ty, count in weights.items() if ty in rates)


def encoded(zse: Path, path: Path) -> dict[str, int]:
    """Weights of each type in a file, but of those that are not encoded."""
    command = list(map(str, [zse, "info", path, "--json"]))
    types = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["types"]
    return {t["type"]: t["parameters"] for t in types if t["type"] not in ("F32", "F16", "BF16")}


def disk_rate(source: Path, folder: Path) -> float:
    """Bytes a second that `dd` writes of a file that is in memory, until they are on the disk."""
    out = folder / "converted.dd"
    command = ["dd", f"if={source}", f"of={out}", "bs=8M", "conv=fsync", "status=none"]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - begin
    size = out.stat().st_size
    out.unlink()
    return size / seconds


@dataclass
class Bounds:
    """What bounds the conversions of a round."""

    # Seconds that the encoder takes for the weights of the result.
    encoder: float
    # Bytes a second that the disk takes.
    disk: float


def main() -> None:
    parser = common.arguments(__doc__, "convert")
    parser.add_argument("--encode-speed", type=Path, help="the example of zse-quant, likewise")
    parser.add_argument("--shape", default="tinyllama", help="of the model")
    args = parser.parse_args()
    if args.quick:
        args.shape, args.rounds, args.patience = "tiny", 1, 0.0
    common.own_python(args.cache)
    zse = common.zse(args.zse)
    if not args.encode_speed:
        common.build("-p", "zse-quant", "--example", "encode_speed")
    probe = args.encode_speed or common.target() / "release/examples/encode_speed"
    source = common.model(args.shape, "bf16", args.cache)
    threads = str(args.threads)
    out = {ZSE: args.cache / "converted.zse", LOSSLESS: args.cache / "lossless.zse"}
    commands = {
        ZSE: [zse, "convert", source, "-o", out[ZSE], "--quant", "q4_k_m", "--threads", threads],
        LOSSLESS: [zse, "convert", source, "-o", out[LOSSLESS], "--threads", threads],
    }
    if not args.no_peers:
        folder = args.peers or args.cache / "peers"
        peers.build(folder, ["ll"], {}, ("llama-quantize",))
        out[LLAMA] = args.cache / "converted.gguf"
        commands[LLAMA] = [folder / "ll/llama-quantize", source, out[LLAMA], "Q4_K_M", threads]
    runs: dict[str, list[Run]] = {engine: [] for engine in commands}
    bounds, written = [], {}
    for _ in range(args.rounds):
        for engine, command in commands.items():
            out[engine].unlink(missing_ok=True)
            common.warm(source)
            machine.wait_until_quiet(args.patience)
            runs[engine].append(convert(list(map(str, command))))
            print(engine, runs[engine][-1], file=sys.stderr)
            written[engine] = out[engine].stat().st_size
            if engine == ZSE:
                weights = encoded(zse, out[engine])
            out[engine].unlink()
        seconds = 0.2 if args.quick else 2.0
        rates = encoder_rates(probe, args.threads, list(weights), seconds)
        bounds.append(Bounds(encoder_seconds(weights, rates), disk_rate(source, args.cache)))
        print(bounds[-1], file=sys.stderr)
    facts = [
        f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB, {args.threads} threads",
        f"- ZSE {common.commit()}; llama.cpp as in llama-cpp-python {peers.LLAMA_CPP_PYTHON}",
        f"- {args.shape}'s shape in BF16, {source.stat().st_size / 1e9:.2f} GB, to Q4_K_M",
    ]
    common.publish(args.name, report(facts, source.stat().st_size, runs, bounds, written))


def report(
    facts: list[str], size: int, runs: dict[str, list[Run]], bounds: list[Bounds], written: dict[str, int]
) -> list[str]:
    """The page: `size` are the bytes of the source, `written` those of each result."""

    def median(engine: str, of) -> float:
        return statistics.median(of(run) for run in runs[engine])

    busiest = max(run.others for of in runs.values() for run in of)
    rounds = f"- {len(bounds)} rounds in turn, medians; others had {busiest:.0%} of the CPUs at most"
    lines = ["# Conversion", "", *facts, rounds, ""]
    lines += ["| | time | CPU time | read | written | memory beside the files |", "|---|---|---|---|---|---|"]
    for engine in runs:
        seconds, memory = median(engine, lambda r: r.seconds), max(r.memory for r in runs[engine])
        lines.append(
            f"| {engine} | {seconds:.1f} s | {median(engine, lambda r: r.cpu):.1f} s "
            f"| {size / seconds / 1e6:.0f} MB/s | {written[engine] / seconds / 1e6:.0f} MB/s "
            f"| {memory / 1e6:.0f} MB |"
        )
    lines.append("")
    if LLAMA in runs:
        ratio = statistics.median(peer.seconds / own.seconds for peer, own in zip(runs[LLAMA], runs[ZSE]))
        cpu = median(LLAMA, lambda r: r.cpu) / median(ZSE, lambda r: r.cpu)
        lines.append(
            f"- ZSE is {ratio:.2f} times as fast as llama.cpp (at least {TARGET} wanted: {verdict(ratio, TARGET)}), "
            f"and takes 1/{cpu:.2f} of the CPU time."
        )
    pairs = list(zip(runs[ZSE], runs[LOSSLESS], bounds))
    encoder = statistics.median(bound.encoder / run.seconds for run, _, bound in pairs)
    disk = statistics.median(written[LOSSLESS] / run.seconds / bound.disk for _, run, bound in pairs)
    lines += [
        f"- To Q4_K_M: {encoder:.0%} of what the encoder alone does on these cores, "
        f"{statistics.median(b.encoder for b in bounds):.1f} s "
        f"(at least {SHARE:.0%} wanted: {verdict(encoder, SHARE)}).",
        f"- With all types kept: {disk:.0%} of the disk's write rate as `dd conv=fsync` shows it, "
        f"{statistics.median(b.disk for b in bounds) / 1e6:.0f} MB/s "
        f"(at least {SHARE:.0%} wanted: {verdict(disk, SHARE)}).",
    ]
    memory = max(r.memory for engine in (ZSE, LOSSLESS) for r in runs[engine])
    lines.append(
        f"- ZSE takes {memory / 1e6:.0f} MB beside the files "
        f"(at most {MOST_MEMORY / 1e6:.0f} wanted: {verdict(MOST_MEMORY, memory)})."
    )
    return lines


def verdict(value: float, least: float) -> str:
    return "met" if value >= least else "missed"


if __name__ == "__main__":
    main()
