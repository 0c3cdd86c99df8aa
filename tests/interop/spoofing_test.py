"""The hostile corpus, parsed by Python's email package: it finds no forbidden author in a message that gatepost accepted."""

import email
import email.policy
import email.utils
import json
import pathlib
import socket
import unittest

from relay_process import Relay, emulator

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "corpus"


def readings(raw):
    """Every address that Python's old and new parsers return as an author."""
    authors = set()
    for policy in (email.policy.compat32, email.policy.default, email.policy.SMTP):
        message = email.message_from_bytes(raw, policy=policy)
        for field in message.get_all("from", []):
            for _, address in email.utils.getaddresses([str(field)], strict=False) if STRICT else email.utils.getaddresses([str(field)]):
                authors.add(address)
            for address in getattr(field, "addresses", ()):
                authors.add(address.addr_spec)
    return {address for address in authors if "@" in address}


# The parameter was added by a security fix in 3.11.10 and other versions.
try:
    email.utils.getaddresses([""], strict=False)
    STRICT = True
except TypeError:
    STRICT = False


class Spoofing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.relay = Relay(emulator)

    @classmethod
    def tearDownClass(cls):
        assert cls.relay.stop() == 0

    def send(self, header):
        """The reply to the end of data. Uses a socket, because no client library would send this message."""
        dialogue = (
            b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n"
            + header.encode() + b"\r\nbody\r\n.\r\nQUIT\r\n"
        )
        with socket.create_connection(("localhost", self.relay.ports["plain"]), timeout=60) as client:
            client.sendall(dialogue)
            replies = b""
            while chunk := client.recv(4096):
                replies += chunk
        return replies.split(b"\r\n354 ")[1].split(b"\r\n")[1]

    def test_no_accepted_message_shows_a_forbidden_author(self):
        accepted = 0
        for line in (CORPUS / "hostile.jsonl").read_text().splitlines():
            row = json.loads(line)
            with self.subTest(row["name"]):
                self.relay.messages()
                if self.send(row["header"]).startswith(b"250"):
                    accepted += 1
                    (message,) = self.relay.messages()
                    for author in readings(message["raw"]):
                        self.assertTrue(author.lower().endswith("@example.com"), author)
        self.assertLess(accepted, 10)

    def test_legal_messages_show_the_author_they_name(self):
        for line in (CORPUS / "legal.jsonl").read_text().splitlines():
            row = json.loads(line)
            with self.subTest(row["name"]):
                self.relay.messages()
                self.assertTrue(self.send(row["header"]).startswith(b"250"))
                (message,) = self.relay.messages()
                shown = {author.lower() for author in readings(message["raw"])}
                self.assertEqual(shown, {author.lower() for author in row["authors"]})


if __name__ == "__main__":
    unittest.main()
