"""The messages of CPython's own email tests: unusual, mostly legal, and written by experts on RFC 5322.

`gatepost explain` evaluates each with every author allowed. The refused ones are listed with the reason, so that a change of
the From parser in either direction fails the test. For accepted messages, gatepost and Python's email package must find the
same parts and file names.
"""

import email
import glob
import json
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
# File → text of the reply.
REFUSED = {
    "msg_05.txt": "From field: address has no domain",
    "msg_11.txt": NO_FROM,
    "msg_15.txt": "To field has an address without a domain",
    "msg_18.txt": NO_FROM,
    "msg_19.txt": MALFORMED,  # begins with an mbox line, like the next two
    "msg_20.txt": "Duplicate header field",  # two Cc fields, which SES rejects
    "msg_25.txt": MALFORMED,
    "msg_35.txt": MALFORMED,  # a line that is not a field
    "msg_37.txt": NO_FROM,
    "msg_38.txt": NO_FROM,
    "msg_39.txt": NO_FROM,
    "msg_40.txt": NO_FROM,
    "msg_43.txt": MALFORMED,
}


# Files whose parts Python reads differently. No file name is lost: in gatepost every possible delimiter line begins a part.
OTHER_PARTS = {
    "msg_14.txt",  # "Content-Type: text": Python treats it as text/plain
    "msg_37.txt",  # consecutive boundary delimiters: Python treats them as one
    "msg_38.txt",  # a body that contains the boundaries of outer multiparts: gatepost uses the innermost boundary, Python the outermost
    "msg_39.txt",  # nested multiparts with the same boundary: as above
}


def python_parts(message):
    """Media types in order. Python treats the blocks of a delivery status as parts; only the first is counted."""
    yield message.get_content_type()
    if message.is_multipart():
        parts = message.get_payload()
        for part in parts[:1] if message.get_content_maintype() == "message" else parts:
            yield from python_parts(part)


class CPython(unittest.TestCase):
    def test_messages_pass_but_for_the_listed_ones(self):
        self.assertGreater(len(MESSAGES), 40, "the messages are there")
        with tempfile.TemporaryDirectory() as directory:
            config = pathlib.Path(directory) / "gatepost.toml"
            config.write_text(CONFIG)
            told, compared = {}, 0
            for path in MESSAGES:
                command = [BINARY, "explain", "--config", config, "--mail-from", "ann@example.com", "--rcpt", "bob@example.com"]
                done = subprocess.run([*command, "--file", path], capture_output=True, timeout=60)
                if done.returncode:
                    text = (done.stdout + done.stderr).decode(errors="replace")
                    told[pathlib.Path(path).name] = text.splitlines()[-1]
                explained = subprocess.run([*command, "--json", "--file", path], capture_output=True, timeout=60)
                notes = [note for step in json.loads(explained.stdout)["steps"] for note in step["notes"]]
                seen = {note["topic"]: note["text"] for note in notes}
                name = pathlib.Path(path).name
                if "parts" in seen and name not in OTHER_PARTS:
                    message = email.message_from_bytes(pathlib.Path(path).read_bytes())
                    with self.subTest(name):
                        self.assertEqual(seen["parts"].split(", "), list(python_parts(message)))
                        for part in message.walk():
                            if attached := part.get_filename():
                                self.assertIn(json.dumps(attached, ensure_ascii=False), seen["file names"])
                    compared += 1
        self.assertGreater(compared, 30)
        self.maxDiff = None
        self.assertEqual(sorted(told), sorted(REFUSED), told)
        for name, reply in told.items():
            self.assertIn(REFUSED[name], reply, name)


if __name__ == "__main__":
    unittest.main()
