"""The files of config/examples: each is valid, and sends as its comments say.

Environment variables replace what this machine does not have: addresses, networks, and SES.
"""

import os
import pathlib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import unittest

from relay_process import BINARY, PATIENCE_SECONDS, WORK, Gatepost, free_port, hashed, wait_for_port

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "config" / "examples"
# The file for ConsoleMe is tested with ConsoleMe: integrations/consoleme/tests/test_guide.py.
ELSEWHERE = {"consoleme.toml"}
HERE = '["127.0.0.0/8"]'


class Example:
    """One example in a directory with the files that it refers to, and a relay that runs it."""

    def __init__(self, name, **overrides):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="example-"))
        self.file = self.directory / name
        self.file.write_text((EXAMPLES / name).read_text().replace("/etc/gatepost", str(self.directory)))
        subprocess.run([BINARY, "gen-cert", "--directory", self.directory], check=True, stdout=subprocess.DEVNULL)
        self.authority = self.directory / "ca.pem"
        for user in ("web", "grafana", "payroll", "scanner"):
            (self.directory / f"{user}.hash").write_text(hashed("secret"))
            (self.directory / f"{user}.hash").chmod(0o600)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "GATEPOST_"))}
        self.checked = subprocess.run(
            [BINARY, "check", "--config", self.file], capture_output=True, text=True, env=self.environment, timeout=PATIENCE_SECONDS
        )
        self.ports = {"emulator": free_port(), **{n: free_port() for n in range(2)}}
        self.environment |= {
            "GATEPOST_SES__EMULATOR": "true", "GATEPOST_SES_EMULATOR__LISTEN": f"127.0.0.1:{self.ports['emulator']}",
            "GATEPOST_LISTENER__0__ADDRESS": f"127.0.0.1:{self.ports[0]}",
            **{f"GATEPOST_{key}": value.format(self) for key, value in overrides.items()},
        }

    def __enter__(self):
        self.log = open(self.directory / "log", "w")
        self.process = subprocess.Popen([BINARY, "run", "--config", self.file], env=self.environment, stderr=self.log)
        wait_for_port(self.ports[0], self.process)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self.log.close()
        assert code == 0, f"{code}, see {self.directory}"
        shutil.rmtree(self.directory)

    messages = Gatepost.messages

    def send(self, author, to, client, reverse_path=None):
        """The refusal, or the message at SES."""
        content = f"From: {author}\r\n" if author else ""
        with client:
            try:
                client.sendmail(reverse_path or author, [to], f"{content}Subject: hello\r\n\r\nhello\r\n")
            except smtplib.SMTPRecipientsRefused as error:
                ((code, text),) = error.recipients.values()
                return f"{code} {text.decode()}"
            except smtplib.SMTPResponseException as error:
                return f"{error.smtp_code} {error.smtp_error.decode()}"
        (message,) = self.messages()
        return message

    def client(self, number=0, user=None, tls="none", address=None):
        context = ssl.create_default_context(cafile=self.authority)
        if tls == "implicit":
            client = smtplib.SMTP_SSL("localhost", self.ports[number], context=context, timeout=PATIENCE_SECONDS)
        else:
            kind = balanced(address) if address else smtplib.SMTP
            client = kind("localhost", self.ports[number], timeout=PATIENCE_SECONDS)
        if tls == "starttls":
            client.starttls(context=context)
        if user:
            client.login(user, "secret")
        return client


def balanced(address):
    """A client behind a balancer that reports its address as `address` (PROXY protocol, version 2)."""

    class Balanced(smtplib.SMTP):
        def _get_socket(self, *arguments):
            connection = super()._get_socket(*arguments)
            body = socket.inet_aton(address) + socket.inet_aton("10.1.0.5") + bytes([0xC0, 0, 2, 75])
            connection.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(body).to_bytes(2, "big") + body)
            return connection

    return Balanced


class Examples(unittest.TestCase):
    def good(self, example, *warnings):
        """Asserts that the file is valid, with exactly these warnings."""
        self.assertEqual(example.checked.returncode, 0, example.checked)
        told = [line for line in example.checked.stdout.splitlines() if line.startswith("warning ")]
        self.assertEqual(len(told), len(warnings), told)
        for line, warning in zip(told, warnings):
            self.assertIn(warning, line)

    def test_every_file_is_tested(self):
        tested = {"one-host.toml", "vpc-nlb.toml", "scanners.toml", "staging.toml"}
        self.assertEqual({file.name for file in EXAMPLES.iterdir()}, tested | ELSEWHERE)

    def test_one_host(self):
        example = Example("one-host.toml", LISTENER__1__ADDRESS="unix:{0.directory}/smtp.sock")
        self.good(example)
        with example:
            cron = example.send("root@host.example.com", "ann@example.com", example.client())
            self.assertEqual(cron["email_tags"], [{"Name": "app", "Value": "default"}])
            foreign = example.send("grafana@example.com", "ann@example.com", example.client())
            self.assertEqual(foreign[:9], "550 5.7.1", "who does not log in is the machine only")

            grafana = example.send("grafana@example.com", "ann@example.com", example.client(user="grafana"))
            self.assertEqual(grafana["email_tags"], [{"Name": "app", "Value": "grafana"}])
            outside = example.send("grafana@example.com", "ann@elsewhere.example", example.client(user="grafana"))
            self.assertEqual(outside[:9], "550 5.7.1")

            visitor = example.send("eve@elsewhere.example", "shop@example.com", example.client(user="web"), "shop@example.com")
            self.assertIn(b"\r\nFrom: Shop <shop@example.com>\r\n", visitor["raw"])
            self.assertIn(b"\r\nReply-To: eve@elsewhere.example\r\n", visitor["raw"])

            with socket.socket(socket.AF_UNIX) as batch:
                batch.connect(f"{example.directory}/smtp.sock")
                batch.sendall(
                    b"EHLO batch\r\nMAIL FROM:<batch@example.com>\r\nRCPT TO:<ann@elsewhere.example>\r\nDATA\r\n"
                    b"From: batch@example.com\r\n\r\nhello\r\n.\r\nQUIT\r\n"
                )
                replies = batch.makefile("rb").read()
            self.assertIn(b"\r\n250 2.0.0 Ok ", replies)
            self.assertEqual(example.messages()[0]["email_tags"], [{"Name": "app", "Value": "batch"}])

    def test_vpc_nlb(self):
        example = Example(
            "vpc-nlb.toml", LISTENER__1__ADDRESS="127.0.0.1:{0.ports[1]}", LISTENER__0__PROXY_PROTOCOL_FROM=HERE,
            LISTENER__1__PROXY_PROTOCOL_FROM=HERE, LISTENER__1__HANDSHAKE_SECONDS_MAX="1",
        )
        self.good(example, "`gatepost run` does not use this")
        with example:
            jenkins = example.send("jenkins@example.com", "ann@example.com", example.client(1, address="10.1.7.9"))
            self.assertEqual(jenkins["email_tags"], [{"Name": "app", "Value": "jenkins"}])
            stranger = example.send("jenkins@example.com", "ann@example.com", example.client(1, address="10.1.8.9"))
            self.assertEqual(stranger[:3], "550")
            news = example.send("a@b.news.example.com", "ann@elsewhere.example", example.client(1, address="10.1.12.1"))
            self.assertEqual(news[:9], "550 5.7.1", "of news.example.com, not of what is below it")
            news = example.send("a@news.example.com", "ann@elsewhere.example", example.client(1, address="10.1.12.1"))
            self.assertEqual(news["email_tags"], [{"Name": "app", "Value": "newsletter"}])

            by = {"tls": "starttls", "user": "payroll"}
            payroll = example.send("payroll@example.com", "ann@elsewhere.example", example.client(address="10.1.9.1", **by))
            self.assertEqual(payroll["email_tags"], [{"Name": "app", "Value": "payroll"}])
            stolen = example.send("payroll@example.com", "ann@elsewhere.example", example.client(address="10.1.7.1", **by))
            self.assertEqual(stolen[:9], "550 5.7.1", "the password from another network")
            with self.assertRaises(smtplib.SMTPServerDisconnected):
                # Without the balancer: the relay waits for a header, and closes the connection.
                example.client(1)

    def test_scanners(self):
        example = Example("scanners.toml", LISTENER__1__ADDRESS="127.0.0.1:{0.ports[1]}", APP__0__NETWORKS=HERE)
        self.good(example, "every password is accepted")
        with example:
            for user in (None, "anything"):
                scan = example.send("bob@example.com", "bob@example.com", example.client(user=user), "MX2651@scan.local")
                self.assertIn(b"\r\nFrom: Scanner <scanner@example.com>\r\n", scan["raw"])
                self.assertIn(b"\r\nReply-To: bob@example.com\r\n", scan["raw"])
                self.assertNotIn("FeedbackForwardingEmailAddress", scan["parameters"])
            bare = example.send("", "bob@example.com", example.client(), "MX2651@scan.local")
            for field in (b"From: Scanner <scanner@example.com>", b"Date: ", b"Message-ID: "):
                self.assertIn(b"\r\n" + field, bare["raw"], "it left From, Date and Message-ID out")
            outside = example.send("bob@example.com", "eve@elsewhere.example", example.client())
            self.assertEqual(outside[:9], "550 5.7.1")
            new = example.send("scanner@example.com", "bob@example.com", example.client(1, "scanner", "implicit"))
            self.assertEqual(new["parameters"]["FeedbackForwardingEmailAddress"], "scanner@example.com")
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                example.client(1, "anything", "implicit")

    def test_staging(self):
        example = Example("staging.toml", POLICY__CLIENTS=HERE)
        self.good(example, "all messages go to staging@example.com")
        with example:
            redirected = example.send("app@shop.example.com", "customer@elsewhere.example", example.client())
            self.assertEqual(redirected["to"], ["staging@example.com"])
            self.assertIn(b"\r\nX-Original-Recipients: customer@elsewhere.example\r\n", redirected["raw"])


if __name__ == "__main__":
    unittest.main()
