"""Behaviour of clients that is not in the matrix: wrong passwords, CHUNKING, large messages."""

import smtplib
import ssl
import subprocess
import unittest

from relay_process import BINARY, Relay, emulator, without_trace

MESSAGE = (
    b"From: Ann <ann@example.com>\r\nTo: bob@elsewhere.example\r\nSubject: interop\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe\r\n.a line that begins with a dot\r\n..and one with two\r\n.\r\nlast\r\n"
)
TO = "bob@elsewhere.example"


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.relay = Relay(emulator)

    @classmethod
    def tearDownClass(cls):
        code = cls.relay.stop()
        assert code == 0, f"gatepost ended with {code}; its log is in {cls.relay.directory}"

    def setUp(self):
        self.relay.messages()

    def arrived(self, content=MESSAGE, to=(TO,)):
        """Asserts that exactly one message arrived, with this content and these recipients."""
        (message,) = self.relay.messages()
        self.assertEqual(message["from"], "ann@example.com")
        self.assertEqual(message["to"], list(to))
        if content is not None:
            self.assertEqual(without_trace(message["raw"]), content)
        return message

    def test_swaks_wrong_password_and_foreign_author(self):
        port = self.relay.ports["plain"]
        base = ["swaks", "-s", f"localhost:{port}", "-t", TO, "--silent", "2"]
        wrong = subprocess.run([*base, "-f", "ann@example.com", "-a", "-au", "app", "-ap", "wrong"], capture_output=True)
        self.assertEqual(wrong.returncode, 28)
        self.assertIn(b"535 5.7.8", wrong.stderr + wrong.stdout)
        foreign = subprocess.run([*base, "-f", "ann@example.com", "-h-From", "ceo@other.example"], capture_output=True)
        self.assertEqual(foreign.returncode, 26)
        self.assertIn(b"550 5.7.1 From address not permitted", foreign.stderr + foreign.stdout)
        self.assertEqual(self.relay.messages(), [])

    def smtplib_client(self, name, port):
        context = ssl.create_default_context(cafile=self.relay.authority)
        if name == "implicit":
            return smtplib.SMTP_SSL("localhost", port, context=context, timeout=60)
        client = smtplib.SMTP("localhost", port, timeout=60)
        if name == "starttls":
            client.starttls(context=context)
        return client

    def test_smtplib_tries_login_after_plain_and_is_told_twice(self):
        with self.smtplib_client("plain", self.relay.ports["plain"]) as client:
            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.login("app", "wrong")
            self.assertEqual(caught.exception.smtp_code, 535)
            client.login("app", "secret")

    def test_bdat_over_smtplib(self):
        with self.smtplib_client("starttls", self.relay.ports["starttls"]) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("chunking"))
            client.mail("ann@example.com", ["BODY=8BITMIME"])
            client.rcpt(TO)
            for chunk, last in ((MESSAGE[:100], ""), (MESSAGE[100:101], ""), (MESSAGE[101:], " LAST")):
                client.send(b"BDAT %d%s\r\n" % (len(chunk), last.encode()) + chunk)
                code, text = client.getreply()
                self.assertEqual(code, 250, text)
        self.arrived()

    def test_25_megabytes(self):
        large = MESSAGE + (b"x" * 898 + b"\r\n") * 28_000
        self.assertGreater(len(large), 25_000_000)
        with self.smtplib_client("starttls", self.relay.ports["starttls"]) as client:
            client.sendmail("ann@example.com", [TO], large)
        self.arrived(large)
        with self.smtplib_client("plain", self.relay.ports["plain"]) as client:
            with self.assertRaises(smtplib.SMTPResponseException) as caught:
                client.sendmail("ann@example.com", [TO], large + large)
            self.assertEqual(caught.exception.smtp_code, 552)

    def test_the_relays_own_client_tells_a_refusal_with_its_exit_code(self):
        foreign = subprocess.run(
            [BINARY, "send", "--server", f"localhost:{self.relay.ports['plain']}", "--from", "ceo@other.example", "--to", TO],
            capture_output=True, timeout=60,
        )
        self.assertEqual(foreign.returncode, 77, foreign.stderr)
        self.assertEqual(self.relay.messages(), [])


if __name__ == "__main__":
    unittest.main()
