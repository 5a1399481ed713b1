"""What clients see of `zse serve` on a GPU that fails: `serve.py ZSE BREAKER`; part of gpu-check.

BREAKER is `breaker.c`, built; it breaks the server's context as a fault in a kernel does. The requests that it touches
have to fail and say so, the process has to start again under its number, nobody may be refused meanwhile, answers have
to be the same afterwards, and the GPU's memory has to be free of what was before. Too many faults have to end it.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FAULTS = ["far_away", "stops", "far_away", "stops", "far_away"]
QUESTION = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "temperature": 0, "max_tokens": 40}


def memory():
    """MiB in use on the GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0])


class Server:
    """`zse serve` with what breaks it."""

    def __init__(self, zse, breaker, folder):
        self.file, self.errors = folder / "break", folder / "errors"
        environment = os.environ | {"LD_PRELOAD": str(breaker), "ZSE_BREAK": str(self.file)}
        command = [zse, "serve", "builtin", "--device", "cuda", "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self.errors.open("w"), text=True
        )
        self.port = self.listens()

    def listens(self):
        """Waits until it says where it listens."""
        for line in self.process.stdout:
            found = re.match(r"listening on http://[\d.]+:(\d+)", line)
            if found:
                return int(found[1])
        raise SystemExit(f"it ended: {self.errors.read_text()}")

    def post(self, body, connection=None):
        """A request for a completion of a chat: status and the whole answer."""
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", "connection": "close"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer

    def ask(self):
        """The text of the answer to the question, or the status."""
        try:
            status, answer = self.post(QUESTION)
            body = json.loads(answer.read())
        except (http.client.HTTPException, ConnectionResetError, BrokenPipeError, json.JSONDecodeError) as error:
            # What was accepted just before the process ended: not refused, but not answered either.
            return f"cut off ({type(error).__name__})"
        return body["choices"][0]["message"]["content"] if status == 200 else status


def fail_once(server, how, expected):
    """Breaks it amid a stream, with others that ask all the time; gives what they got and the seconds it took."""
    long = QUESTION | {"stream": True, "ignore_eos": True, "max_tokens": 1500}
    _, stream = server.post(long)
    stream.read(200)
    done, seen = threading.Event(), []

    def keep_asking():
        while not done.is_set():
            seen.append((time.monotonic(), server.ask()))
            time.sleep(0.01)

    others = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in others:
        thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    server.file.write_text(how)
    rest = stream.read().decode()
    assert '"error"' in rest, f"the stream does not say that it failed: {rest[-300:]}"
    assert server.listens() == server.port
    ready = time.monotonic() - began
    assert server.ask() == expected, "another answer than before"
    done.set()
    for thread in others:
        thread.join()
    answers = [said for _, said in seen]
    wrong = [said for said in answers if said not in (expected, 500, 503) and not str(said).startswith("cut off")]
    assert not wrong, wrong[:3]
    counts = {str(said)[:20]: answers.count(said) for said in answers if said != expected}
    print(f"{how}: serves again after {ready:.2f} s; {answers.count(expected)} answers, other ends: {counts}")


def main():
    """Breaks it until it gives up."""
    zse, breaker = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(zse, Path(breaker).resolve(), Path(folder))
        try:
            expected, before = server.ask(), memory()
            assert isinstance(expected, str) and expected, expected
            for how in FAULTS:
                fail_once(server, how, expected)
                assert server.process.poll() is None, "the process has ended"
            after = memory()
            handles = [os.readlink(f.path) for f in os.scandir(f"/proc/{server.process.pid}/fd")]
            print(f"memory in use: {before} MiB before, {after} after {len(FAULTS)} faults; {len(handles)} open files")
            assert after <= before + 64, "memory is left over"
            server.file.write_text("far_away")
            # It is found by the next request.
            print(f"one fault more: {server.ask()}")
            status = server.process.wait(60)
            errors = server.errors.read_text()
            print(errors)
            assert status == 1 and "times within" in errors, status
        finally:
            server.process.kill()


if __name__ == "__main__":
    main()
