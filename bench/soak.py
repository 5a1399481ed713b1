"""Mixed load for a long time: `python3 bench/soak.py` (an hour), `--seconds 30` in CI.

Fails if the server's memory grows, if it fails a request, if it keeps a KV block, a file or a
connection of a request that is over, if it loses a swapped block or swaps none, or if it dies. How
fast it is does not matter: an answer that is slow is waited for, until the server counts as stuck.
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

import common
import machine
from served import STUCK, Server, ask
from traffic import WORDS, completion, growth

CLIENTS = 6

# Memory that may come on top while it runs: what the allocator keeps, by chance, and what is not a
# trend in a run of a minute.
SLACK = 16 << 20

# Conversations that go on again and again: together more than the KV cache holds.
TALKS = [" ".join(random.Random(i).choices(WORDS, k=300)) for i in range(16)]

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def requests(rng: random.Random) -> tuple[str, dict | None, int, set[int]]:
    """Path, body, tokens after which the client leaves, and the statuses that are right."""
    stream = completion(rng)
    talk = f"What is {rng.randrange(100)} plus 2?"
    chat = {
        "messages": [{"role": "user", "content": talk}],
        "max_tokens": rng.randint(1, 60),
        "seed": rng.randrange(1 << 31),
    }
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    again = {"prompt": rng.choice(TALKS), "max_tokens": rng.randint(1, 30), "ignore_eos": True}
    kinds = [
        (10, "/v1/completions", again, 0, {200, 429}),
        (30, "/v1/completions", stream, 0, {200, 429}),
        (10, "/v1/completions", stream, rng.randint(1, 20), {200, 429}),
        (5, "/v1/completions", stream | {"stream": False, "n": 2}, 0, {200, 429}),
        (15, "/v1/chat/completions", chat, 0, {200, 429}),
        (10, "/v1/chat/completions", chat | {"stream": True}, 0, {200, 429}),
        (5, "/v1/chat/completions", chat | {"tools": [TOOL]}, 0, {200, 429}),
        (5, "/v1/chat/completions", chat | {"response_format": form}, 0, {200, 429}),
        (4, "/v1/responses", {"input": talk, "max_output_tokens": rng.randint(1, 60)}, 0, {200, 429}),
        (4, "/v1/messages", {"messages": chat["messages"], "max_tokens": 30}, 0, {200, 429}),
        (4, "/api/chat", {"model": "builtin", "messages": chat["messages"]}, 0, {200, 429}),
        (3, "/api/generate", {"model": "builtin", "prompt": talk}, 0, {200, 429}),
        (5, "/tokenize", {"content": stream["prompt"]}, 0, {200}),
        (5, "/v1/completions", {"prompt": "x", "temperature": -1}, 0, {400}),
        (5, "/v1/completions", {"prompt": "x " * 20_000}, 0, {400}),
        (3, "/nowhere", {}, 0, {404}),
        (5, "/metrics", None, 0, {200}),
        (5, "/v1/models", None, 0, {200}),
    ]
    weights = [kind[0] for kind in kinds]
    return rng.choices(kinds, weights)[0][1:]


class Soak:
    def __init__(self, server: Server, args: argparse.Namespace):
        self.server, self.args = server, args
        self.counts: dict[int, int] = {}
        self.wrong: list[str] = []
        self.samples: list[tuple[float, float]] = []
        self.end = 0.0

    async def fill(self) -> None:
        """Has every block used and swapped once: that is no growth."""
        # The first round fills the cache, the second brings back.
        for _ in range(5):
            for talk in TALKS:
                await ask(self.server, "/v1/completions", {"prompt": talk, "max_tokens": 1})
            names = ("zse_kv_blocks", "zse_prefix_cache_blocks", "zse_kv_blocks_restored_total")
            blocks, cached, restored = await self.server.metric(*names)
            if cached >= 0.9 * blocks and restored > 0:
                return
        self.wrong.append("nothing was swapped and brought back")

    def goes_on(self) -> bool:
        return time.monotonic() < self.end and self.server.process.poll() is None

    async def client(self, seed: int) -> None:
        rng = random.Random(seed)
        while self.goes_on():
            path, body, leave, right = requests(rng)
            answer = await ask(self.server, path, body, leave=leave)
            self.counts[answer.status] = self.counts.get(answer.status, 0) + 1
            if answer.status not in right or not (answer.complete or leave):
                self.wrong.append(f"{path} gave {answer.status}: {answer.body[:300]}")

    async def watch(self) -> None:
        while self.goes_on():
            self.samples.append((time.monotonic(), self.server.resident()))
            await asyncio.sleep(self.args.seconds / 240)

    async def run(self) -> None:
        await self.fill()
        files = self.server.open_files()
        self.end = time.monotonic() + self.args.seconds
        await asyncio.gather(self.watch(), *(self.client(seed) for seed in range(CLIENTS)))
        if self.server.process.poll() is not None:
            sys.exit("\n".join(["the server is gone", *self.wrong[:10]]))
        await self.server.idle()
        names = ("zse_kv_blocks_restored_total", "zse_kv_swap_failures_total")
        self.restored, failures = await self.server.metric(*names)
        if failures:
            self.wrong.append(f"{failures:.0f} swapped blocks were lost")
        deadline = time.monotonic() + STUCK
        while self.server.open_files() > files + 2:
            if time.monotonic() > deadline:
                self.wrong.append(f"{self.server.open_files()} files are open, {files} were before")
                break
            await asyncio.sleep(0.1)
        # The first part fills caches and pools.
        rest = self.samples[len(self.samples) // 3 :]
        first, last = rest[0][1], rest[-1][1]
        self.growth = growth(rest)
        if self.growth > SLACK + 0.05 * first:
            self.wrong.append(f"memory grew by {self.growth / 2**20:.1f} MiB")
        self.memory = (first, last, max(v for _, v in self.samples))


def report(soak: Soak, args: argparse.Namespace) -> str:
    first, last, most = (v / 2**20 for v in soak.memory)
    hours = (soak.samples[-1][0] - soak.samples[len(soak.samples) // 3][0]) / 3600
    counts = ", ".join(f"{n} with {status}" for status, n in sorted(soak.counts.items()))
    lines = [
        "# Mixed load for a long time",
        "",
        f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB",
        f"- ZSE {common.commit()}, model {args.model}, {args.seconds:g} s, {CLIENTS} clients",
        f"- answers: {counts}",
        f"- resident: {first:.1f} MiB after a third of the time, {last:.1f} MiB at the end, "
        f"{most:.1f} MiB at most; trend {soak.growth / 2**20:+.2f} MiB in {hours:.2f} h",
        f"- KV blocks swapped and brought back: {soak.restored:.0f}",
        f"- wrong: {len(soak.wrong)}",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, help="the server; built where none is given")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--name", help="of the results; without, they are only printed")
    args = parser.parse_args()
    binary = common.zse(args.binary)
    # A small KV cache is used up to its end within seconds, swap included.
    options = ["--ctx", "1024", "--kv-swap-memory", "8M"]
    with Server(binary, args.model, *options) as server:
        soak = Soak(server, args)
        asyncio.run(soak.run())
    text = report(soak, args)
    print(text)
    if args.name:
        path = common.ROOT / "bench/results" / args.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text(text)
        rows = [f"{t - soak.samples[0][0]:.1f},{int(v)}" for t, v in soak.samples]
        path.with_suffix(".csv").write_text("\n".join(["seconds,resident_bytes", *rows]) + "\n")
    if soak.wrong:
        sys.exit("\n".join(soak.wrong[:10]))


if __name__ == "__main__":
    main()
