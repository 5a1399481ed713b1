"""The cases of run.py side by side, each round on cores of its own: `python3 bench/lanes.py`.

For machines with many cores: what takes run.py hours takes minutes. Rounds of all cases share the
machine's memory, which is why read bandwidth is measured on the same cores before each. Engines of a
round run in turn on the same cores, and another one begins each round: the load of the others changes
meanwhile. Takes the options of run.py, and

    --lanes N       rounds at a time (as many as there are cores for)
    --limit S       seconds after which no round begins, and none goes on

Results go to bench/results/NAME.csv and .md after every round.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import report
import run
from common import model, own_python
from groups import Case


def cores() -> list[int]:
    """The first thread of each core that this process may use."""
    first = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(path.read_text(), cpu)
    return list(first.values())


def cost(case: Case) -> float:
    """What a round takes beside others, about, so that the longest begin first."""
    import synth

    work = synth.work(case.shape, case.quant)
    attended = case.depth**2 / 2 * work.kv
    return (case.prompt + case.depth) * work.ops / 40 + case.generate * work.bytes + attended


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--limit", type=float, default=float("inf"))
    own, options = parser.parse_known_args()
    args = run.arguments(options)
    if args.no_peers or args.list or args.quick:
        sys.exit("run.py does that alone")
    own_python(args.cache)
    end = time.monotonic() + own.limit
    run.prepare(args)
    options += [f"--{name}={getattr(args, name)}" for name in ("zse", "peak", "peers", "cache", "threads")]
    with ThreadPoolExecutor() as makers:
        list(makers.map(lambda m: model(*m, args.cache), {(c.shape, c.quant) for c in args.cases}))
    free, mine = SimpleQueue(), cores()
    # The system keeps a core for itself.
    lanes = min(own.lanes or len(mine), (len(mine) - 1) // args.threads)
    if lanes < 1:
        sys.exit(f"{len(mine)} cores are too few for {args.threads} threads and the rest of the system")
    for i in range(lanes):
        free.put(mine[1 + i * args.threads :][: args.threads])
    places = {(case.group, case.model, case.test): place for place, case in enumerate(args.cases)}
    path = args.results / f"{args.name}.csv"
    if path.exists():
        sys.exit(f"{path} is there: choose another --name")
    args.results.mkdir(parents=True, exist_ok=True)
    results, lock = report.Results(), threading.Lock()

    def lane(item: tuple[Case, int]) -> None:
        case, i = item
        cpus = free.get()
        try:
            found = one_round(case, cpus, [*options, f"--first={i}"], end - time.monotonic())
        finally:
            free.put(cpus)
        if not found:
            print(f"{case.model} {case.test}: no round {i}", file=sys.stderr)
            return
        with lock:
            results.facts = found.facts | {"at a time": f"{lanes} rounds, on {args.threads} cores each"}
            results.samples += [replace(sample, round=i) for sample in found.samples]
            results.samples.sort(key=lambda sample: (places[sample.case], sample.round))
            results.write(path)
            path.with_suffix(".md").write_text(report.markdown(results))

    rounds = [(case, i) for case in args.cases for i in range(min(args.rounds, case.rounds or args.rounds))]
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lane, sorted(rounds, key=lambda item: -cost(item[0]))))


def one_round(case: Case, cpus: list[int], options: list[str], seconds: float) -> report.Results | None:
    """One round of a case by run.py on some CPUs; nothing if the time does not suffice."""
    if seconds <= 0:
        return None
    with tempfile.TemporaryDirectory() as folder:
        only = ["--only", case.group, "--models", case.model, "--tests", case.test]
        where = ["--rounds", "1", "--patience", "0", "--results", folder, "--name", "round"]
        program = [sys.executable, Path(__file__).with_name("run.py"), *options, *only, *where]
        process = subprocess.Popen(["taskset", "-c", ",".join(map(str, cpus)), *program], start_new_session=True)
        try:
            process.wait(None if seconds == float("inf") else seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        path = Path(folder) / "round.csv"
        return report.read(path) if path.exists() else None


if __name__ == "__main__":
    main()
