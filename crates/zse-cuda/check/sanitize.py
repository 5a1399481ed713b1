"""NVIDIA's memory and race checkers over the tests that need a GPU: `sanitize.py FOLDER SECONDS`, where FOLDER has what
gpu-pack built; part of gpu-check.

Kernels are ten to a hundred times as slow under a checker, most of it on the host, so each group of tests is done in
shares by several processes side by side, with the kernels for this card alone and without cuBLASLt (`tests/share`). A
group is clean when every share came to its end, of all its cases, within SECONDS, and nothing was found. One that was
stopped is not: it fails. Now and then racecheck loses track of a launch, and counts that as a hazard: such a share is done
again.
"""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Binary, filter, shares; recorded models not first: sixteen of their shares at once hold each other up.
GROUPS = [
    ("conformance", "operations", 7),
    ("attention", "", 4),
    ("conformance", "decoders", 4),
    ("golden", "fixtures_hold", 7),
    ("mixtures", "experts", 4),
    ("conformance", "prompts", 5),
    ("conformance", "few_columns", 7),
    ("sampling", "rows", 1),
    ("products", "", 1),
]
# Not in minutes: its products have up to 300 columns, and are not cut into shares.
TOO_LONG = {("racecheck", "products")}
TOOLS = ("racecheck", "memcheck")
FOUND = re.compile(r"^========= +(Invalid|Error|Warning: Race|.*hazard|Program hit|Leaked).*", re.M)
SUMMARY = re.compile(r"^========= (?:ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards displayed.*)$", re.M)
# The checker's own failure, and how often a share is done where there is nothing else.
LOST = "Internal Sanitizer Error: Detected a failure to track a kernel launch"
ATTEMPTS = 3
PASSED = re.compile(r"^test result: ok\. ([1-9]\d*) passed; 0 failed", re.M)


def verdict(output, status):
    """What a checker's run came to: `clean`, `stopped`, `lost`, or the first line of what is wrong."""
    found = [line.group() for line in FOUND.finditer(output) if not SUMMARY.match(line.group())]
    if status is not None and LOST in output and all("SUMMARY: 1 hazard displayed (1 error" in line for line in found):
        return "lost"
    if found:
        return found[0]
    if status is None:
        return "stopped"
    if status == 0 and SUMMARY.search(output) and PASSED.search(output):
        return "clean"
    tail = [line for line in output.splitlines() if line.strip()][-3:]
    return f"status {status}: " + " | ".join(tail)


def progress(output):
    """How far a share came."""
    tests = sum(int(n) for n in PASSED.findall(output))
    cases = sum(int(n) for n in re.findall(r"share \S+ (\d+) cases", output))
    return f"{output.count('compared: ')} of {cases} cases" if cases else f"{tests} tests"


def run(*share):
    """One share of a group under a checker, again where the checker lost track: its verdict, its seconds and its output."""
    for _ in range(ATTEMPTS):
        said, took, output = once(*share)
        if said != "lost":
            break
    return said, took, output


def once(folder, seconds, tool, test, only, share):
    """One attempt at that."""
    environment = os.environ | {"ZSE_SHARE": share, "ZSE_KERNELS": "card"}
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", folder / test]
    command += ["--ignored", "--nocapture", "--test-threads", "1"] + ([only] if only else [])
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        status = process.returncode
    except subprocess.TimeoutExpired:
        # The tests that it runs as well: they hold its output open.
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = None
    return verdict(output, status), time.monotonic() - began, output


def main():
    """Runs all, prints a line for each group."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    bad = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(tool, test, only, count):
            shares = (f"{number + 1}/{count}" for number in range(count))
            return [pool.submit(run, folder, seconds, tool, test, only, share) for share in shares]

        jobs = [
            (f"{tool} of {group[0]} {group[1]}".strip(), start(tool, *group))
            for group in GROUPS
            for tool in TOOLS
            if (tool, group[0]) not in TOO_LONG
        ]
        for name, shares in jobs:
            results = [share.result() for share in shares]
            wrong = [(said, output) for said, _, output in results if said != "clean"]
            state = wrong[0][0] if wrong else "clean"
            longest = max(took for _, took, _ in results)
            cases = progress("\n".join(output for *_, output in results))
            print(f"{name}: {state}; {len(results)} shares, {cases}, {longest:.0f} s at most", flush=True)
            for said, output in wrong:
                bad += 1
                lines = [line for line in output.splitlines() if line.strip() and line != "========="]
                tail = lines[-12 if said == "stopped" else -60 :]
                print(f"-- {said}, {progress(output)}", *tail, sep="\n", flush=True)
    sys.exit(f"{bad} shares are not clean" if bad else 0)


if __name__ == "__main__":
    main()
