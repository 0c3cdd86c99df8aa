"""The questions of the second day, each answered in one step by a command and by the API of the compiled relay.

The console answers the same questions in console_test.py.
"""

import json
import os
import pathlib
import shutil
import smtplib
import subprocess
import tempfile
import time
import unittest
from urllib.request import Request, urlopen

from relay_process import BINARY, CREDENTIALS, PATIENCE_SECONDS, WORK, OverUnix, free_port, wait_for_port


class SecondDay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="second-day-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.port, cls.auth_port, cls.socket = free_port(), free_port(), cls.directory / "admin.sock"
        emulator = free_port()
        cls.emulator = subprocess.Popen([BINARY, "ses-emulator", "--listen", f"127.0.0.1:{emulator}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.end, cls.emulator)
        wait_for_port(emulator, cls.emulator)
        cls.emulator_port = emulator
        hashed = subprocess.run([BINARY, "hash-password"], input="secret\n", capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run([BINARY, "gen-cert", "--directory", cls.directory, "--name", "localhost"], check=True, stdout=subprocess.DEVNULL)
        cls.config = cls.directory / "gatepost.toml"
        cls.config.write_text(f"""
hostname = "relay.example"
[ses]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{emulator}"
[admin]
address = "unix:{cls.socket}"
[spool]
directory = "{cls.directory}/spool"
[tls]
certificate = {{ file = "{cls.directory}/cert.pem" }}
key = {{ file = "{cls.directory}/key.pem" }}
[auth]
users.ann = "{hashed}"
[[app]]
name = "billing"
networks = ["127.0.0.0/8"]
from = ["*@example.com"]
[[app]]
name = "kept"
auth = ["ann"]
from = ["kept@example.com"]
delivery = "spool"
[[limit]]
name = "each"
by = "app"
of = "messages"
rates = ["5/h"]
[[listener]]
name = "plain"
address = "127.0.0.1:{cls.port}"
[[listener]]
name = "auth"
address = "127.0.0.1:{cls.auth_port}"
tls = "starttls"
auth = "required"
auth_in_clear = true
""")
        cls.log = open(cls.directory / "log", "w")
        cls.relay = subprocess.Popen([BINARY, "run", "--config", cls.config], stderr=cls.log, env={**os.environ, **CREDENTIALS})
        cls.addClassCleanup(cls.end, cls.relay)
        wait_for_port(cls.auth_port, cls.relay)
        cls.refused = cls.send("eve@elsewhere.example")
        cls.accepted = cls.send("ann@example.com")
        for _ in range(5):
            cls.deferred = cls.send("ann@example.com")
        cls.faults(["SendingPausedException"] * 50)
        with smtplib.SMTP("127.0.0.1", cls.auth_port, timeout=PATIENCE_SECONDS) as client:
            client.login("ann", "secret")
            client.sendmail("kept@example.com", ["carol@elsewhere.example"], "From: kept@example.com\r\n\r\nx\r\n")
        for _ in range(15):
            try:
                with smtplib.SMTP("127.0.0.1", cls.auth_port, timeout=PATIENCE_SECONDS) as client:
                    client.login("mallory", "guess")
            except (smtplib.SMTPException, OSError):
                pass

    @classmethod
    def end(cls, process):
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)

    @classmethod
    def faults(cls, queue):
        body = json.dumps({"queue": queue}).encode()
        urlopen(Request(f"http://127.0.0.1:{cls.emulator_port}/faults", body)).close()

    @classmethod
    def send(cls, author):
        """The reply to the command that decides."""
        with smtplib.SMTP("127.0.0.1", cls.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("client.example")
            code, text = client.mail(author)
            if code == 250:
                client.rcpt("bob@elsewhere.example")
                code, text = client.data(f"From: {author}\r\nMessage-ID: <1@example.com>\r\n\r\nx\r\n")
            return f"{code} {text.decode()}"

    def command(self, *arguments, code=0):
        done = subprocess.run([BINARY, *arguments, "--config", self.config], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout

    def api(self, path, method="GET", body=None):
        connection = OverUnix(self.socket)
        connection.request(method, f"/api/v1{path}", body)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self.assertEqual(answer.status, 200, text)
        return json.loads(text)

    def test_01_why_was_this_message_refused(self):
        reference = self.refused.split("(ref ")[1].rstrip(")")
        for query in (("--reference", reference), ("--address", "eve@elsewhere.example"), ("--result", "rejected", "--since", "2026-01-01T00:00:00Z")):
            self.assertIn("eve@elsewhere.example", self.command("decisions", *query))
        rows = self.api(f"/decisions/{reference}")["rows"]
        self.assertEqual((rows[0]["result"], rows[0]["reply"][:3]), ("rejected", "550"))
        self.assertTrue(rows[0]["rule"])

    def test_02_what_may_this_application_send(self):
        self.assertIn("*@example.com", self.command("status", "apps"))
        self.assertIn("*@example.com", json.dumps(self.api("/apps/billing")))

    def test_03_how_near_is_it_to_each_limit(self):
        self.assertIn("each", self.command("status", "limits"))
        self.assertIn('"each"', json.dumps(self.api("/limits")))
        said = self.command("explain", "--running", "--from", "ann@example.com", "--rcpt", "bob@elsewhere.example", code=75)
        self.assertIn("each: 0 of 5/h", said)
        request = {"reverse_path": "ann@example.com", "forward_paths": ["bob@elsewhere.example"]}
        answer = self.api("/explain", "POST", json.dumps(request))
        self.assertFalse(answer["allowed"])

    def test_04_how_many_of_its_messages_were_accepted_deferred_refused_today_and_why(self):
        app = self.api("/apps/billing")
        self.assertEqual((app["day"]["accepted"], app["day"]["rules"]["reverse_path"]), (5, 1))
        said = self.command("status", "apps")
        for word in ("accepted", "deferred", "rejected"):
            self.assertIn(word, said)

    def test_05_did_the_mail_to_this_recipient_leave_and_under_which_id(self):
        message_id = self.accepted.split()[-1]
        self.assertIn(message_id, self.command("decisions", "--address", "bob@elsewhere.example", "--result", "accepted"))
        rows = self.api("/decisions?address=bob@elsewhere.example&result=accepted")["rows"]
        self.assertIn(message_id, json.dumps(rows))

    def test_06_is_ses_healthy_and_what_did_it_last_say(self):
        self.until(lambda: "SendingPaused" in json.dumps(self.api("/ses")))
        self.assertIn("SendingPaused", self.command("status", "ses"))

    def test_07_what_waits_since_when_and_what_for(self):
        self.until(lambda: "SendingPaused" in self.command("queue", "list"))
        rows = self.api("/queue")["rows"]
        self.assertEqual((len(rows), rows[0]["app"], rows[0]["forward_paths"]), (1, "kept", ["carol@elsewhere.example"]))
        self.assertIn("SendingPaused", rows[0]["last"])

    def test_08_what_would_change_if_i_reload_and_09_what_changed(self):
        text = self.config.read_text()
        try:
            self.config.write_text(text.replace('from = ["*@example.com"]', 'from = ["nobody@example.com"]').replace("5/h", "500/h"))
            said = self.command("reload", "--dry-run")
            for part in ('application billing: from changes from ["*@example.com"] to ["nobody@example.com"]',
                         "limit each: rates changes", "of billing, which was accepted, would receive: 550"):
                self.assertIn(part, said)
            self.assertEqual(said.splitlines()[:2], self.api("/reload?dry_run=true", "POST")["changes"][:2])
            self.assertEqual(self.api("/reload")["trigger"], "start")
            self.command("reload")
            self.assertIn("application billing: from changes", self.command("status", "reload"))
            self.assertEqual(self.api("/reload")["successful"], True)
        finally:
            self.config.write_text(text)
            self.command("reload")

    def test_10_which_certificate_ends_when(self):
        self.assertIn("certificate    auth: until 20", self.command("status"))
        self.assertEqual(self.api("/status")["certificates"][0]["listener"], "auth")

    def test_11_who_is_locked_out(self):
        self.assertIn("mallory", self.command("status", "lockouts"))
        self.assertIn("mallory", json.dumps(self.api("/lockouts")))

    def test_12_what_is_it_configured_to_do(self):
        said = self.command("status", "config")
        self.assertIn('name = "billing"', said)
        self.assertIn('ann = "(a secret)"', said)
        self.assertEqual(self.api("/config")["text"], said)

    def until(self, holds):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.assertLess(time.monotonic(), deadline, (self.directory / "log").read_text()[-2000:])
            time.sleep(0.2)


if __name__ == "__main__":
    unittest.main()
