"""The engines, each run as its users run it: `zse bench`, and the peers' `llama-bench`."""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from groups import Case


class Failed(Exception):
    """An engine did not run a case."""


@dataclass
class Result:
    """What a run gave."""

    # Tokens a second, or seconds.
    value: float
    # The most bytes in use, and the CPU seconds of the process.
    peak_rss: int
    cpu: float
    # Of the whole process.
    wall: float
    # Milliseconds, where the engine tells them.
    details: dict[str, float] = field(default_factory=dict)


class Engine:
    """A way to run cases; a case with an instruction set runs in the folder made for it."""

    name: str

    def command(self, model: Path, case: Case, threads: int) -> list:
        raise NotImplementedError

    def value(self, case: Case, out: str, err: str) -> tuple[float, dict[str, float]]:
        """What `case` gave by what the process wrote."""
        row = json.loads(out)[0]
        keys = ("p50_ms", "p95_ms", "p99_ms", "load_ms")
        return row["avg_ts"], {key: row[key] for key in keys if row.get(key) is not None}

    def version(self) -> str:
        raise NotImplementedError

    def run(self, model: Path, case: Case, threads: int, timeout: float) -> Result:
        """Runs `case` once in a process of its own."""
        command = list(map(str, self.command(model, case, threads)))
        if not Path(command[0]).exists():
            raise Failed(f"there is no {command[0]}")
        libraries = os.environ | {"LD_LIBRARY_PATH": str(Path(command[0]).parent)}
        # In a folder of its own, for some write logs where they are.
        folder = tempfile.TemporaryDirectory()
        with folder, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = time.monotonic()
            process = subprocess.Popen(
                command, stdout=out, stderr=err, env=libraries, cwd=folder.name
            )
            timer = threading.Timer(timeout, process.kill)
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - start
            timer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            said = [stream.read().decode(errors="replace") for stream in (out, err)]
        if process.returncode != 0:
            last = " ".join(said[1].strip().splitlines()[-1:])
            raise Failed(f"exit code {process.returncode}: {last} ({' '.join(command)})")
        value, details = (wall, {}) if case.test == "start" else self.value(case, *said)
        cpu = usage.ru_utime + usage.ru_stime
        return Result(value, usage.ru_maxrss * 1024, cpu, wall, details)


class Zse(Engine):
    name = "zse"

    def __init__(self, program: Path) -> None:
        self.program = program

    def command(self, model: Path, case: Case, threads: int) -> list:
        device = f"cpu:{case.isa}" if case.isa else "cpu"
        shared = [model, "--device", device, "--kv-type", case.kv]
        if case.test == "start":
            once = ["--raw", "-p", "h", "-n", 1, "--temp", 0, "--threads", threads, "--ctx", START]
            return [self.program, "run", *shared, *once]
        counts = ["-p", case.prompt, "-n", case.generate, "-d", case.depth, "-b", case.seqs]
        context = case.prompt + case.generate + case.depth
        rest = ["-t", threads, "-r", 1, "-o", "json", "--ctx", context]
        return [self.program, "bench", *shared, *counts, *rest]

    def version(self) -> str:
        """The commit that the program was built from, by itself."""
        said = _said([self.program, "bench", "-p", 1, "-n", 0, "-r", 1, "-o", "json"])
        row = json.loads(said or "[{}]")[0]
        return f"{row.get('version', 'of an unknown version')}, commit {row.get('commit')}"


# Context of a process that gives one token.
START = 512


class Peer(Engine):
    """An engine with llama.cpp's tools."""

    # Options that differ between the two.
    no_warmup: list

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.build = "of an unknown version"

    def depth(self, case: Case) -> list:
        raise NotImplementedError

    def command(self, model: Path, case: Case, threads: int) -> list:
        folder = self.folder if not case.isa else Path(f"{self.folder}-{case.isa}")
        if case.seqs > 1:
            context = case.seqs * (case.depth + case.generate)
            counts = ["-npp", case.depth, "-ntg", case.generate, "-npl", case.seqs, "-c", context]
            return [folder / "llama-batched-bench", "-m", model, *counts, "-t", threads]
        shared = [folder / "llama-bench", "-m", model, "-r", 1, "-t", threads, "-o", "json"]
        if case.test == "start":
            return [*shared, "-p", 1, "-n", 0, *self.no_warmup]
        shared += ["-fa", 1, "-ctk", case.kv, "-ctv", case.kv]
        if case.depth:
            return shared + self.depth(case)
        return [*shared, "-p", case.prompt, "-n", case.generate]

    def value(self, case: Case, out: str, err: str) -> tuple[float, dict[str, float]]:
        if case.seqs == 1:
            self.build = f"build {json.loads(out)[0]['build_commit']}"
            return super().value(case, out, err)
        # A table: PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG, T, S.
        rows = re.findall(r"^\|((?:\s*[\d.]+\s*\|){10})", out + err, re.MULTILINE)
        if len(rows) != 1:
            raise Failed(f"no result in: {out[-200:]} {err[-200:]}")
        return float(rows[0].split("|")[7]), {}

    def version(self) -> str:
        known = self.folder / "VERSION"
        return known.read_text().strip() if known.exists() else self.build


class LlamaCpp(Peer):
    name = "llama.cpp"
    no_warmup = ["--no-warmup"]

    def depth(self, case: Case) -> list:
        return ["-p", case.prompt, "-n", case.generate, "-d", case.depth]


class IkLlamaCpp(Peer):
    name = "ik_llama.cpp"
    no_warmup = ["-w", 0]

    def depth(self, case: Case) -> list:
        return ["-p", 0, "-n", 0, "-gp", f"{case.depth},{case.generate}"]


def _said(command: list) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
