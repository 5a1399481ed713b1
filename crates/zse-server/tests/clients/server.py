"""A server of the built-in model for the tests of a class."""

import json
import os
import subprocess
import unittest
import urllib.request

KEY = "test-key"


def binary() -> str:
    """The binary of `ZSE_BINARY`, or the release binary, wherever cargo puts it."""
    if named := os.environ.get("ZSE_BINARY"):
        return named
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], check=True, capture_output=True
    )
    return json.loads(metadata.stdout)["target_directory"] + "/release/zse"


class ServerTest(unittest.TestCase):
    """Starts `zse serve` on a free port, and stops it at the end."""

    models: list[str] = []
    has_key = True
    # Variables of its environment.
    variables: dict[str, str] = {}

    @classmethod
    def setUpClass(cls) -> None:
        command = [binary(), "serve", *cls.models, "--port", "0"]
        keys = ("ZSE_API_KEY", "ZSE_ADMIN_KEY")
        environment = {name: value for name, value in os.environ.items() if name not in keys}
        environment.update(cls.variables)
        if cls.has_key:
            environment["ZSE_API_KEY"] = KEY
        cls.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for line in cls.server.stdout:
            if line.startswith("listening on "):
                cls.url = line.split()[2]
                return
        raise RuntimeError("the server did not start")

    def impossible(self) -> tuple[dict, dict]:
        """A schema, and the biases with which an answer of it fails after its first words."""
        data = json.dumps({"model": "builtin", "content": "~"}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/tokenize", data, headers)
        with urllib.request.urlopen(request) as answer:
            token = json.load(answer)["tokens"][0]
        return {"const": "Yes~"}, {str(token): -1e39}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.terminate()
        code = cls.server.wait(timeout=40)
        cls.server.stdout.close()
        assert code == 0, f"the server ended with {code}"
