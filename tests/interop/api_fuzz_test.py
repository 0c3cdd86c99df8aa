"""The API, fuzzed from its OpenAPI document: no 5xx, no answer that the document does not describe."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from relay_process import BINARY, CREDENTIALS, PATIENCE_SECONDS, WORK, free_port, wait_for_port

READS, CHANGES = "0123456789abcdef" * 2, "fedcba9876543210" * 2
EXAMPLES = os.environ.get("API_EXAMPLES", "40")
FUZZ_SECONDS = 300


class Api(unittest.TestCase):
    def test_whatever_is_asked_the_answer_is_one_that_the_document_describes(self):
        directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="api-"))
        self.addCleanup(shutil.rmtree, directory)
        port, admin = free_port(), free_port()
        config = directory / "gatepost.toml"
        config.write_text(f"""
hostname = "relay.example"
[ses]
emulator = true
[ses_emulator]
listen = "127.0.0.1:0"
[admin]
address = "127.0.0.1:{admin}"
token = "{READS}"
operator_tokens = {{ alice = "{CHANGES}" }}
[spool]
directory = "{directory}/spool"
[policy]
from = ["*@example.com"]
[[app]]
name = "billing"
networks = ["192.0.2.0/24"]
from = ["*@example.com"]
[[limit]]
name = "each"
by = "app"
of = "messages"
rates = ["5/h"]
[[listener]]
address = "127.0.0.1:{port}"
""")
        log = open(directory / "log", "w")
        self.addCleanup(log.close)
        relay = subprocess.Popen([BINARY, "run", "--config", config], stderr=log, cwd=directory, env={**os.environ, **CREDENTIALS})
        self.addCleanup(relay.wait, timeout=PATIENCE_SECONDS)
        self.addCleanup(relay.terminate)
        wait_for_port(port, relay)
        wait_for_port(admin, relay)
        for token in (CHANGES, READS):
            # /drain ends the test too early.
            done = subprocess.run(
                [pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{admin}/api/v1/openapi.json",
                 "--header", f"Authorization: Bearer {token}", "--max-examples", EXAMPLES, "--seed", "2020", "--exclude-path", "/api/v1/drain",
                 "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                 "--phases", "examples,coverage,fuzzing", "--no-color"],
                capture_output=True, text=True, timeout=FUZZ_SECONDS, cwd=directory,
            )
            self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
            generated = int(re.search(r"(\d+) generated", done.stdout)[1])
            print(f"{generated} requests ... ", end="", flush=True)
            self.assertGreater(generated, 200)
        self.assertNotIn("panicked", (directory / "log").read_text())


if __name__ == "__main__":
    unittest.main()
