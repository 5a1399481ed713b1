"""Every example of docs/api.md, run as it stands but for the server's address."""

import contextlib
import io
import pathlib
import re
import struct
import subprocess
import tempfile

import hub
from openai_client import BERT
from server import ServerTest

DOCS = pathlib.Path(__file__).parents[4] / "docs" / "api.md"
# What stands in the examples for a model that embeds.
EMBEDDER = "my-bert"
# What stands in them for a model that fills gaps, and what one is made of that does.
CODER = "my-coder"
LLAMA = pathlib.Path("crates/zse-model/tests/golden/llama3.gguf")
# What stands in them for the directory of an adapter, and what is there.
ADAPTER, LLAMA_ADAPTER = "sql-lora", "llama2"


class Docs(ServerTest):
    """The examples ask a server of one model, without a key; its hub is on this machine."""

    has_key = False

    @classmethod
    def setUpClass(cls) -> None:
        host, port = hub.start().server_address
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.variables = {"HF_ENDPOINT": f"http://{host}:{port}", "HF_HOME": folder.name}
        super().setUpClass()

    def examples(self, language: str) -> list[str]:
        """The code blocks of a language (none: shell) that ask a model which is served."""
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
        texts = [text for kind, text in blocks if kind == language]
        texts = [text for text in texts if self.is_served(text)]
        self.assertTrue(texts)
        host = self.url.removeprefix("http://")
        return [text.replace("127.0.0.1:8000", host) for text in texts]

    def is_served(self, text: str) -> bool:
        return not any(name in text for name in (EMBEDDER, ADAPTER, CODER))

    def test_python(self) -> None:
        names: dict[str, object] = {}
        for example in self.examples("python"):
            example = example.replace(ADAPTER, LLAMA_ADAPTER)
            with self.subTest(example), contextlib.redirect_stdout(io.StringIO()) as out:
                exec(example.replace(EMBEDDER, "bert-mean"), names)
            self.assertTrue(out.getvalue() or "client =" in example, example)
        names["client"].close()

    def test_curl(self) -> None:
        for example in self.examples(""):
            example = example.replace(EMBEDDER, "bert-mean").replace(ADAPTER, LLAMA_ADAPTER)
            example = example.replace("curl ", "curl --fail-with-body -sS ")
            with self.subTest(example):
                done = subprocess.run(["bash", "-ec", example], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotEqual(done.stdout, "")


class EmbedderDocs(Docs):
    """The examples that ask for embeddings."""

    models = [BERT]

    def is_served(self, text: str) -> bool:
        return EMBEDDER in text or "client =" in text


class AdapterDocs(Docs):
    """The examples that load adapters."""

    models = ["crates/zse-model/tests/golden/llama2.gguf", "--lora-dir", "crates/zse-model/tests/lora"]

    def is_served(self, text: str) -> bool:
        return ADAPTER in text or "client =" in text


def with_gap_tokens(gguf: bytes) -> bytes:
    """A GGUF model with three of its tokens for the text before, behind and in a gap."""

    def entry(name: str, kind: int, value: bytes) -> bytes:
        return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value

    names = ("prefix", "suffix", "middle")
    entries = [
        entry(f"tokenizer.ggml.{name}_token_id", 4, struct.pack("<I", 5 + i))
        for i, name in enumerate(names)
    ]
    # What follows the metadata stays aligned.
    padding = -(sum(map(len, entries)) + len(entry("test.padding", 8, struct.pack("<Q", 0)))) % 32
    entries.append(entry("test.padding", 8, struct.pack("<Q", padding) + b" " * padding))
    count = struct.unpack_from("<Q", gguf, 16)[0] + len(entries)
    return gguf[:16] + struct.pack("<Q", count) + b"".join(entries) + gguf[24:]


class CoderDocs(Docs):
    """The examples that fill gaps."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        model = pathlib.Path(folder.name) / f"{CODER}.gguf"
        model.write_bytes(with_gap_tokens(LLAMA.read_bytes()))
        cls.models = [str(model)]
        super().setUpClass()

    def is_served(self, text: str) -> bool:
        return CODER in text or "client =" in text
