"""`zse convert` beside llama-quantize: `python3 bench/convert.py` (see bench/README.md).

Both make Q4_K_M of the same BF16 file with as many threads, in turn, round by round: ZSE as a .zse
file, llama.cpp as GGUF. The claim is the ratio of a round; its median counts. Results go to
bench/results/NAME.md.
"""

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zse", type=Path, help="ZSE; built where none is given")
    parser.add_argument("--peers", type=Path, help="folder of peers; built where none is given")
    parser.add_argument("--cache", type=Path, default=common.CACHE)
    parser.add_argument("--shape", default="tinyllama", help="of the model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="convert", help="of the results")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    args = parser.parse_args()
    common.own_python(args.cache)
    zse = common.zse(args.zse)
    folder = args.peers or args.cache / "peers"
    peers.build(folder, ["ll"], {}, ("llama-quantize",))
    source = common.model(args.shape, "bf16", args.cache)
    out = {engine: args.cache / f"converted.{kind}" for engine, kind in (("ZSE", "zse"), ("llama.cpp", "gguf"))}
    threads = str(args.threads)
    commands = {
        "ZSE": [zse, "convert", source, "-o", out["ZSE"], "--quant", "q4_k_m", "--threads", threads],
        "llama.cpp": [folder / "ll/llama-quantize", source, out["llama.cpp"], "Q4_K_M", threads],
    }
    runs: dict[str, list[Run]] = {engine: [] for engine in commands}
    for _ in range(args.rounds):
        for engine, command in commands.items():
            out[engine].unlink(missing_ok=True)
            machine.wait_until_quiet(args.patience)
            runs[engine].append(convert(list(map(str, command))))
            print(engine, runs[engine][-1], file=sys.stderr)
            out[engine].unlink()
    report(args, source, runs)


def report(args: argparse.Namespace, source: Path, runs: dict[str, list[Run]]) -> None:
    def median(engine: str, of) -> float:
        return statistics.median(of(run) for run in runs[engine])

    pairs = zip(runs["llama.cpp"], runs["ZSE"])
    ratio = statistics.median(peer.seconds / own.seconds for peer, own in pairs)
    cpu = median("llama.cpp", lambda r: r.cpu) / median("ZSE", lambda r: r.cpu)
    busiest = max(run.others for of in runs.values() for run in of)
    lines = [
        "# Conversion",
        "",
        f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB, {args.threads} threads",
        f"- ZSE {common.commit()}; llama.cpp as in llama-cpp-python {peers.LLAMA_CPP_PYTHON}",
        f"- {args.shape}'s shape in BF16, {source.stat().st_size / 1e9:.2f} GB, to Q4_K_M; {args.rounds} rounds "
        f"in turn, medians; others had {busiest:.0%} of the CPUs at most",
        "",
        "| | time | CPU time | read | memory beside the files |",
        "|---|---|---|---|---|",
    ]
    for engine in runs:
        seconds, memory = median(engine, lambda r: r.seconds), max(r.memory for r in runs[engine])
        lines.append(
            f"| {engine} | {seconds:.1f} s | {median(engine, lambda r: r.cpu):.1f} s "
            f"| {source.stat().st_size / seconds / 1e6:.0f} MB/s | {memory / 1e6:.0f} MB |"
        )
    memory = max(r.memory for r in runs["ZSE"])
    lines += [
        "",
        f"ZSE is {ratio:.2f} times as fast (at least {TARGET} wanted), and takes 1/{cpu:.2f} of the CPU time; "
        f"{memory / 1e6:.0f} MB (at most {MOST_MEMORY / 1e6:.0f} wanted).",
    ]
    common.publish(args.name, lines)


if __name__ == "__main__":
    main()
