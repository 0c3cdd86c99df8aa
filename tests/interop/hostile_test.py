"""The cost of hostile messages is bounded: CPU as a multiple of SHA-256, memory within the budget, no delay of other clients.

The messages have each MIME token a million times, in every place where it has a meaning; and input that once ended the
process, kept a thread busy for a minute, or exceeded the memory budget. CPU is asserted only for the released build:
`INTEROP_BINARY=target/dist/gatepost`, as in tests/long/run.
"""

import contextlib
import hashlib
import os
import pathlib
import socket
import statistics
import subprocess
import threading
import time
import unittest

from relay_process import BINARY, PATIENCE_SECONDS, Gatepost, free_port, wait_for_port

SHIPPED = "/dist/" in str(pathlib.Path(BINARY).resolve())
CPU_RATIO_MAX = 15
# The fixed cost of a message: its commands, its log lines, the call to SES.
CPU_SECONDS_FREE = 0.02
NOOP_SECONDS_MAX = 0.1
# [memory] octets, and the memory of the program and of the connections' buffers.
MEMORY_OCTETS_MAX = (256 + 64) * 1024 * 1024
MESSAGE_OCTETS_MAX = 29_000_000
TIMES = 1_000_000

HEAD = b"From: ann@example.com\r\nTo: bob@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
LONG = b"x " * 600 + b"\r\n"

TOKENS = [
    b"--", b"--b", b"--b\r\n", b"\r\n", b"\r\n\r\n", b"\r\n--", b"\r\n-", b"--b--\r\n", b"a: b\r\n", b":", b";\r\n", b"=\r\n",
    b'"', b"\\\r\n", b"(", b")\r\n", b"*", b"*0=", b"'", b"%", b"=?\r\n", b"?=", b"=?utf-8?q?\r\n", b"=?utf-8?q?a?=\r\n ",
    b";\r\n name=a", b";\r\n name*0=a", b";\r\n name*0*=%41", b";\r\n boundary=c", b" ", b"\t\r\n", b"\r\n ", b"<", b",\r\n ",
    b"Content-Type: message/rfc822\r\n\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
    b'--b\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\n', b"\xff", b"x",
]
FRAMES = {
    "body": HEAD + b"\r\n",
    "preamble": HEAD + MIXED,
    "part's header": HEAD + MIXED + b"--b\r\n",
    "part's body": HEAD + MIXED + b"--b\r\n\r\n",
    "parameter": HEAD + MIXED + b"--b\r\nContent-Type: a/b; name=",
    "message inside": HEAD + b"Content-Type: message/rfc822\r\n\r\n",
}


def corpus():
    """Name and content of each message: complete lines, no line with only a dot."""
    for place, frame in FRAMES.items():
        for token in TOKENS:
            room = (MESSAGE_OCTETS_MAX - len(frame)) // len(token)
            yield f"{token!r} in a {place}", frame + token * min(TIMES, room) + b"\r\n"
    yield "deep", HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 25_000 + LONG
    yield "deep multiparts", HEAD + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(25_000)
    ) + b"\r\n" + LONG
    yield "wide", HEAD + MIXED + b"--b\r\n\r\nx\r\n" * TIMES + LONG
    yield "one parameter in many pieces", HEAD + MIXED + b"--b\r\nContent-Type: a/b" + b"".join(
        b";\r\n name*%d*=%%41" % n for n in range(1_200_000)
    ) + b"\r\n\r\nx\r\n--b--\r\n"
    yield "many fields of a part", HEAD + MIXED + b"--b\r\n" + b"a: b\r\n" * 4_500_000 + b"\r\nx\r\n--b--\r\n"
    names = b'--b\r\nContent-Disposition: attachment;\r\n filename*0*=utf-8\'\'%41; filename*1="=?utf-8?q?b?="\r\n\r\nx\r\n'
    yield "as many names as there may be", HEAD + MIXED + names * 490 + b"--b\r\n\r\n" + b"x" * 900 + (b"x\r\n" * 500_000)
    boundaries = [b"b" * 60 + bytes([ord("a") + n]) for n in range(19)]
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n" % (each, each) for each in boundaries)
    yield "nearly delimiters", HEAD + nested + b"\r\n" + (b"--" + b"b" * 60 + b"\r\n") * 400_000
    short = [b"b%c" % (ord("a") + n) for n in range(19)]
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n" % (each, each) for each in short)
    yield "nearly short delimiters", HEAD + nested + b"\r\n" + b"--b\r\n" * 5_000_000
    yield "one long line of text", HEAD + b"\r\n" + b"x" * 29_000_000 + b"\r\n"
    yield "long lines of what must be encoded", HEAD + b"\r\n" + (b"\xfc" * 1_200 + b"\r\n") * 7_000
    yield "one line of base64", HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 7_000_000 + b"\r\n"
    yield "bad quoted-printable", HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=zz" * 9_000_000 + b"\r\n"
    yield "a From of many words", b"From: " + b"=?utf-8?q?a?=\r\n " * 14_000 + b"<ann@example.com>\r\n\r\nx\r\n"
    yield "a From of comments", b"From: ann@example.com " + b"(a)\r\n " * 30_000 + b"\r\n\r\nx\r\n"
    yield "a To of many addresses", HEAD.replace(b"bob@example.org", b"bob@example.org,\r\n " * 11_000) + b"\r\nx\r\n"
    yield "a To of quotes", HEAD.replace(b"bob@example.org", b'"a" ' * 200 + b"\r\n " + b'"\\"" ' * 150) + b"\r\nx\r\n"


def stuffed(content):
    content = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if content.startswith(b".") else b"") + content + b".\r\n"


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.file = self.socket.makefile("rb")
        assert self.file.readline().startswith(b"220")

    def say(self, line):
        self.socket.sendall(line + b"\r\n")
        return self.file.readline().decode()

    def send(self, content):
        for line in (b"HELO x", b"MAIL FROM:<ann@example.com>", b"RCPT TO:<bob@example.org>", b"DATA"):
            reply = self.say(line)
            assert reply[0] in "23", (line, reply)
        self.socket.sendall(content)
        return self.file.readline().decode()

    def close(self):
        self.file.close()
        self.socket.close()


class Bystanders:
    """Clients that send NOOP continuously: at least one on each thread of the relay."""

    def __init__(self, port, count=4):
        self.ended = threading.Event()
        self.waits = []
        self.threads = [threading.Thread(target=self.run, args=(port,)) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, port):
        client = Client(port)
        while not self.ended.is_set():
            began = time.monotonic()
            assert client.say(b"NOOP").startswith("250")
            self.waits.append(time.monotonic() - began)
            self.ended.wait(0.01)
        client.close()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        return self.waits


def cpu_seconds(pid):
    """CPU time of all threads, in nanosecond resolution."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def peak_octets(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def hash_seconds(content):
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        hashlib.sha256(content).digest()
        best = min(best, time.thread_time() - began)
    return best


class Hostile(unittest.TestCase):
    def setUp(self):
        """SES is another process, so that the relay's CPU time does not contain it."""
        self.emulator_port = free_port()
        command = [BINARY, "ses-emulator", "--listen", f"127.0.0.1:{self.emulator_port}"]
        self.emulator = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.emulator_port, self.emulator)
        keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
        self.relay = Gatepost(["plain"], self.config, keys)

    def tearDown(self):
        self.assertEqual(self.relay.stop(), 0, "it did not end by itself")
        self.emulator.terminate()
        self.emulator.wait(timeout=PATIENCE_SECONDS)

    def config(self, relay):
        return f"""
hostname = "relay.example"
[[listener]]
address = "127.0.0.1:{relay.ports['plain']}"
long_lines = "re-encode"
[policy]
from = ["*@example.com"]
[log]
format = "json"
[ses]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{self.emulator_port}"
"""

    def test_no_message_costs_more_than_its_size_says(self):
        pid = self.relay.process.pid
        port = self.relay.ports["plain"]
        worst = []
        for name, content in corpus():
            wire = stuffed(content)
            allowed = CPU_RATIO_MAX * hash_seconds(wire) + CPU_SECONDS_FREE
            bystanders = Bystanders(port)
            client = Client(port)
            before = cpu_seconds(pid)
            reply = client.send(wire)
            spent = cpu_seconds(pid) - before
            client.close()
            waits = bystanders.stop()
            with self.subTest(name):
                self.assertRegex(reply, "^(250|4|5)", "the relay has ended")
                self.assertLessEqual(statistics.median(waits), NOOP_SECONDS_MAX)
                if SHIPPED:
                    self.assertLessEqual(spent, allowed, f"{len(wire)} octets: {reply}")
            worst.append((spent / allowed, name, len(wire), reply[:60].strip()))
        self.assertLessEqual(peak_octets(pid), MEMORY_OCTETS_MAX)
        for ratio, *what in sorted(worst, reverse=True)[:8]:
            print(f"{ratio * CPU_RATIO_MAX:6.1f} x SHA-256: {what}")
        print(f"peak {peak_octets(pid) / 1048576:.0f} MiB, {len(worst)} messages")


if __name__ == "__main__":
    unittest.main()
