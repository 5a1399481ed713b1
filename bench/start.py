"""How soon a `.zse` file answers, beside llama.cpp: `python3 bench/start.py` (see bench/README.md).

For each shape in Q4_K_M, with the file in the page cache: a process from its start to its end, with one token of a
prompt of one between. ZSE runs a file of `zse convert --target cpu`; llama.cpp runs the GGUF file as it comes, and with
`--repack 0`, which leaves out what it does to weights at a start. Engines run in turn, round by round; the
claims are ratios of a round and their medians. Results go to bench/results/NAME.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import common
import machine
import peers

ZSE, LLAMA, PLAIN = "ZSE, .zse", "llama.cpp", "llama.cpp --repack 0"
# Seconds to the first token beside those that its weights take to read.
BESIDE = 0.10
# How much faster than llama.cpp, as it comes and with --repack 0.
RATIOS = {LLAMA: 5.0, PLAIN: 1.0}
# Tokens of context, and bytes beside the file and their keys and values in f16.
CONTEXT, MOST_BESIDE = 512, 64e6


@dataclass
class Run:
    """One process."""

    # From its start to its end, and to the first that it says.
    seconds: float
    first: float
    # The most bytes that it had resident.
    resident: int
    # Share of the CPUs that others had.
    others: float


@dataclass
class Shape:
    """What was measured of a model."""

    name: str
    # Of the .zse file, and of what one token reads of it.
    file_bytes: int
    token_bytes: float
    # Keys and values of the context.
    kv_bytes: int
    runs: dict[str, list[Run]]
    # Bytes a second that the machine reads at most, round by round.
    read: list[float]

    def weight_read(self) -> float:
        """Seconds that reading a token's weights takes at least."""
        return statistics.median(self.token_bytes / rate for rate in self.read)

    def seconds(self, engine: str) -> float:
        return statistics.median(run.seconds for run in self.runs[engine])

    def beside(self) -> float:
        """ZSE's seconds to its token beside the reading of weights."""
        pairs = zip(self.runs[ZSE], self.read)
        return statistics.median(run.first - self.token_bytes / rate for run, rate in pairs)

    def first(self) -> float:
        """ZSE's seconds to its token."""
        return statistics.median(run.first for run in self.runs[ZSE])

    def ratio(self, peer: str) -> float:
        pairs = zip(self.runs[peer], self.runs[ZSE])
        return statistics.median(theirs.seconds / ours.seconds for theirs, ours in pairs)

    def resident(self, engine: str) -> int:
        return max(run.resident for run in self.runs[engine])

    def most_resident(self) -> int:
        return int(self.file_bytes + self.kv_bytes + MOST_BESIDE)


# Starts a process and tells its seconds, those to its first byte, CPU seconds and resident bytes. A program of its
# own, for the system counts what its starter had resident as the process's, and a Python that makes models has much.
STARTER = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
os.read(process.stdout.fileno(), 1)
first = time.perf_counter() - begin
while os.read(process.stdout.fileno(), 1 << 16):
    pass
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begin
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([process.returncode, seconds, first, used.ru_utime + used.ru_stime, used.ru_maxrss << 10]))
"""


def start(command: list) -> Run:
    """Runs a process to its end."""
    command = list(map(str, command))
    libraries = os.environ | {"LD_LIBRARY_PATH": str(Path(command[0]).parent)}
    before = machine.ticks()
    starter = [sys.executable, "-I", "-S", "-c", STARTER, *command]
    done = subprocess.run(starter, check=True, capture_output=True, text=True, env=libraries)
    code, seconds, first, cpu, resident = json.loads(done.stdout)
    if code:
        sys.exit(f"{' '.join(command)}: ended with {code}")
    return Run(seconds, first, resident, machine.others(before, cpu))


def converted(zse: Path, source: Path) -> Path:
    """The .zse file of a GGUF file, made where it is not there or of another program."""
    path = source.with_suffix(".zse")
    if not path.exists() or path.stat().st_mtime < max(f.stat().st_mtime for f in (source, zse)):
        print(f"making {path.name}", file=sys.stderr)
        path.unlink(missing_ok=True)
        command = [zse, "convert", source, "-o", path, "--target", "cpu"]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return path


def measure(shape: str, zse: Path, bench: Path | None, args: argparse.Namespace) -> Shape:
    import synth

    source = common.model(shape, "q4_k_m", args.cache)
    path = converted(zse, source)
    shared = ["--device", "cpu", "--threads", args.threads, "--ctx", CONTEXT]
    commands = {ZSE: [zse, "run", path, "--raw", "-p", "h", "-n", 1, "--temp", 0, *shared]}
    if bench:
        plain = [bench, "-m", source, "-p", 1, "-n", 0, "-r", 1, "--no-warmup", "-t", args.threads]
        commands |= {LLAMA: plain, PLAIN: [*plain, "--repack", 0]}
    work = synth.work(shape, "q4_k_m")
    kv_bytes = 2 * CONTEXT * work.kv
    measured = Shape(shape, path.stat().st_size, work.bytes, kv_bytes, {e: [] for e in commands}, [])
    for _ in range(args.rounds):
        machine.wait_until_quiet(args.patience)
        measured.read.append(machine.peaks(args.peak, args.threads)["read_gbs"] * 1e9)
        for engine, command in commands.items():
            common.warm(path if engine == ZSE else source)
            machine.wait_until_quiet(args.patience)
            measured.runs[engine].append(start(command))
            print(shape, engine, measured.runs[engine][-1], file=sys.stderr)
    return measured


def table(shapes: list[Shape]) -> list[str]:
    """Times and ratios, then what is wanted of them."""
    head = ["shape", "engine", "start to end", "to the token", "reading its weights", "ZSE is", "resident"]
    head += ["file + KV + 64 MB", "others"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    claims = []
    for shape in shapes:
        for engine, runs in shape.runs.items():
            busy = max(run.others for run in runs)
            marked = f"{busy:.0%}{' (!)' if busy > machine.QUIET else ''}"
            own = engine == ZSE
            cells = [shape.name, engine, f"{shape.seconds(engine):.3f} s"]
            cells += [f"{shape.first():.3f} s", f"{shape.weight_read():.3f} s"] if own else ["", ""]
            cells.append("" if own else f"{shape.ratio(engine):.2f} times as fast")
            cells.append(f"{shape.resident(engine) / 1e6:.0f} MB")
            cells.append(f"{shape.most_resident() / 1e6:.0f} MB" if own else "")
            lines.append(f"| {' | '.join([*cells, marked])} |")
        claims.append(_claim(shape.name, "seconds beside reading", shape.beside(), BESIDE, most=True))
        for peer, least in RATIOS.items():
            if peer in shape.runs:
                claims.append(_claim(shape.name, f"times as fast as {peer}", shape.ratio(peer), least))
        resident, most = shape.resident(ZSE) / 1e6, shape.most_resident() / 1e6
        claims.append(_claim(shape.name, "MB resident", resident, most, most=True, digits=0))
    return [*lines, "", *claims]


def _claim(shape: str, what: str, value: float, bound: float, most: bool = False, digits: int = 2) -> str:
    met = value <= bound if most else value >= bound
    wanted = f"{'at most' if most else 'at least'} {bound:.{digits}f} wanted"
    return f"- {shape}: {value:.{digits}f} {what} ({wanted}: {'met' if met else 'missed'})"


def main() -> None:
    parser = common.arguments(__doc__, "start")
    parser.add_argument("--peak", type=Path, help="the example `peak` of zse-cpu, likewise")
    parser.add_argument("--shapes", default="tinyllama,qwen7", help="of the models")
    args = parser.parse_args()
    if args.quick:
        args.shapes, args.rounds, args.patience = "tiny", 1, 0.0
    common.own_python(args.cache)
    zse = common.zse(args.zse)
    if not args.peak:
        common.build("-p", "zse-cpu", "--example", "peak")
    args.peak = args.peak or common.target() / "release/examples/peak"
    bench = None
    if not args.no_peers:
        folder = args.peers or args.cache / "peers"
        peers.build(folder, ["ll"], {}, ("llama-bench",))
        bench = folder / "ll/llama-bench"
        if not bench.exists():
            sys.exit(f"there is no {bench}; --no-peers measures ZSE alone")
    shapes = [measure(shape, zse, bench, args) for shape in args.shapes.split(",")]
    lines = [
        "# Start to first token on the CPU",
        "",
        f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB, {args.threads} threads",
        f"- ZSE {common.commit()}; llama.cpp as in llama-cpp-python {peers.LLAMA_CPP_PYTHON}",
        f"- Q4_K_M, files in the page cache, a prompt of one token, {CONTEXT} tokens of context; {args.rounds} rounds "
        "in turn, medians",
        "- Ratios are those of whole processes, from start to end; the token counts when it is written. The reading of "
        "weights is their bytes over the read bandwidth that the same number of threads reaches, measured in each round",
        "",
        *table(shapes),
    ]
    common.publish(args.name, lines)


if __name__ == "__main__":
    main()
