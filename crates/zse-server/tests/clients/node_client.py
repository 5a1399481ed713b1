"""The `openai` client for Node, where there is Node."""

import os
import pathlib
import shutil
import subprocess
import unittest

from openai_client import BERT
from server import KEY, ServerTest

HERE = pathlib.Path(__file__).parent


@unittest.skipUnless(os.environ.get("ZSE_NODE_MODULES"), "Node's client is not installed")
class Node(ServerTest):
    """Runs the tests that are written in JavaScript."""

    models = ["builtin", BERT]

    def test_openai(self) -> None:
        environment = {**os.environ, "ZSE_URL": self.url, "ZSE_KEY": KEY}
        command = [shutil.which("node"), "--test", str(HERE / "openai_client.test.mjs")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("pass 8", done.stdout)
