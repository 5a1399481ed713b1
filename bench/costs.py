"""What serving costs on top of computing: `python3 bench/costs.py` (see bench/README.md).

Start without a model, the work of HTTP for a request and a token, a hit of the prefix cache and a miss,
constrained against free decoding, and how soon hostile requests are refused. Results go to
bench/results/NAME.md.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import common
import machine
from served import Process, Server, ask
from traffic import WORDS

# Threads that compute; what others use is what HTTP costs.
ENGINE = ("zse-engine", "zse-cpu")

# How often a thread is woken to write.
STEPS = 2000


class Client:
    """A connection that is kept, and waits for whole answers."""

    def __init__(self, server: Process):
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=120)

    def post(self, path: str, body: bytes | dict) -> tuple[int, bytes, float]:
        """Status, body, and the seconds that it took."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        start = time.perf_counter()
        self.connection.request("POST", path, data, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, text, time.perf_counter() - start


def start(binary: Path, args: argparse.Namespace) -> list[str]:
    times, resident = [], []
    for _ in range(10):
        begin = time.perf_counter()
        with Server(binary) as server:
            times.append(time.perf_counter() - begin)
            asyncio.run(ask(server, "/health"))
            resident.append(server.resident() / 2**20)
    return [
        f"| start without a model until it listens, median and most of 10 | "
        f"{1e3 * statistics.median(times):.0f} and {1e3 * max(times):.0f} ms | 100 ms |",
        f"| resident without a model | {max(resident):.1f} MiB | 60 MB |",
    ]


def requests(binary: Path, args: argparse.Namespace) -> list[str]:
    """What a request takes beyond the time that the engine says its first token took."""
    with Server(binary, "builtin") as server:
        client = Client(server)
        body = {"prompt": "Once", "max_tokens": 1, "ignore_eos": True}

        def engine() -> tuple[float, float]:
            names = ("sum", "count")
            return asyncio.run(server.metric(*(f"zse_time_to_first_token_seconds_{n}" for n in names)))

        for _ in range(100):
            client.post("/v1/completions", body)
        before = engine()
        walls = [client.post("/v1/completions", body)[2] for _ in range(1000)]
        after = engine()
        computed = (after[0] - before[0]) / (after[1] - before[1])
    return [
        f"| a request of one token beyond what the engine took ({1e3 * computed:.2f} ms), mean "
        f"| {1e3 * (statistics.mean(walls) - computed):.2f} ms | 1 ms |"
    ]


def tokens(binary: Path, args: argparse.Namespace) -> list[str]:
    rows = []
    for clients in (1, 4, 16):
        used, bare = _tokens(binary, clients, args.seconds), _bare_write(clients)
        who = f"{clients} client{'s' * (clients > 1)}"
        rows += [
            f"| CPU of HTTP a streamed token, {who} | {used:.1f} us | 10 us |",
            f"| the same, less what the system takes to wake a thread and write 300 bytes to each of {clients} "
            f"socket{'s' * (clients > 1)} ({bare:.1f} us a write) | {used - bare:.1f} us | |",
        ]
    return rows


def _bare_write(streams: int) -> float:
    """Microseconds of CPU of a write, in a program that does nothing else but to be woken."""
    reader = """
import os, select, socket, sys
poll, sockets = select.epoll(), []
for _ in range(int(sys.argv[2])):
    sockets.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    poll.register(sockets[-1], select.EPOLLIN)
while all(os.read(fd, 4096) for fd, _ in poll.poll()):
    pass
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen([sys.executable, "-c", reader, str(port), str(streams)])
        peers = [listener.accept()[0] for _ in range(streams)]
    for peer in peers:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    files, event, data = [peer.fileno() for peer in peers], os.eventfd(0, os.EFD_SEMAPHORE), b"a" * 300
    used = []

    def write() -> None:
        start = time.thread_time()
        for _ in range(STEPS):
            os.eventfd_read(event)
            for file in files:
                os.write(file, data)
        used.append(time.thread_time() - start)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(STEPS):
        time.sleep(0.001)
        os.eventfd_write(event, 1)
    writer.join()
    for peer in peers:
        peer.close()
    process.wait()
    return 1e6 * used[0] / (STEPS * streams)


def _tokens(binary: Path, clients: int, seconds: float) -> float:
    """Microseconds of CPU a token of threads that do not compute."""
    body = {"prompt": "Once upon a time", "max_tokens": 500, "ignore_eos": True, "stream": True}
    with Server(binary, "builtin", "--parallel", str(clients)) as server:

        async def client(end: float) -> int:
            seen = 0
            while time.monotonic() < end:
                seen += len((await ask(server, "/v1/completions", body)).tokens)
            return seen

        async def all_clients(seconds: float) -> int:
            end = time.monotonic() + seconds
            return sum(await asyncio.gather(*(client(end) for _ in range(clients))))

        asyncio.run(all_clients(1.0))
        before = _cpu(server)
        seen = asyncio.run(all_clients(seconds))
        used = _cpu(server) - before
    return 1e6 * used / seen


def _cpu(server: Process) -> float:
    """CPU seconds of the threads that do not compute."""
    used = 0.0
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        if not (task / "comm").read_text().startswith(ENGINE):
            used += int((task / "schedstat").read_text().split()[0]) / 1e9
    return used


def prefix(binary: Path, args: argparse.Namespace) -> list[str]:
    """The first token behind 2,048 tokens that are cached, against that behind 32. How much longer
    attention to them takes shows in the time between tokens."""
    with Server(binary, "builtin", "--ctx", "4096") as server:
        rng = random.Random(1)

        def medians(prompt: list[int]) -> tuple[float, float]:
            """Until the first token, and from one to the next, in milliseconds."""
            body = {"prompt": prompt, "max_tokens": 8, "ignore_eos": True, "stream": True}
            answers = [asyncio.run(ask(server, "/v1/completions", body)) for _ in range(101)][1:]
            gaps = [b - a for x in answers for a, b in zip(x.tokens, x.tokens[1:])]
            firsts = [x.first() for x in answers]
            return 1e3 * statistics.median(firsts), 1e3 * statistics.median(gaps)

        long, short = medians(_prompt(server, rng, 2049)), medians(_prompt(server, rng, 33))
    attention = long[1] - short[1]
    return [
        f"| first token behind 2,048 cached ones, beyond one behind 32 ({short[0]:.2f} ms) and the "
        f"attention to them ({attention:.2f} ms), median | {long[0] - short[0] - attention:.2f} ms | 1 ms |"
    ]


def miss(binary: Path, args: argparse.Namespace) -> list[str]:
    """The first token behind prompts of which nothing is cached, kept for the cache or not, in turn."""
    with Server(binary, "builtin") as server:
        rng = random.Random(1)

        def first(cache: bool) -> float:
            body = {"prompt": _prompt(server, rng, 1024), "max_tokens": 1, "cache_prompt": cache, "stream": True}
            return asyncio.run(ask(server, "/v1/completions", body)).first()

        pairs = [(first(True), first(False)) for _ in range(110)][10:]
    without = statistics.median(b for _, b in pairs)
    more = statistics.median(a - b for a, b in pairs)
    return [
        f"| first token behind 1,024 that nobody asked before, kept for the prefix cache, beyond one that is not "
        f"({1e3 * without:.1f} ms), median of 100 pairs | {1e3 * more:+.2f} ms, {more / without:+.1%} | |"
    ]


def _prompt(server: Server, rng: random.Random, count: int) -> list[int]:
    """Tokens of random words."""
    text = " ".join(rng.choices(WORDS, k=2 * count))
    status, body, _ = Client(server).post("/tokenize", {"content": text})
    if status != 200:
        sys.exit(f"/tokenize answered {status}")
    return json.loads(body)["tokens"][:count]


def constraint(binary: Path, args: argparse.Namespace) -> list[str]:
    """Time between tokens of JSON by a schema, against free text, in turn."""
    model = common.model("tinyllama", "q4_k_m", args.cache)
    item = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    }
    schema = {"type": "array", "items": item, "minItems": 100}
    form = {"type": "json_schema", "json_schema": {"name": "items", "strict": True, "schema": schema}}
    free = {"prompt": "Once", "max_tokens": 96, "ignore_eos": True, "stream": True}
    bound = free | {"response_format": form}

    def seconds(server: Server, body: dict, seed: int) -> float:
        answer = asyncio.run(ask(server, "/v1/completions", body | {"seed": seed}))
        if not answer.complete or len(answer.tokens) < 32:
            sys.exit(f"an answer of {len(answer.tokens)} tokens: {answer.body[:300]}")
        gaps = [y - x for x, y in zip(answer.tokens, answer.tokens[1:])]
        return statistics.median(gaps)

    with Server(binary, str(model), "--ctx", "512") as server:
        ratios = []
        for seed in range(-1, args.rounds):
            pair = seconds(server, bound, seed + 1), seconds(server, free, seed + 1)
            if seed >= 0:
                ratios.append(pair[0] / pair[1])
    return [
        f"| JSON by a schema against free text, shape of TinyLlama-1.1B, median of {args.rounds} rounds "
        f"| {100 * (statistics.median(ratios) - 1):+.1f}% a token | 3% |"
    ]


def hostile(binary: Path, args: argparse.Namespace) -> list[str]:
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    big = 10 << 20

    def field(text: str) -> bytes:
        return (json.dumps(chat)[:-1] + f", {text}}}").encode()

    def deep(count: int) -> dict:
        schema: dict = {"type": "string"}
        for _ in range(count):
            schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
        return schema

    def form(schema: dict) -> bytes:
        named = {"name": "a", "schema": schema}
        body = chat | {"response_format": {"type": "json_schema", "json_schema": named}}
        return json.dumps(body).encode()

    sys.setrecursionlimit(10_000)
    bodies = {
        "a negative temperature": field('"temperature": -1'),
        "NaN": field('"temperature": NaN'),
        "an infinite number": field('"top_p": 1e999'),
        "n of a million": field('"n": 1000000'),
        "top_k beyond 64 bits": field('"top_k": 99999999999999999999'),
        "50,000 open brackets": b"[" * 50_000,
        "tools 50,000 deep": field('"tools": ' + "[" * 50_000 + "]" * 50_000),
        "a schema 1,000 deep": form(deep(1_000)),
        "a schema of 100,000 choices": form({"enum": [f"{i:x}" for i in range(100_000)]}),
        "10 MiB of spaces in a message": json.dumps(
            {"messages": [{"role": "user", "content": " " * big}]}
        ).encode(),
        "10 MiB of words in a message": json.dumps(
            {"messages": [{"role": "user", "content": "word " * (big // 5)}]}
        ).encode(),
        "10 MiB of one letter in a message": json.dumps(
            {"messages": [{"role": "user", "content": "a" * big}]}
        ).encode(),
        "10 MiB of numbers": field('"logit_bias": [' + "1," * (big // 2) + "1]"),
        "10 MiB of messages": json.dumps({"messages": chat["messages"] * (big // 36)}).encode(),
        "10 MiB of zeros": b"\0" * big,
        "logit_bias of 200,000 entries": json.dumps(
            chat | {"logit_bias": {str(i): 1 for i in range(200_000)}}
        ).encode(),
        "logit_bias of 60,000 entries": json.dumps(
            chat | {"logit_bias": {str(i): 1 for i in range(60_000)}}
        ).encode(),
        "an unknown object of 200,000 fields": json.dumps(
            chat | {"nothing": {str(i): i for i in range(200_000)}}
        ).encode(),
        "an unknown object of 60,000 fields": json.dumps(
            chat | {"nothing": {str(i): i for i in range(60_000)}}
        ).encode(),
        "a schema of 60,000 alternatives": form({"anyOf": [{"const": i} for i in range(60_000)]}),
        "a schema of 30,000 alternatives": form({"anyOf": [{"const": i} for i in range(30_000)]}),
    }
    lines = []
    with Server(binary, "builtin") as server:
        Client(server).post("/v1/chat/completions", chat | {"max_tokens": 1})
        before = server.resident()
        for name, body in bodies.items():
            status, times = _refused(server, name, body)
            lines.append(
                f"| {name}: {status} after, median and most of {len(times)} "
                f"| {1e3 * statistics.median(times):.1f} and {1e3 * max(times):.1f} ms | 50 ms |"
            )
        first = server.resident()
        # What a first round leaves with the allocator a second one takes again; a leak grows.
        for name, body in bodies.items():
            _refused(server, name, body)
        second = server.resident()
    return [
        *lines,
        f"| memory after all of these | {(first - before) / 2**20:+.1f} MiB | |",
        f"| memory after a second round of them, beyond that | {(second - first) / 2**20:+.1f} MiB | |",
    ]


def _refused(server: Process, name: str, body: bytes) -> tuple[int, list[float]]:
    """The status that a body is refused with, and the seconds until it is, ten times."""
    status, times = 0, []
    for _ in range(10):
        status, text, seconds = Client(server).post("/v1/chat/completions", body)
        if not 400 <= status < 500:
            sys.exit(f"{name}: answered {status}: {text[:300]}")
        times.append(seconds)
    return status, times


PARTS = [start, requests, tokens, prefix, miss, constraint, hostile]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, help="the server; built where none is given")
    parser.add_argument("--cache", type=Path, default=common.CACHE)
    parser.add_argument("--name", default="costs", help="of the results")
    parser.add_argument("--rounds", type=int, default=9, help="of constrained and free decoding")
    parser.add_argument("--seconds", type=float, default=10.0, help="of streams")
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--only", type=lambda s: s.split(","), default=names, help=", ".join(names))
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    args = parser.parse_args()
    common.own_python(args.cache)
    binary = common.zse(args.binary)
    lines = [
        "# What serving costs",
        "",
        f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB; the clients run on the same machine",
        f"- ZSE {common.commit()}, the built-in model unless it says otherwise",
        "",
        "| what | measured | at most |",
        "|---|---|---|",
    ]
    for part in PARTS:
        if part.__name__ in args.only:
            busy = machine.wait_until_quiet(args.patience)
            if busy > machine.QUIET:
                print(f"others have {busy:.0%} of the CPUs", file=sys.stderr)
            found = part(binary, args)
            print("\n".join(found))
            lines += found
    if args.only == names:
        path = common.ROOT / "bench/results" / f"{args.name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
