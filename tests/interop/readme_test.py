"""The README's shell blocks, unchanged except for the ports and the way the binary is started."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import textwrap
import unittest

from relay_process import PATIENCE_SECONDS, free_port, wait_for_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ["INTEROP_BINARY"]


def shell_blocks():
    text = (ROOT / "README.md").read_text()
    return [textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]


class Readme(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="readme-"))
        os.symlink(ROOT / "config", self.directory / "config")
        self.ports = [free_port() for _ in range(3)]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **{f"GATEPOST_LISTENER__{n}__ADDRESS": f"127.0.0.1:{port}" for n, port in enumerate(self.ports)},
            "GATEPOST_ADMIN__ADDRESS": "127.0.0.1:0",
        }

    def block(self, start):
        """The block that begins with this text, with the ports and the binary of the test."""
        (text,) = [block for block in shell_blocks() if block.startswith(start)]
        return text.replace("cargo run -- ", f"{BINARY} ").replace("127.0.0.1:2525", f"127.0.0.1:{self.ports[0]}")

    def shell(self, script, **environment):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.directory, env={**self.environment, **environment},
            capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )

    def test_the_blocks_are_these(self):
        starts = [
            "cargo run -- demo",
            "printf 'From: Ann",
            "cargo test\n",
            "cargo run -- check --config",
        ]
        blocks = shell_blocks()
        self.assertEqual(len(blocks), len(starts), "a new block wants a test here")
        for block, start in zip(blocks, starts):
            self.assertTrue(block.startswith(start), block)

    def test_the_main_job_and_a_first_message(self):
        relay = subprocess.Popen(
            ["bash", "-c", "exec " + self.block("cargo run -- demo")], cwd=self.directory, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        try:
            wait_for_port(self.ports[0], relay)
            # The commands that the demo prints work unchanged.
            introduction = "".join(iter(relay.stdout.readline, "Ctrl-C stops it. The log follows.\n"))
            pasted = self.shell(introduction[introduction.index("  printf") :])
            self.assertEqual(pasted.returncode, 0, pasted)
            self.assertIn("< 250 2.0.0 Ok ", pasted.stderr)
            for file in pathlib.Path(self.directory / "var/ses-emulator").iterdir():
                file.unlink()
            sent = self.shell(self.block("printf"))
            self.assertEqual(sent.returncode, 0, sent)
            kept = sorted(pathlib.Path(name).suffix for name in sent.stdout.split())
            self.assertEqual(kept, [".eml", ".json"])
            foreign = self.shell(self.block("printf").replace("--mail-from ann@example.com", "--mail-from ceo@example.org"))
            self.assertEqual(foreign.returncode, 55, "curl's code for a refused MAIL")
            author = self.shell(self.block("printf").replace("From: Ann <ann@example.com>", "From: ceo@example.org"))
            self.assertEqual((author.returncode, author.stderr), (8, "curl: (8) Weird server reply\n"))
            author = self.shell(self.block("printf").replace("From: Ann <ann@example.com>", "From: ceo@example.org").replace("-sS", "-v"))
            self.assertIn("< 550 5.7.1 From address not permitted", author.stderr)
            send = re.search(r"`(cargo run -- send [^`]+)`", (ROOT / "README.md").read_text())[1]
            send = send.replace("cargo run --", BINARY).replace("127.0.0.1:2525", f"127.0.0.1:{self.ports[0]}")
            answered = self.shell(send)
            self.assertEqual(answered.returncode, 0, answered)
            self.assertIn("Ok ", answered.stdout)
        finally:
            relay.stdout.close()
            relay.send_signal(signal.SIGTERM)
            self.assertEqual(relay.wait(timeout=PATIENCE_SECONDS), 0)

    def test_the_minimal_configuration_is_checked(self):
        check = self.block("cargo run -- check").splitlines()[0]
        # This file has one listener, so the overrides for the others are left out.
        environment = {name: value for name, value in self.environment.items() if not name.startswith("GATEPOST_")}
        self.environment = environment
        checked = self.shell(check, AWS_REGION="us-east-1")
        self.assertEqual(checked.returncode, 0, checked)


if __name__ == "__main__":
    unittest.main()
