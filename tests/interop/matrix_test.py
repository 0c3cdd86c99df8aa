"""Real clients: every scenario of the table with every client.

A recorder between client and gatepost shows what the client sent; the emulator shows what SES received. Without TLS the two
are compared byte by byte, with TLS as parsed messages.
"""

import concurrent.futures
import email
import email.policy
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

MATRIX = pathlib.Path(__file__).resolve().parent / "matrix"
sys.path.insert(0, str(MATRIX))

from relay_process import WORK, Gatepost, emulator, hashed, without_trace  # noqa: E402
from recorder import Recorder  # noqa: E402
from scenarios import CLIENTS, MESSAGE_OCTETS_MAX, SCENARIOS  # noqa: E402

# More than the number of cores: clients wait most of the time.
AT_A_TIME = 4
LISTENERS = ("plain", "auth", "starttls", "implicit", "limited", "notices")
TLS = {"starttls": "starttls", "implicit": "implicit"}


def config(relay, rate):
    listeners = "".join(
        f'[[listener]]\nname = "{name}"\naddress = "127.0.0.1:{relay.ports[name]}"\ntls = "{TLS.get(name, "none")}"\n'
        + (relay.certificate() if name in TLS else "")
        + ('auth = "required"\nauth_in_clear = true\n' if name in ("auth", *TLS) else "")
        for name in LISTENERS
    )
    return f"""
hostname = "relay.example"
{listeners}
[auth.users]
app = "{PASSWORD}"

[policy]
from = ["*@example.com"]
recipients_denied = ["*@refused.example"]

[[app]]
name = "limited"
listeners = ["limited"]
from = ["*@example.com"]

[[limit]]
apps = ["limited"]
rates = ["{rate}"]

# For notices of a queue: their reverse-path is null, and their author is the machine.
[[app]]
name = "notices"
listeners = ["notices"]
from = ["*@example.com", "MAILER-DAEMON@host.example.com"]
null_reverse_path = true
recipients_denied = ["*@refused.example"]

[smtp]
message_octets_max = {MESSAGE_OCTETS_MAX}

[log]
format = "json"
{emulator(relay)}
"""


class Bench:
    """One client with its own relay, and a recorder in front of each listener of the relay."""

    def __init__(self, name, client):
        self.name, self.client = name, client
        self.relay = Gatepost([*LISTENERS, "emulator"], lambda relay: config(relay, client.rate))
        self.listeners = {listener: Recorder(self.relay.ports[listener]) for listener in LISTENERS}
        self.place = self.relay.directory
        words = [word.format(python=sys.executable, work=WORK) for word in client.command]
        told = {
            "INTEROP_CA": str(self.relay.authority), "SSL_CERT_FILE": str(self.relay.authority), "LC_ALL": "C.UTF-8",
            "INTEROP_WORK": str(WORK), "INTEROP_PLACE": str(self.place),
            "INTEROP_LISTENERS": " ".join(f"{name}={listener.port}" for name, listener in self.listeners.items()),
        }
        if client.root and os.geteuid():
            words = ["sudo", "--non-interactive", "env", *(f"{name}={value}" for name, value in told.items()), *words]
        self.errors = open(self.place / "client.log", "w+")
        self.driver = subprocess.Popen(
            words, cwd=MATRIX / "drivers", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, **told},
        )

    def run(self, scenario):
        """Output of the client, messages at SES, and the recorded dialogue."""
        for listener in self.listeners.values():
            # Long enough for a line that a client sends without waiting, short enough for the other clients.
            listener.reply_delay = 0.05 if scenario.name == "plain" else 0.0
        self.relay.script(scenario.faults)
        line = "\t".join(self.fields(scenario))
        self.driver.stdin.write(line + "\n")
        self.driver.stdin.flush()
        outcome, _, told = self.driver.stdout.readline().rstrip("\n").partition("\t")
        self.errors.seek(0)
        assert outcome in ("sent", "failed"), f"the driver of {self.name} says {outcome!r}: {self.errors.read()}"
        wire = [conversation for listener in self.listeners.values() for conversation in listener.take()]
        return Run(scenario, self.client, outcome, told, self.relay.messages(), wire, self.place / f"{scenario.name}.eml")

    def fields(self, scenario):
        files = {
            "text": scenario.text.encode(), "attachment": scenario.attachment, "eml": made(scenario),
        }
        for ending, octets in files.items():
            (self.place / f"{scenario.name}.{ending}").write_bytes(octets)
        attachment = str(self.place / f"{scenario.name}.attachment") if scenario.attachment else ""
        return [
            TLS.get(scenario.listener, "none"), str(self.listeners[scenario.listener].port), scenario.user, scenario.reverse_path,
            scenario.author, ",".join(scenario.to), ",".join(scenario.bcc), scenario.subject,
            str(self.place / f"{scenario.name}.text"), attachment, str(self.place / f"{scenario.name}.eml"),
        ]

    def stop(self):
        self.driver.stdin.close()
        ended = self.driver.wait(timeout=60)
        self.driver.stdout.close()
        self.errors.close()
        for listener in self.listeners.values():
            listener.close()
        return ended, self.relay.stop()


def made(scenario):
    """The message for clients that compose none: raw 8-bit text, and fields that gatepost must remove."""
    subject = email.header.Header(scenario.subject, "utf-8" if not scenario.subject.isascii() else None).encode(linesep="\r\n")
    text = scenario.text.replace("\n", "\r\n")
    header = (
        f"{scenario.fields}From: {scenario.author}\r\nTo: {', '.join(scenario.to)}\r\n"
        + (f"Bcc: {', '.join(scenario.bcc)}\r\n" if scenario.bcc else "")
        + f"Subject: {subject}\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{scenario.name}@example.com>\r\n"
        "MIME-Version: 1.0\r\n"
    )
    plain = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"
    if not scenario.attachment:
        return (header + plain).encode()
    encoded = email.base64mime.body_encode(scenario.attachment, eol="\r\n")
    return (
        f'{header}Content-Type: multipart/mixed; boundary="=-="\r\n\r\n--=-=\r\n{plain}\r\n--=-=\r\n'
        'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="data.bin"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n--=-=--\r\n"
    ).encode()


class Run:
    """One scenario with one client, and its result."""

    def __init__(self, scenario, client, outcome, told, messages, wire, message):
        self.scenario, self.client, self.outcome, self.told = scenario, client, outcome, told
        self.messages, self.wire, self.message = messages, wire, message

    def problems(self):
        """All differences from the table."""
        found = []

        def expect(what, got, wanted):
            if got != wanted:
                found.append(f"{what}: {got!r} instead of {wanted!r}")

        scenario, exception = self.scenario, self.client.exceptions.get(self.scenario.name)
        expected = (exception.outcome, exception.messages) if exception else (
            "failed" if scenario.refusal and not scenario.messages else "sent", scenario.messages)
        expect("the client's end and messages at SES", (self.outcome, len(self.messages)), expected)
        for conversation in self.wire:
            expect("TLS on the wire", conversation.tls, TLS.get(scenario.listener, "none"))
        if exception and exception.commands:
            expect("commands", tuple(exchange.verb for one in self.wire for exchange in one.exchanges), exception.commands)
        if scenario.refusal and not (exception and exception.unheard):
            replies = [exchange.reply for one in self.wire for exchange in one.exchanges]
            expect("the reply on the wire", any(reply.startswith(scenario.refusal) for reply in replies), True)
        if exception or self.outcome == "failed":
            told = exception.told if exception and exception.told is not None else scenario.refusal[:3]
            expect(f"the client says {told!r}", told in self.told, True)
        if scenario.name in ("plain", "auth") and not exception:
            self.habits(expect)
        for message in self.messages:
            if exception and exception.notice:
                self.notice(message, expect)
            else:
                self.envelope(message, expect)
                self.content(message, expect)
        if scenario.listener not in TLS:
            self.octets(expect, exception)
        if found:
            found.append(f"the client said: {self.told}")
            found += [f"{one.tls}: {[(e.command, e.reply) for e in one.exchanges]}" for one in self.wire]
        return found

    def habits(self, expect):
        (conversation,) = self.wire
        if self.scenario.name == "plain":
            expect("greeting", conversation.exchanges[0].verb, self.client.hello)
            expect("pipelining", conversation.pipelined, self.client.pipelines)
        else:
            (exchange,) = conversation.of("AUTH")
            expect("mechanism", exchange.command.split(" ")[1].upper(), self.client.mechanism)

    def envelope(self, message, expect):
        scenario = self.scenario
        expect("feedback address", message["parameters"].get("FeedbackForwardingEmailAddress"), scenario.reverse_path)
        good = [address for address in (*scenario.to, *scenario.bcc) if not address.endswith("@refused.example")]
        expect("recipients", sorted(message["to"]), sorted(good))

    def content(self, message, expect):
        """Compares the parsed message with the one that was to be sent."""
        scenario, raw = self.scenario, message["raw"]
        kind = {"plain": "E?SMTP", "limited": "E?SMTP", "auth": "ESMTPA"}.get(scenario.listener, "ESMTPSA")
        expect("trace field", bool(re.match(rf"Received: from unknown\r\n\tby relay\.example with {kind} id ".encode(), raw)), True)
        seen = email.message_from_bytes(raw, policy=email.policy.default)
        expect("From", str(seen["From"]), scenario.author)
        expect("To", [one.strip() for one in str(seen["To"]).split(",")], list(scenario.to))
        expect("Subject", str(seen["Subject"]), scenario.subject)
        text = getattr(self.client.exceptions.get(scenario.name), "text", "") or scenario.text
        expect("text", normal(seen.get_body().get_content()), normal(text))
        expect("attachments", [part.get_content() for part in seen.iter_attachments()], [scenario.attachment] * bool(scenario.attachment))
        expect("hidden", [name for name in seen.keys() if HIDDEN.match(name)], [])

    def notice(self, message, expect):
        expect("the notice's feedback address", message["parameters"].get("FeedbackForwardingEmailAddress"), None)
        expect("the notice's recipient", message["to"], [self.scenario.reverse_path])
        expect("the notice has the reply", self.scenario.refusal.encode() in message["raw"], True)

    def octets(self, expect, exception):
        """Compares the message at SES with the client's, byte by byte; an accepted message was sent exactly once."""
        sent = [exchange for one in self.wire for exchange in one.of("DATA") if exchange.code == "250"]
        expect("messages on the wire and at SES", len(sent), len(self.messages))
        for exchange, message in zip(sent, self.messages):
            wanted = without_hidden(exchange.content)
            got = without_trace(message["raw"])
            if got != wanted:
                place = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
                expect(f"octets from {place}", got[place : place + 80], wanted[place : place + 80])
        if sent and not self.client.composes and not (exception and exception.notice):
            # The client sent the file, except for header fields that it may add at the top.
            expect("the file's text on the wire", self.message.read_bytes().partition(b"\r\n\r\n")[2].rstrip() in sent[0].content, True)


HIDDEN = re.compile(r"(resent-)?bcc$|return-path$|x-ses-", re.IGNORECASE)


def without_hidden(content):
    """Without the fields that gatepost removes. Reads line by line: a parser could have the same fault as gatepost."""
    header, end, body = content.partition(b"\r\n\r\n")
    kept, hidden = [], False
    for line in header.split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            hidden = bool(HIDDEN.match(line.partition(b":")[0].decode("latin-1")))
        if not hidden:
            kept.append(line)
    return b"\r\n".join(kept) + end + body


def normal(text):
    """Without the final line ends, which a client may add or omit."""
    return text.replace("\r\n", "\n").rstrip("\n")


def run_all(name, client):
    """Problems by scenario, and the duration in seconds."""
    began = time.monotonic()
    found = {}
    bench = Bench(name, client)
    try:
        for scenario in [*SCENARIOS, *client.scenarios]:
            found[scenario.name] = bench.run(scenario).problems()
    except Exception as error:  # The results of the other clients must not be lost.
        found["all"] = [f"{type(error).__name__}: {error}"]
    ended = bench.stop()
    if ended != (0, 0):
        found["end"] = [f"driver and gatepost ended with {ended}: {bench.place}"]
    return name, found, time.monotonic() - began


class Matrix(unittest.TestCase):
    def test_every_client(self):
        """The clients in INTEROP_CLIENTS (names separated by spaces), or all."""
        global PASSWORD
        PASSWORD = hashed("secret")
        chosen = os.environ.get("INTEROP_CLIENTS", "").split() or list(CLIENTS)
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(lambda name: run_all(name, CLIENTS[name]), chosen))
        for name, found, seconds in results:
            print(f"{seconds:5.1f} s  {len(found):2d} scenarios with {name}", file=sys.stderr)
        for name, found, _ in results:
            for scenario, problems in found.items():
                with self.subTest(client=name, scenario=scenario):
                    self.assertEqual(problems, [], "\n".join(problems))


if __name__ == "__main__":
    unittest.main()
