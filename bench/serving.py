"""`zse serve` beside llama-server: `python3 bench/serving.py` (see bench/README.md).

Both answer the same requests, in turn, round by round, with as many slots as there are clients. The
claim is the ratio of a round; its median counts. Results go to bench/results/NAME.csv and NAME.md.
"""

import argparse
import asyncio
import csv
import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import common
import machine
import peers
from served import Answer, LlamaServer, Process, Server, ask
from traffic import WORDS, percentile

# Clients that ask one request after the other, and the least ratio of tokens a second.
TARGETS = {1: 1.0, 4: 1.2, 16: 1.2}

# Tokens of a slot: prompt and answer fit with room to spare.
CONTEXT = 1024


@dataclass(frozen=True)
class Work:
    """A model, and what its clients ask for."""

    model: str
    # Words of a prompt, tokens of an answer, requests of each client in a round.
    words: int
    tokens: int
    requests: int


WORKS = (Work("builtin", 100, 200, 8), Work("tinyllama-q4_k_m", 12, 48, 2))


@dataclass
class Row:
    """A round of one engine. Times are in milliseconds."""

    model: str
    clients: int
    round: int
    engine: str
    tokens_per_second: float
    first_p50: float
    first_p95: float
    between_p50: float
    between_p95: float
    resident_mib: float
    # Share of the CPUs that neither the server nor its clients had.
    others: float


def bodies(work: Work, clients: int, seed: int) -> list[dict]:
    rng = random.Random(seed)
    return [
        {
            "prompt": " ".join(rng.choices(WORDS, k=work.words)),
            "max_tokens": work.tokens,
            "ignore_eos": True,
            "temperature": 0.8,
            "seed": rng.randrange(1 << 31),
            "stream": True,
        }
        for _ in range(clients * work.requests)
    ]


async def closed_loop(server: Process, clients: int, work: list[dict]) -> list[Answer]:
    """Each client asks for the next of `work` once its last answer has come."""
    left = iter(work)
    answers = []

    async def client() -> None:
        for body in left:
            answers.append(await ask(server, "/v1/completions", body))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def measure(engine: str, server: Process, work: Work, clients: int, number: int) -> Row:
    asks = bodies(work, clients, number)
    before, used = machine.ticks(), _cpu(server)
    own = time.process_time()
    start = time.monotonic()
    answers = asyncio.run(closed_loop(server, clients, asks))
    seconds = time.monotonic() - start
    cpu = _cpu(server) - used + time.process_time() - own
    wrong = [a for a in answers if not a.complete or a.status != 200 or not a.tokens]
    if wrong:
        raise SystemExit(f"{engine} answered {wrong[0].status}: {wrong[0].body[:300]}")
    firsts = [1e3 * a.first() for a in answers]
    between = [1e3 * (y - x) for a in answers for x, y in zip(a.tokens, a.tokens[1:])]
    return Row(
        model=work.model,
        clients=clients,
        round=number,
        engine=engine,
        tokens_per_second=len(asks) * work.tokens / seconds,
        first_p50=percentile(firsts, 0.5),
        first_p95=percentile(firsts, 0.95),
        between_p50=percentile(between, 0.5),
        between_p95=percentile(between, 0.95),
        resident_mib=server.resident() / 2**20,
        others=machine.others(before, cpu),
    )


def _cpu(server: Process) -> float:
    """CPU seconds that the server has used."""
    stat = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def case(args: argparse.Namespace, binary: Path, work: Work, clients: int) -> list[Row]:
    builtin = common.ROOT / "models/builtin/zse-builtin.gguf"
    path = builtin if work.model == "builtin" else common.model(*work.model.split("-", 1), args.cache)
    ours = ["--parallel", str(clients), "--ctx", str(CONTEXT), "--threads", str(args.threads)]
    rows = []
    theirs = args.peers / "ll/llama-server"
    with (
        Server(binary, str(path), *ours) as zse,
        LlamaServer(theirs, path, clients, CONTEXT, args.threads) as llama,
    ):
        servers = {"zse": zse, "llama-server": llama}
        for number in range(-1, args.rounds):
            for engine, server in servers.items():
                machine.wait_until_quiet(args.patience)
                row = measure(engine, server, work, clients, number)
                # The first round fills caches and pools.
                if number >= 0:
                    rows.append(row)
                print(
                    f"{work.model}, {clients} clients, {engine}: {row.tokens_per_second:.1f} tokens/s",
                    file=sys.stderr,
                )
    return rows


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| model | clients | zse tokens/s | llama-server tokens/s | ratio | target "
        "| between tokens p95, ms | first token p50, ms | MiB | others |",
        "|---|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for model, clients in dict.fromkeys((r.model, r.clients) for r in rows):
        both = [
            [r for r in rows if (r.model, r.clients, r.engine) == (model, clients, engine)]
            for engine in ("zse", "llama-server")
        ]

        def middle(name: str) -> list[float]:
            return [statistics.median(getattr(r, name) for r in own) for own in both]

        speeds = zip(*([r.tokens_per_second for r in own] for own in both))
        ratio = statistics.median(a / b for a, b in speeds)
        target = TARGETS.get(clients, 1.0)
        speed, between = middle("tokens_per_second"), middle("between_p95")
        first, resident = middle("first_p50"), middle("resident_mib")
        others = max(r.others for own in both for r in own)
        lines.append(
            f"| {model} | {clients} | {speed[0]:.1f} | {speed[1]:.1f} | {ratio:.2f} "
            f"| {target:g} {'met' if ratio >= target else 'missed'} "
            f"| {between[0]:.1f} against {between[1]:.1f} | {first[0]:.1f} against {first[1]:.1f} "
            f"| {resident[0]:.0f} against {resident[1]:.0f} "
            f"| {others:.0%}{' (!)' * (others > machine.QUIET)} |"
        )
    return lines


def write(path: Path, rows: list[Row], args: argparse.Namespace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="") as file:
        out = csv.DictWriter(file, [f.name for f in fields(Row)])
        out.writeheader()
        for row in rows:
            rounded = asdict(row).items()
            out.writerow({k: round(v, 3) if isinstance(v, float) else v for k, v in rounded})
    lines = [
        "# `zse serve` beside llama-server",
        "",
        f"- {machine.cpu_name()}, {args.threads} threads, {machine.memory_gib():.0f} GiB; the clients run "
        "on the same machine",
        f"- ZSE {common.commit()}; llama-server of {args.version}",
        f"- {args.rounds} rounds in turn, medians; ratio of tokens a second round by round",
        *(
            f"- {w.model}: prompts of {w.words} words, answers of {w.tokens} tokens, "
            f"{w.requests} of them a client and round"
            for w in WORKS
        ),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines + table(rows)) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, help="the server; built where none is given")
    parser.add_argument("--peers", type=Path, help="ready binaries: a folder with ll/llama-server")
    parser.add_argument("--cache", type=Path, default=common.CACHE)
    parser.add_argument("--name", default="serving", help="of the results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clients", type=lambda s: [int(n) for n in s.split(",")], default=list(TARGETS))
    parser.add_argument("--models", type=lambda s: s.split(","), default=[w.model for w in WORKS])
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    common.own_python(args.cache)
    binary = common.zse(args.binary)
    if not args.peers:
        args.peers = args.cache / "peers"
        peers.build(args.peers, ["ll"], {}, ("llama-server",))
    version = args.peers / "ll/VERSION"
    args.version = version.read_text().strip() if version.exists() else "llama.cpp"
    rows = []
    for work in WORKS:
        for clients in args.clients if work.model in args.models else ():
            rows += case(args, binary, work, clients)
            write(common.ROOT / "bench/results" / args.name, rows, args)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
