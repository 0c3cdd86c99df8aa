"""The messages of CPython's own email tests: odd, mostly legal, and written by people who read RFC 5322 for a living.

Each is explained by `gatepost explain` with every author allowed. The ones that are refused are listed with the reason, so
that a change of the From parser in either direction shows.
"""

import glob
import os
import pathlib
import subprocess
import tempfile
import unittest

BINARY = os.environ["INTEROP_BINARY"]
# From Debian's libpythonX.Y-testsuite.
MESSAGES = sorted(glob.glob("/usr/lib/python3*/test/test_email/data/msg_*.txt"))

CONFIG = """
hostname = "relay.example"
[[listener]]
name = "plain"
address = "127.0.0.1:2525"
[policy]
from = ["*@*"]
attachments_denied = []
[ses]
emulator = true
"""

NO_FROM = "Message has no From field"
MALFORMED = "Malformed message header"
# File → what the reply says.
REFUSED = {
    "msg_05.txt": "cannot be read unambiguously",  # a From without a domain
    "msg_11.txt": NO_FROM,
    "msg_18.txt": NO_FROM,
    "msg_19.txt": MALFORMED,  # begins with an mbox line, as the next two of these
    "msg_20.txt": "Duplicate header field",  # two Cc, which SES refuses
    "msg_25.txt": MALFORMED,
    "msg_35.txt": MALFORMED,  # a line that is no field
    "msg_37.txt": NO_FROM,
    "msg_38.txt": NO_FROM,
    "msg_39.txt": NO_FROM,
    "msg_40.txt": NO_FROM,
    "msg_43.txt": MALFORMED,
}


class CPython(unittest.TestCase):
    def test_messages_pass_but_for_the_listed_ones(self):
        self.assertGreater(len(MESSAGES), 40, "the messages are there")
        with tempfile.TemporaryDirectory() as directory:
            config = pathlib.Path(directory) / "gatepost.toml"
            config.write_text(CONFIG)
            told = {}
            for path in MESSAGES:
                done = subprocess.run(
                    [BINARY, "explain", "--config", config, "--mail-from", "ann@example.com", "--rcpt", "bob@example.com",
                     "--file", path],
                    capture_output=True, timeout=60,
                )
                if done.returncode:
                    text = (done.stdout + done.stderr).decode(errors="replace")
                    told[pathlib.Path(path).name] = text.splitlines()[-1]
        self.maxDiff = None
        self.assertEqual(sorted(told), sorted(REFUSED), told)
        for name, reply in told.items():
            self.assertIn(REFUSED[name], reply, name)


if __name__ == "__main__":
    unittest.main()
