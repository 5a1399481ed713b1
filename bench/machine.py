"""What the machine is, whether it is quiet, and what it can do at most."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path

# Share of the CPUs that others may use before a result is marked.
QUIET = 0.05


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def ticks() -> tuple[float, float]:
    """CPU seconds that were used so far, what other virtual machines took included, and that
    passed, of all CPUs that this process may run on (`taskset` may have chosen some)."""
    mine = {f"cpu{i}" for i in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    of_cpus = [list(map(int, line[1:9])) for line in lines if line[0] in mine]
    ticks = [sum(of) for of in zip(*of_cpus)]
    rate = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / rate, sum(ticks) / rate


def others(before: tuple[float, float], cpu: float) -> float:
    """The share of the CPUs that others than a process, which used `cpu` seconds, had since
    `before`."""
    now = ticks()
    return max(now[0] - before[0] - cpu, 0.0) / max(now[1] - before[1], 0.01)


def wait_until_quiet(patience: float, seconds: float = 1.0) -> float:
    """Waits until nearly nothing else runs, so long as `patience` lasts; gives the share of the
    CPUs that was in use at last."""
    end = time.monotonic() + patience
    while True:
        before = ticks()
        time.sleep(seconds)
        share = others(before, 0.0)
        if share <= QUIET or time.monotonic() > end:
            return share


def peaks(probe: Path, threads: int, isa: str = "") -> dict[str, float]:
    """Best read bandwidth (GB/s), and rates of 8-bit and f32 multiply-adds (two operations each, in
    10^9 a second) of `threads` threads, by the example `peak` of zse-cpu."""
    command = [str(probe), str(threads), *([isa] if isa else [])]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(out.stdout)
