"""Devices and programs that cannot be installed in a test, simulated byte by byte from documentation and reports.

tests/transcripts has their input for the session alone; here it goes through the compiled relay, with policy and SES, and at
the speed of the devices.
"""

import concurrent.futures
import dataclasses
import socket
import time
import unittest

from relay_process import Relay, emulator, without_trace

# Of the slow devices. A message takes long, but less than smtp.content_rate_grace_seconds.
OCTET_SECONDS = 0.1


@dataclasses.dataclass
class Device:
    """The input, step by step. After each step the device waits for the given number of replies."""

    name: str
    steps: list
    # Content at SES, by recipient.
    arrives: dict
    listener: str = "plain"
    # The codes of all replies.
    codes: str = ""
    octet_by_octet: bool = False
    speaks_first: bool = False


MAIL = b"MAIL FROM:<ann@example.com>\r\n"

DEVICES = [
    Device(
        "a monitoring script pipes everything at once, with bare LF, before the banner",
        [(b"HELO nagios_host\nMAIL FROM: ann@example.com\nRCPT TO: nagios@elsewhere.example\nDATA\n"
          b"From: ann@example.com\nSubject: DOWN\n\nhost is down\n\r\n.\r\nQUIT\n", 7)],
        {"nagios": b"From: ann@example.com\r\nSubject: DOWN\r\n\r\nhost is down\r\n\r\n"},
        listener="normalizing", codes="220 250 250 250 354 250 221", speaks_first=True,
    ),
    Device(
        "an old UPS sends all commands in one packet, without PIPELINING, and never says QUIT",
        [(b"HELO ups-7\r\n" + MAIL + b"RCPT TO:<ups@elsewhere.example>\r\nDATA\r\n"
          b"From: ann@example.com\r\nSubject: on battery\r\n\r\n.\r\n", 5)],
        {"ups": b"From: ann@example.com\r\nSubject: on battery\r\n\r\n"}, codes="220 250 250 250 354 250",
    ),
    Device(
        "a scanner sends an octet in 100 ms, with HELO only, and never says QUIT",
        [(b"helo MX_2651\r\n", 1), (b"mail from: ann@example.com\r\n", 1), (b"rcpt to: slow@elsewhere.example\r\n", 1),
         (b"data\r\n", 1), (b"From: ann@example.com\r\n\r\n..\r\nscan\r\n.\r\n", 1)],
        {"slow": b"From: ann@example.com\r\n\r\n.\r\nscan\r\n"}, codes="220 250 250 250 354 250", octet_by_octet=True,
    ),
    Device(
        "a scanner logs in with LOGIN and the name inline, its address without brackets",
        [(b"EHLO scanner_3\r\n", 1), (b"AUTH LOGIN YXBw\r\n", 1), (b"c2VjcmV0\r\n", 1), (b"MAIL FROM: ann@example.com\r\n", 1),
         (b"RCPT TO: scanner@elsewhere.example\r\n", 1), (b"DATA\r\n", 1),
         (b"From: ann@example.com\r\nSubject: Scan\r\n\r\n%PDF\r\n.\r\n", 1), (b"QUIT\r\n", 1)],
        {"scanner": b"From: ann@example.com\r\nSubject: Scan\r\n\r\n%PDF\r\n"}, codes="220 250 334 235 250 250 354 250 221",
    ),
    Device(
        ".NET logs in, goes on without when that failed, and sends twice on one connection",
        [(b"EHLO DESKTOP1\r\n", 1), (b"AUTH login YXBw\r\n", 1), (b"d3Jvbmc=\r\n", 1), (b"AUTH login YXBw\r\n", 1),
         (b"c2VjcmV0\r\n", 1), (MAIL, 1), (b"RCPT TO:<net1@elsewhere.example>\r\n", 1), (b"DATA\r\n", 1),
         (b"From: ann@example.com\r\n\r\none\r\n\r\n.\r\n", 1), (MAIL, 1), (b"RCPT TO:<net2@elsewhere.example>\r\n", 1),
         (b"DATA\r\n", 1), (b"From: ann@example.com\r\n\r\ntwo\r\n\r\n.\r\n", 1)],
        {"net1": b"From: ann@example.com\r\n\r\none\r\n\r\n", "net2": b"From: ann@example.com\r\n\r\ntwo\r\n\r\n"},
        codes="220 250 334 535 334 235 250 250 354 250 250 250 354 250",
    ),
    Device(
        "Oracle's UTL_SMTP writes the text of a PL/SQL program, with CHR(10) between its lines",
        [(b"HELO dbserver01\r\n", 1), (b"MAIL FROM: <ann@example.com>\r\n", 1), (b"RCPT TO: <oracle@elsewhere.example>\r\n", 1),
         (b"DATA\r\n", 1), (b"From: ann@example.com\nSubject: nightly\n\nORA-00001\n.\nlast\n\r\n.\r\n", 1), (b"QUIT\r\n", 1)],
        {"oracle": b"From: ann@example.com\r\nSubject: nightly\r\n\r\nORA-00001\r\n.\r\nlast\r\n\r\n"},
        listener="normalizing", codes="220 250 250 250 354 250 221",
    ),
    Device(
        "the same where nothing is normalized",
        [(b"HELO dbserver01\r\n", 1), (b"MAIL FROM: <ann@example.com>\r\n", 1), (b"RCPT TO: <refused@elsewhere.example>\r\n", 1),
         (b"DATA\r\n", 1), (b"From: ann@example.com\nSubject: nightly\n\nORA-00001\n\r\n.\r\n", 1), (b"QUIT\r\n", 1)],
        {}, codes="220 250 250 250 354 550 221",
    ),
    Device(
        "SAP works off its queue on one connection: one sender is refused, the others go",
        [(b"EHLO sapapp1.example.com\r\n", 1), (MAIL, 1), (b"RCPT TO:<sap1@elsewhere.example>\r\n", 1), (b"DATA\r\n", 1),
         (b"From: ann@example.com\r\n\r\none\r\n.\r\n", 1), (b"RSET\r\n", 1), (b"MAIL FROM:<ddic@other.example>\r\n", 1),
         (b"RSET\r\n", 1), (MAIL, 1), (b"RCPT TO:<sap2@elsewhere.example>\r\n", 1), (b"DATA\r\n", 1),
         (b"From: ann@example.com\r\n\r\ntwo\r\n.\r\n", 1), (b"RSET\r\n", 1), (b"QUIT\r\n", 1)],
        {"sap1": b"From: ann@example.com\r\n\r\none\r\n", "sap2": b"From: ann@example.com\r\n\r\ntwo\r\n"},
        codes="220 250 250 250 354 250 250 550 250 250 250 354 250 250 221",
    ),
    Device(
        "IIS sends 8-bit text in one chunk, because both are offered",
        [(b"EHLO MAILSRV.corp.local\r\n", 1), (b"MAIL FROM:<ann@example.com> SIZE=300 BODY=8BITMIME\r\n", 1),
         (b"RCPT TO:<iis@elsewhere.example>\r\n", 1), (b"BDAT 33 LAST\r\nFrom: ann@example.com\r\n\r\n.gr\xfc\xdfe\r\n", 1), (b"QUIT\r\n", 1)],
        {"iis": b"From: ann@example.com\r\n\r\n.gr\xfc\xdfe\r\n"}, codes="220 250 250 250 250 221",
    ),
]


def play(device, port):
    """The codes of the replies, and the duration in seconds."""
    began = time.monotonic()
    with socket.create_connection(("localhost", port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = client.makefile("rb")
        codes = []

        def receive(replies):
            while replies:
                line = reader.readline()
                assert line, f"{device.name}: closed after {codes}"
                if line[3:4] == b" ":
                    codes.append(line[:3].decode())
                    replies -= 1

        if not device.speaks_first:
            receive(1)
        for octets, replies in device.steps:
            if device.octet_by_octet:
                for octet in octets:
                    client.sendall(bytes([octet]))
                    time.sleep(OCTET_SECONDS)
            else:
                client.sendall(octets)
            receive(replies)
        return " ".join(codes), time.monotonic() - began


class Devices(unittest.TestCase):
    def test_every_device(self):
        relay = Relay(emulator)
        try:
            with concurrent.futures.ThreadPoolExecutor(len(DEVICES)) as pool:
                played = list(pool.map(lambda device: play(device, relay.ports[device.listener]), DEVICES))
            arrived = {}
            for message in relay.messages():
                (recipient,) = message["to"]
                arrived.setdefault(recipient.partition("@")[0], []).append(without_trace(message["raw"]))
                self.assertEqual(message["parameters"]["FeedbackForwardingEmailAddress"], "ann@example.com")
            for device, (codes, seconds) in zip(DEVICES, played):
                with self.subTest(device.name):
                    self.assertEqual(codes, device.codes)
                    got = {name: arrived.pop(name, None) for name in device.arrives}
                    self.assertEqual(got, {name: [content] for name, content in device.arrives.items()}, "once, as it was sent")
                    if device.octet_by_octet:
                        self.assertGreater(seconds, OCTET_SECONDS * sum(len(octets) for octets, _ in device.steps))
            self.assertEqual(arrived, {}, "nothing else")
        finally:
            self.assertEqual(relay.stop(), 0)


if __name__ == "__main__":
    unittest.main()
