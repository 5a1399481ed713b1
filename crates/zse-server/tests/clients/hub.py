"""A hub on this machine for tests: every repository holds the same model, which embeds, in Q8_0."""

import hashlib
import http.server
import json
import pathlib
import threading

MODEL = pathlib.Path(__file__).parents[3] / "zse-model" / "tests" / "golden" / "bert-mean.gguf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers what `zse` asks of the Hugging Face hub."""

    protocol_version = "HTTP/1.1"
    contents = MODEL.read_bytes()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/models":
            self.send(200, json.dumps([{"id": "org/name", "downloads": 1, "tags": ["gguf"]}]).encode())
        elif path.startswith("/api/models/"):
            digest = hashlib.sha256(self.contents).hexdigest()
            file = {"rfilename": "model-Q8_0.gguf", "size": len(self.contents), "lfs": {"sha256": digest}}
            self.send(200, json.dumps({"sha": COMMIT, "siblings": [file]}).encode())
        elif self.headers["Range"]:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            last = min(last, len(self.contents) - 1)
            span = f"bytes {first}-{last}/{len(self.contents)}"
            self.send(206, self.contents[first : last + 1], {"Content-Range": span})
        else:
            self.send(200, self.contents)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def start() -> http.server.ThreadingHTTPServer:
    """A hub on a free port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
