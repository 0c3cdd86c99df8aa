"""Real mail clients in front of gatepost, its SES emulator behind it: what arrives is what they sent."""

import os
import pathlib
import smtplib
import socket
import ssl
import subprocess
import unittest

from house import WORK, Relay, emulator, without_trace

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
        cls.message = WORK / "message.eml"
        cls.message.write_bytes(MESSAGE)
        # For clients that want local line ends.
        cls.local = WORK / "message-local.eml"
        cls.local.write_bytes(MESSAGE.replace(b"\r\n", b"\n"))

    @classmethod
    def tearDownClass(cls):
        code = cls.relay.stop()
        assert code == 0, f"gatepost ended with {code}; its log is in {cls.relay.directory}"

    def setUp(self):
        self.relay.messages()

    def run_client(self, *command, **options):
        options = {"capture_output": True, "timeout": 60, **options}
        done = subprocess.run([str(word) for word in command], **options)
        self.assertEqual(done.returncode, 0, (command, done.stdout, done.stderr))
        return done

    def arrived(self, content=MESSAGE, to=(TO,)):
        """One message arrived, with this content to these recipients."""
        (message,) = self.relay.messages()
        self.assertEqual(message["from"], "ann@example.com")
        self.assertEqual(message["to"], list(to))
        if content is not None:
            self.assertEqual(without_trace(message["raw"]), content)
        return message

    def each_listener(self):
        for name, port in self.relay.ports.items():
            if name in self.relay.LISTENERS:
                with self.subTest(listener=name):
                    yield name, port

    def test_curl(self):
        for name, port in self.each_listener():
            scheme = "smtps" if name == "implicit" else "smtp"
            tls = {"plain": [], "starttls": ["--ssl-reqd"], "implicit": []}[name]
            for auth in ([], ["-u", "app:secret"], ["-u", "app:secret", "--login-options", "AUTH=LOGIN"]):
                self.run_client(
                    "curl", "-sS", "--crlf", "--url", f"{scheme}://localhost:{port}/client.test", "--mail-from",
                    "ann@example.com", "--mail-rcpt", TO, "-T", self.local, "--cacert", self.relay.authority, *tls, *auth,
                )
                self.arrived()

    def test_swaks(self):
        for name, port in self.each_listener():
            tls = {"plain": [], "starttls": ["-tls"], "implicit": ["-tlsc"]}[name]
            verify = [] if name == "plain" else ["--tls-ca-path", self.relay.authority, "--tls-verify"]
            for auth in ([], ["-a", "PLAIN", "-au", "app", "-ap", "secret"], ["-a", "LOGIN", "-au", "app", "-ap", "secret"]):
                self.run_client(
                    "swaks", "-s", f"localhost:{port}", "-f", "ann@example.com", "-t", TO, "-d", f"@{self.message}",
                    "--silent", "3", *tls, *verify, *auth,
                )
                # swaks writes a last line end of its own.
                message = self.arrived(content=None)
                self.assertEqual(without_trace(message["raw"]).rstrip(b"\r\n"), MESSAGE.rstrip(b"\r\n"))

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

    def test_msmtp(self):
        for name, port in self.each_listener():
            tls = "off" if name == "plain" else "on"
            for auth in ("off", "plain", "login"):
                config = WORK / "msmtprc"
                config.write_text(
                    f"account default\nhost localhost\nport {port}\nfrom ann@example.com\ntls {tls}\n"
                    f"tls_trust_file {self.relay.authority}\ntls_starttls {'off' if name == 'implicit' else 'on'}\n"
                    + (f"auth {auth}\nuser app\npasswordeval echo secret\n" if auth != "off" else "auth off\n")
                )
                config.chmod(0o600)
                self.run_client("msmtp", "-C", config, TO, input=self.local.read_bytes())
                self.arrived()

    def smtplib_client(self, name, port):
        context = ssl.create_default_context(cafile=self.relay.authority)
        if name == "implicit":
            return smtplib.SMTP_SSL("localhost", port, context=context, timeout=60)
        client = smtplib.SMTP("localhost", port, timeout=60)
        if name == "starttls":
            client.starttls(context=context)
        return client

    def test_smtplib(self):
        for name, port in self.each_listener():
            for login in (False, True):
                with self.smtplib_client(name, port) as client:
                    if login:
                        client.login("app", "secret")
                    refused = client.sendmail("ann@example.com", [TO, "no-domain"], MESSAGE)
                    self.assertEqual(refused["no-domain"][0], 553)
                self.arrived()

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

    def test_nodemailer(self):
        for name, port in self.each_listener():
            for auth in ("", "auth: {user: 'app', pass: 'secret'},"):
                script = f"""
const mail = require({str(WORK / 'node/node_modules/nodemailer')!r});
const tls = {{ca: require('fs').readFileSync({str(self.relay.authority)!r})}};
mail.createTransport({{host: 'localhost', port: {port}, secure: {str(name == 'implicit').lower()}, {auth}
  ignoreTLS: {str(name == 'plain').lower()}, requireTLS: {str(name == 'starttls').lower()}, tls}})
  .sendMail({{envelope: {{from: 'ann@example.com', to: [{TO!r}, 'no-domain']}},
    raw: require('fs').readFileSync({str(self.message)!r})}})
  .then(sent => process.exit(sent.rejected.length === 1 && sent.response.startsWith('250 2.0.0 Ok ') ? 0 : 1),
    error => {{ console.error(error); process.exit(2) }});
"""
                self.run_client("node", "-e", script)
                self.arrived()

    def test_a_shell_script_that_sends_everything_at_once_with_bare_lf(self):
        dialogue = (
            b"HELO nagios_host\nMAIL FROM: ann@example.com\nRCPT TO: bob@elsewhere.example\nDATA\n"
            b"From: ann@example.com\nSubject: DOWN\n\nhost is down\n\r\n.\r\nQUIT\n"
        )
        with socket.create_connection(("localhost", self.relay.ports["normalizing"]), timeout=60) as client:
            client.sendall(dialogue)
            replies = b""
            while chunk := client.recv(4096):
                replies += chunk
        self.assertIn(b"\r\n250 2.0.0 Ok ", replies)
        self.assertTrue(replies.endswith(b"221 2.0.0 Bye\r\n"), replies)
        self.arrived(b"From: ann@example.com\r\nSubject: DOWN\r\n\r\nhost is down\r\n\r\n")

    def test_the_relays_own_client(self):
        binary = os.environ["INTEROP_BINARY"]
        for name, port in self.each_listener():
            tls = "none" if name == "plain" else name
            done = self.run_client(
                binary, "send", "--server", f"localhost:{port}", "--tls", tls, "--ca", self.relay.authority, "--from",
                "ann@example.com", "--to", TO, "--file", self.message,
            )
            self.assertIn(b"Ok ", done.stdout)
            self.arrived()
        foreign = subprocess.run(
            [binary, "send", "--server", f"localhost:{self.relay.ports['plain']}", "--from", "ceo@other.example", "--to", TO],
            capture_output=True, timeout=60,
        )
        self.assertEqual(foreign.returncode, 77, foreign.stderr)
        self.assertEqual(self.relay.messages(), [])


if __name__ == "__main__":
    unittest.main()
