"""Compares ZSE with llama.cpp and ik_llama.cpp on this machine, in one command.

    python3 bench/run.py                        # everything: hours
    python3 bench/run.py --only prefill,decode --rounds 3
    python3 bench/run.py --quick                # a trial: one round, an eighth of the tokens

Builds ZSE and the peers, makes the models, then runs the engines in turn, round by round, so that
what slows the machine slows all of them; waits for a quiet machine before each round, and measures
what it can do at most. Results go to bench/results/ after every case. See bench/README.md.
"""

import argparse
import datetime
import os
import sys
from dataclasses import replace
from pathlib import Path

import machine
import peers
import report
from common import CACHE, ROOT, build, model, own_python, target
from engines import START, Engine, Failed, IkLlamaCpp, LlamaCpp, Zse
from groups import CASES, GROUPS, Case

# An engine that has not answered after so many seconds is given up.
TIMEOUT = 1800.0


def main() -> None:
    args = arguments()
    own_python(args.cache)
    if args.list:
        print("\n".join(f"{c.group:8} {c.model:20} {c.test}" for c in args.cases))
        return
    prepare(args)
    engines: list[Engine] = [Zse(args.zse)]
    if args.peers:
        pairs = ((LlamaCpp, "ll"), (IkLlamaCpp, "ik"))
        engines += [e(args.peers / name) for e, name in pairs if (args.peers / name).exists()]
    if len(engines) == 1:
        print("warning: there are no peers to compare with", file=sys.stderr)
    path = args.results / f"{args.name}.csv"
    args.results.mkdir(parents=True, exist_ok=True)
    results = report.read(path) if path.exists() else report.Results()
    facts = about(args.threads, engines[0])
    for key in ("machine", "ZSE"):
        if results.facts.get(key, facts[key]) != facts[key]:
            sys.exit(f"{path} is of another {key} ({results.facts[key]}): choose another --name")
    for case in args.cases:
        samples = measure(engines, case, args)
        results.facts = facts | {e.name: e.version() for e in engines[1:]}
        results.replace(samples)
        results.write(path)
        path.with_suffix(".md").write_text(report.markdown(results))
    print(f"wrote {path} and .md", file=sys.stderr)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(GROUPS), help=f"of {','.join(GROUPS)}")
    parser.add_argument("--models", default="", help="only these, such as tinyllama-q4_k_m,...")
    parser.add_argument("--tests", default="", help="only these, such as pp512,tg128,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, an eighth of the tokens")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cache", type=Path, default=CACHE, help="for models and peers")
    parser.add_argument("--peers", type=Path, help="folder of binaries: ll, ik, ll-avx2, ik-avx2")
    parser.add_argument("--no-peers", action="store_true", help="measure ZSE alone")
    parser.add_argument("--llama-source", type=Path, help="llama.cpp's tree, instead of PyPI's")
    parser.add_argument("--ik-source", type=Path, help="ik_llama.cpp's tree")
    parser.add_argument("--zse", type=Path, help="the binary, instead of building it")
    parser.add_argument("--peak", type=Path, help="the example `peak` of zse-cpu, likewise")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--name", default=f"{datetime.date.today()}", help="of the result files")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds to wait for quiet")
    parser.add_argument("--first", type=int, default=0, help="the engine that begins each round, by number")
    parser.add_argument("--strict", action="store_true", help="stop where the machine is busy")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    args = parser.parse_args(given)
    groups, models, tests = (list(filter(None, text.split(","))) for text in (args.only, args.models, args.tests))
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    if args.zse and not args.peak:
        args.peak = args.zse.parent / "examples/peak"
    args.peak = args.peak or target() / "release/examples/peak"
    for name in ("zse", "peak", "peers", "cache"):
        if path := getattr(args, name):
            # Engines run in folders of their own.
            setattr(args, name, path.resolve())
    args.cases = [
        case
        for case in CASES
        if case.group in groups and case.model in (models or [case.model]) and case.test in (tests or [case.test])
    ]
    if args.quick:
        args.cases = [replace(case.smaller(8), rounds=1) for case in args.cases]
    return args


def prepare(args: argparse.Namespace) -> None:
    """Builds what `args` does not name: the peers, unless there shall be none, and ZSE."""
    if not args.peers and not args.no_peers:
        args.peers = args.cache / "peers"
        sources = {"ll": args.llama_source, "ik": args.ik_source}
        peers.build(args.peers, names(args.cases), {k: v for k, v in sources.items() if v})
    if not args.zse:
        build("-p", "zse-cli")
        build("-p", "zse-cpu", "--example", "peak")
        args.zse = target() / "release/zse"


def names(cases: list[Case]) -> list[str]:
    """The builds of peers that `cases` need."""
    return [f"{e}{isa}" for isa in sorted({f"-{c.isa}" * bool(c.isa) for c in cases}) for e in ("ll", "ik")]


def about(threads: int, zse: Engine) -> dict[str, str]:
    cpu = f"{machine.cpu_name()}, {threads} threads, {machine.memory_gib():.0f} GiB of memory"
    return {
        "title": "Speed on the CPU",
        "machine": cpu,
        "date": f"{datetime.date.today()}",
        "ZSE": zse.version(),
    }


def ceiling(case: Case, peaks: dict[str, float]) -> float:
    """Tokens a second where nothing but memory or arithmetic limits them; 0 where it is unknown."""
    import synth

    work = synth.work(case.shape, case.quant)
    floats = case.quant in ("f16", "bf16", "f32")
    computed = peaks["f32_gflops" if floats else "int8_gops"] * 1e9 / work.ops
    if case.prompt:
        return computed
    # A mixture's sequences choose experts of their own, and how many in all is left to chance.
    if not case.generate or (case.seqs > 1 and synth.SHAPES[case.shape].experts):
        return 0.0
    kv = work.kv * (case.depth + case.generate / 2) * {"f16": 2, "q8_0": 34 / 32}[case.kv]
    read = peaks["read_gbs"] * 1e9 * case.seqs / (work.bytes + case.seqs * kv)
    return min(read, computed)


def rss_limit(case: Case, file_bytes: int) -> int:
    """The most bytes that a process which gives one token may use; 0: any."""
    import synth

    if case.test != "start":
        return 0
    kv = 2 * START * synth.work(case.shape, case.quant).kv
    return int(1.15 * file_bytes + kv + 64e6)


def measure(engines: list[Engine], case: Case, args: argparse.Namespace) -> list[report.Sample]:
    """Rounds of all engines in turn."""
    path = model(case.shape, case.quant, args.cache)
    samples, failed = [], set()
    for i in range(min(args.rounds, case.rounds or args.rounds)):
        share = machine.wait_until_quiet(args.patience)
        if share > machine.QUIET:
            busy = f"{share:.0%} of the CPUs are in use by others"
            if args.strict:
                sys.exit(f"stopped: {busy}")
            print(f"warning: {busy}", file=sys.stderr)
        peaks = machine.peaks(args.peak, args.threads, case.isa)
        first = args.first % len(engines)
        for engine in engines[first:] + engines[:first]:
            if engine.name in failed:
                continue
            before = machine.ticks()
            try:
                result = engine.run(path, case, args.threads, TIMEOUT)
            except Failed as error:
                failed.add(engine.name)
                print(f"{engine.name}, {case.model} {case.test}: {error}", file=sys.stderr)
                continue
            sample = report.Sample(
                group=case.group,
                model=case.model,
                test=case.test,
                engine=engine.name,
                round=i,
                value=result.value,
                unit=case.unit,
                target=case.target,
                target_where_slow=case.target_where_slow or 0.0,
                ceiling=ceiling(case, peaks),
                peak_rss=result.peak_rss,
                file_bytes=path.stat().st_size,
                others=machine.others(before, result.cpu),
                wall_s=result.wall,
                read_gbs=peaks["read_gbs"],
                int8_gops=peaks["int8_gops"],
                f32_gflops=peaks["f32_gflops"],
                against=case.against,
                rss_limit=rss_limit(case, path.stat().st_size),
                **result.details,
            )
            samples.append(sample)
            said = f"{case.model} {case.test} round {i}: {engine.name} {result.value:.2f} {case.unit}"
            print(said, file=sys.stderr)
    return samples


if __name__ == "__main__":
    main()
