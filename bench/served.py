"""Servers of our own, and a client of few lines that sees when each token comes."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

# How long anything may take before the server counts as stuck, in seconds.
STUCK = 300.0


class Process:
    """A server that runs from `with` to its end."""

    host = "127.0.0.1"
    port = 0
    process: subprocess.Popen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STUCK)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def resident(self) -> int:
        """Bytes that it has in memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Server(Process):
    """`zse serve`. Its log goes to our standard error."""

    def __init__(self, binary: Path, *options: str):
        allow_many_files()
        command = [str(binary), "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        if not self.port:
            raise SystemExit(f"the server did not start: {' '.join(command)}")

    async def metric(self, *names: str) -> list[float]:
        """Numbers of `/metrics`, all as of one moment, summed over models."""
        answer = await ask(self, "/metrics")
        sums = []
        for name in names:
            lines = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", answer.body, re.M)
            if not lines:
                raise SystemExit(f"no metric {name}")
            sums.append(sum(map(float, lines)))
        return sums

    async def idle(self) -> float:
        """Waits until nothing is computed and no block is held; how long that took, in seconds."""
        start = time.monotonic()
        gauges = ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc")
        while any(await self.metric(*(f"vllm:{g}" for g in gauges))):
            if time.monotonic() - start > STUCK:
                raise SystemExit("the server still holds KV blocks of requests that are over")
            await asyncio.sleep(0.01)
        return time.monotonic() - start


class LlamaServer(Process):
    """`llama-server`, as it comes, with so many slots of `context` tokens."""

    def __init__(self, binary: Path, model: Path, slots: int, context: int, threads: int):
        with socket.socket() as free:
            free.bind((self.host, 0))
            self.port = free.getsockname()[1]
        command = [str(binary), "-m", str(model), "--host", self.host, "--port", str(self.port)]
        command += ["-np", str(slots), "-c", str(slots * context), "-t", str(threads)]
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        end = time.monotonic() + STUCK
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start: {' '.join(command)}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/health", timeout=10):
                return True
        except OSError:
            return False


@dataclass
class Answer:
    """What came of a request; times are in seconds of the monotonic clock."""

    status: int = 0
    body: str = ""
    start: float = 0.0
    # When each event of a stream with text in it came.
    tokens: list[float] = field(default_factory=list)
    # Whether a stream came to its end.
    complete: bool = False

    def first(self) -> float:
        """From the start to the first token."""
        return self.tokens[0] - self.start

    def between(self) -> float:
        """The mean time from a token to the next."""
        return (self.tokens[-1] - self.tokens[0]) / max(len(self.tokens) - 1, 1)


async def ask(
    server: Process, path: str, body: dict | None = None, due: float | None = None, leave: int = 0
) -> Answer:
    """Asks on a connection of its own. Time counts from `due`, where that is given: a client that
    is late does not make the server look fast. With `leave`, the client is gone after so many
    tokens."""
    answer = Answer(start=time.monotonic() if due is None else due)
    writer = None
    try:
        async with asyncio.timeout(STUCK):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            data = b"" if body is None else json.dumps(body).encode()
            method = "GET" if body is None else "POST"
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            await _read(reader, answer, leave)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        # One that is refused, cut off or late has no end; who cares looks at `complete`.
        pass
    finally:
        # At once, without waiting for the other side.
        if writer:
            writer.transport.abort()
    return answer


async def _read(reader: asyncio.StreamReader, answer: Answer, leave: int) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    answer.status = int(head.split(" ", 2)[1])
    if "text/event-stream" not in head:
        body = await reader.read()
        if "transfer-encoding: chunked" in head:
            body = b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body))
        answer.body = body.decode()
        answer.complete = True
        return
    while line := await reader.readline():
        if line.startswith(b"data: [DONE]"):
            answer.complete = True
        elif line.startswith(b"data: ") and (b'"text":"' in line or b'"content":"' in line):
            answer.tokens.append(time.monotonic())
            if leave and len(answer.tokens) == leave:
                return


def allow_many_files() -> None:
    """A thousand connections are a thousand open files, here and in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 8192 if most == resource.RLIM_INFINITY else min(most, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
