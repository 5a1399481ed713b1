"""What `zse serve` does under load: `python3 bench/load.py` (see bench/README.md).

Requests come at random times, whether or not earlier ones were answered (an open loop), and time
counts from when they were due. Results go to bench/results/NAME.csv and NAME.md.
"""

import argparse
import asyncio
import csv
import random
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import common
import machine
from served import Answer, Server, ask
from traffic import Limits, arrivals, completion, percentile

# Rates of the sweep, as shares of what the server does when as many ask as it computes together.
RATES = (0.25, 0.5, 0.75, 1.0, 1.25)
OVERLOAD = 10.0


@dataclass
class Row:
    """What came of a rate. Times are in milliseconds; of answers, not of refusals."""

    case: str
    rate: float
    seconds: float
    requests: int
    answered: int
    refused: int
    failed: int
    # Of all requests, and of those a second.
    within_limits: float
    goodput: float
    tokens_per_second: float
    first_p50: float
    first_p99: float
    between_p50: float
    between_p99: float
    whole_p99: float
    kv_idle_ms: float
    resident_mib: float


def measure(case: str, rate: float, answers: list[Answer], ends: list[float], limits: Limits) -> Row:
    served = [(a, end) for a, end in zip(answers, ends) if a.status == 200 and a.complete and a.tokens]
    first = [a.start for a in answers]
    seconds = max(ends) - min(first)
    good = sum(limits.hold(a) for a in answers)
    firsts = [1e3 * a.first() for a, _ in served]
    between = [1e3 * (y - x) for a, _ in served for x, y in zip(a.tokens, a.tokens[1:])]
    refused = sum(a.status in (429, 503) for a in answers)
    return Row(
        case=case,
        rate=rate,
        seconds=seconds,
        requests=len(answers),
        answered=len(served),
        refused=refused,
        failed=len(answers) - len(served) - refused,
        within_limits=good / len(answers),
        goodput=good / seconds,
        tokens_per_second=sum(len(a.tokens) for a, _ in served) / seconds,
        first_p50=percentile(firsts, 0.5),
        first_p99=percentile(firsts, 0.99),
        between_p50=percentile(between, 0.5),
        between_p99=percentile(between, 0.99),
        whole_p99=percentile([1e3 * (end - a.start) for a, end in served], 0.99),
        kv_idle_ms=0.0,
        resident_mib=0.0,
    )


class Load:
    def __init__(self, server: Server, args: argparse.Namespace):
        self.server, self.args = server, args
        self.limits = Limits(args.first / 1e3, args.between / 1e3)

    async def ask(self, body: dict, leave: int = 0, due: float | None = None) -> Answer:
        return await ask(self.server, "/v1/completions", body, due, leave)

    async def _finish(self, row: Row) -> Row:
        row.kv_idle_ms = 1e3 * await self.server.idle()
        row.resident_mib = self.server.resident() / 2**20
        print(f"{row.case}: {row.goodput:.2f} requests/s within limits", file=sys.stderr)
        return row

    async def open_loop(self, case: str, rate: float, seconds: float) -> Row:
        rng = random.Random(self.args.seed)
        times = arrivals(rate, seconds, rng)
        bodies = [completion(rng, self.args.scale) for _ in times]
        answers = [Answer()] * len(times)
        ends = [0.0] * len(times)
        begin = time.monotonic()

        async def one(i: int) -> None:
            due = begin + times[i]
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            answers[i] = await self.ask(bodies[i], due=due)
            ends[i] = time.monotonic()

        await asyncio.gather(*(one(i) for i in range(len(times))))
        return await self._finish(measure(case, rate, answers, ends, self.limits))

    async def closed_loop(self, seconds: float) -> float:
        """Requests a second that the server answers while as many ask as it computes together."""
        rng = random.Random(self.args.seed)
        begin = time.monotonic()
        done = 0

        async def client() -> None:
            nonlocal done
            while time.monotonic() - begin < seconds:
                answer = await self.ask(completion(rng, self.args.scale))
                done += answer.complete

        await asyncio.gather(*(client() for _ in range(self.args.parallel)))
        return done / (time.monotonic() - begin)

    async def disconnects(self, count: int) -> Row:
        """Clients that are gone in the middle of their answer leave no block behind."""
        rng = random.Random(self.args.seed)
        gate = asyncio.Semaphore(2 * self.args.parallel)
        answers, ends = [], []

        async def one() -> None:
            async with gate:
                body = completion(rng, self.args.scale) | {"max_tokens": 200}
                leave = rng.randint(1, 8)
                # The server hears of one that is gone a little later than the next one asks.
                while (answer := await self.ask(body, leave)).status == 429:
                    await asyncio.sleep(0.02)
                answers.append(answer)
                ends.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(count)))
        answered = sum(bool(a.tokens) for a in answers)
        if answered < count:
            raise SystemExit(f"only {answered} of {count} streams began")
        return await self._finish(measure("disconnects", 0.0, answers, ends, self.limits))

    async def slow_loris(self, count: int, seconds: float) -> Row:
        """`/health` answers while clients that send a header byte by byte hold connections."""
        writers = []
        for _ in range(count):
            _, writer = await asyncio.open_connection(self.server.host, self.server.port)
            writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
            writers.append(writer)
        answers, ends = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for writer in writers[:: max(1, count // 50)]:
                if not writer.is_closing():
                    writer.write(b"a")
            answer = await ask(self.server, "/health")
            now = time.monotonic()
            # What a stream calls its first token is here the whole answer.
            answer.tokens = [now] if answer.status == 200 else []
            answers.append(answer)
            ends.append(now)
            await asyncio.sleep(0.01)
        for writer in writers:
            writer.transport.abort()
        return await self._finish(measure("slow-loris", 0.0, answers, ends, self.limits))

    async def all(self) -> list[Row]:
        args = self.args
        # Fills what grows only once, and shows how fast the server is.
        await self.closed_loop(args.seconds / 2)
        capacity = args.rate or await self.closed_loop(args.seconds)
        print(f"{capacity:.2f} requests/s with {args.parallel} clients", file=sys.stderr)
        rows = [
            await self.open_loop(f"{share:g} of capacity", share * capacity, args.seconds)
            for share in RATES
        ]
        rows.append(await self.open_loop("overload", OVERLOAD * capacity, args.seconds / 2))
        rows.append(await self.disconnects(args.connections))
        rows.append(await self.slow_loris(args.connections, min(args.seconds, 10.0)))
        return rows


def verdicts(rows: list[Row]) -> list[str]:
    """What was asked for, and what was measured."""
    by_case = {row.case: row for row in rows}
    saturated, overload = by_case["1 of capacity"], by_case["overload"]
    peak = max(row.goodput for row in rows if row.case.endswith("of capacity"))
    loris = by_case["slow-loris"]
    worst = overload.first_p99 / saturated.first_p99
    whole = overload.whole_p99 / saturated.whole_p99
    return [
        f"Overload: p99 to the first token of accepted requests {worst:.2f} times that at "
        f"saturation, p99 of whole answers {whole:.2f} times (at most 1.5).",
        f"Overload: goodput {overload.goodput / peak:.0%} of the peak (at least 90%).",
        f"Disconnects: {by_case['disconnects'].requests} clients gone in the middle; all KV blocks "
        f"free {by_case['disconnects'].kv_idle_ms:.0f} ms after the last (at most 500).",
        f"Slow clients: p99 of `/health` {loris.whole_p99:.1f} ms (at most 100), "
        f"{loris.failed} of {loris.requests} failed.",
    ]


def write(path: Path, rows: list[Row], notes: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f.name for f in fields(Row)]
    with path.with_suffix(".csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        for row in rows:
            rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()}
            table.writerow(rounded)
    lines = ["# `zse serve` under load", "", *(f"- {note}" for note in notes), ""]
    lines += [f"- {verdict}" for verdict in verdicts(rows)]
    lines += [
        "",
        "| case | requests/s | requests | answered | refused | within limits | goodput, requests/s "
        "| tokens/s | first token p50, p99 (ms) | between tokens p50, p99 (ms) | MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.case} | {r.rate:.2f} | {r.requests} | {r.answered} | {r.refused} "
            f"| {r.within_limits:.1%} | {r.goodput:.2f} | {r.tokens_per_second:.0f} "
            f"| {r.first_p50:.1f}, {r.first_p99:.1f} | {r.between_p50:.1f}, {r.between_p99:.1f} "
            f"| {r.resident_mib:.0f} |"
        )
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, help="the server; built where none is given")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--name", default="load", help="of the results")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each rate")
    parser.add_argument("--rate", type=float, help="requests/s to call capacity; measured if not given")
    parser.add_argument("--parallel", type=int, default=4, help="answers computed together")
    parser.add_argument(
        "--max-requests", type=int, default=8, help="answers that run or wait; more are refused"
    )
    parser.add_argument("--first", type=float, default=1000.0, help="limit to the first token, ms")
    parser.add_argument("--between", type=float, default=50.0, help="limit between tokens, ms")
    parser.add_argument("--connections", type=int, default=1000, help="that leave, or are slow")
    parser.add_argument("--scale", type=float, default=1.0, help="of the lengths")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a trial: seconds, and 50 connections")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.connections, args.scale = min(args.seconds, 5.0), 50, 0.5
    return args


def main() -> None:
    args = arguments()
    binary = common.zse(args.binary)
    busy = machine.wait_until_quiet(1.0 if args.quick else 60.0)
    options = ["--parallel", str(args.parallel), "--max-requests", str(args.max_requests)]
    with Server(binary, args.model, *options) as server:
        rows = asyncio.run(Load(server, args).all())
    notes = [
        f"{machine.cpu_name()}, {machine.memory_gib():.0f} GiB; others had {busy:.0%} of the CPUs "
        "before it began; the clients run on the same machine",
        f"ZSE {common.commit()}, model {args.model}, {' '.join(options)}",
        f"limits: {args.first:g} ms to the first token, {args.between:g} ms between tokens (mean of "
        "an answer)",
        f"{args.seconds:g} s a rate, Poisson arrivals, log-normal lengths x {args.scale:g}, seed "
        f"{args.seed}",
    ]
    write(common.ROOT / "bench/results" / args.name, rows, notes)
    print("\n".join(verdicts(rows)))


if __name__ == "__main__":
    main()
