"""The spool of the compiled relay: killed at random under load, with errors of the disk, and twice on one directory.

A ledger counts every message: what received 250 must arrive at the emulator at least once, and copies beyond the first must be
attempts that the relay counted as ambiguous. SPOOL_KILLS is the number of kills (12 here, 200 in tests/long/run); SPOOL_SOAK_SECONDS
the length of the soak, which is left out without it.
"""

import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import relay_process
from relay_process import BINARY, CREDENTIALS, PATIENCE_SECONDS, WORK

KILLS = int(os.environ.get("SPOOL_KILLS", "12"))
SOAK_SECONDS = int(os.environ.get("SPOOL_SOAK_SECONDS", "0"))
# What SES answers now and then during a soak.
SOAK_FAULTS = [
    "TooManyRequestsException", "InternalFailure", "ServiceUnavailable", "MessageRejected", "reset-before-body", "accept-then-reset", "garbage",
]


class Emulator:
    """The emulator as a process of its own, which outlives the relay."""

    def __init__(self, directory):
        self.port = relay_process.free_port()
        self.log = open(directory / "emulator.log", "w")
        # In memory it keeps only so many.
        self.mail = directory / "mail"
        command = [BINARY, "ses-emulator", "--listen", f"127.0.0.1:{self.port}", "--directory", self.mail]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        relay_process.wait_for_port(self.port, self.process)

    def subjects(self):
        """How often each subject arrived."""
        counts = collections.Counter()
        for file in self.mail.glob("*.eml"):
            with open(file, "rb") as content:
                counts[re.search(rb"^Subject: (\S+)", content.read(4096), re.M).group(1).decode()] += 1
        return counts

    def faults(self, queue):
        body = json.dumps({"queue": queue}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/faults", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECONDS)
        self.log.close()


class Spooling:
    """A relay that keeps everything, and is started again and again on the same spool."""

    def __init__(self, directory, emulator, spool=None, lines=""):
        self.directory, self.emulator = directory, emulator
        self.port, self.admin = relay_process.free_port(), relay_process.free_port()
        self.spool = spool or directory / "spool"
        self.config = directory / "gatepost.toml"
        self.config.write_text(
            f"""
hostname = "relay.example"
[ses]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{emulator.port}"
[policy]
from = ["*@example.com"]
delivery = "spool"
[spool]
directory = "{self.spool}"
free_octets_min = 1
{lines}
[admin]
address = "127.0.0.1:{self.admin}"
[[listener]]
address = "127.0.0.1:{self.port}"
"""
        )
        self.log = open(directory / "log", "a")
        self.process = None

    def start(self, wrapper=()):
        command = [*wrapper, BINARY, "run", "--config", self.config]
        self.process = subprocess.Popen(command, stderr=self.log, env={**os.environ, **CREDENTIALS})
        relay_process.wait_for_port(self.port, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE_SECONDS)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def end(self):
        """Whatever the test did. A tracer does not end with a signal while its process runs."""
        if self.process and self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in [*map(int, children), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=PATIENCE_SECONDS)
        self.log.close()

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            text = answer.read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def until_empty(self, patience=PATIENCE_SECONDS):
        deadline = time.monotonic() + patience
        while self.metric("gatepost_queue_messages"):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.metric('gatepost_queue_messages')} messages are left: {self.log_text()[-4000:]}")
            time.sleep(0.1)

    def log_text(self):
        return (self.directory / "log").read_text()

    def send(self, subject, octets=1000):
        """The reply to DATA or to the end of data; raises if the connection fails."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("client.example")
            client.mail("app@example.com")
            client.rcpt("user@elsewhere.example")
            line = "x" * 70 + "\r\n"
            try:
                code, text = client.data(f"From: app@example.com\r\nSubject: {subject}\r\n\r\n{line * (octets // 72)}")
            except smtplib.SMTPDataError as refusal:
                code, text = refusal.args
            return code, text.decode()


class Senders:
    """Threads that send until they are stopped, and remember what each reply said."""

    def __init__(self, relay, count, pause=0):
        self.relay, self.stopped, self.pause = relay, threading.Event(), pause
        self.accepted, self.unknown, self.lock = set(), set(), threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        sent = 0
        while not self.stopped.is_set():
            sent += 1
            self.stopped.wait(self.pause)
            subject = f"m{number}-{sent}"
            # One of fifty is large, and goes to a file of its own.
            octets = 1_100_000 if random.random() < 0.02 else random.choice([200, 3_000, 30_000])
            try:
                code, _ = self.relay.send(subject, octets)
            except (OSError, smtplib.SMTPException):
                with self.lock:
                    self.unknown.add(subject)
                time.sleep(0.05)
                continue
            if code == 250:
                with self.lock:
                    self.accepted.add(subject)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Spool(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="spool-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.emulator = Emulator(self.directory)
        self.addCleanup(self.emulator.stop)

    def relay(self, directory=None, **settings):
        relay = Spooling(directory or self.directory, self.emulator, **settings)
        self.addCleanup(relay.end)
        return relay

    def test_killed_at_random_nothing_that_was_accepted_is_lost(self):
        relay = self.relay()
        relay.start()
        senders = Senders(relay, 8)
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.6))
            relay.kill()
            relay.start()
        senders.stop()
        relay.until_empty()
        arrived = self.emulator.subjects()
        interrupted = relay.log_text().count("an attempt was interrupted")
        self.assertEqual(relay.stop(), 0)
        copies = sum(count - 1 for count in arrived.values())
        print(f"{KILLS} kills: {len(senders.accepted)} accepted, {len(senders.unknown)} cut, {len(arrived)} arrived, "
              f"{copies} twice, {interrupted} attempts interrupted ... ", end="", flush=True)
        self.assertGreater(len(senders.accepted), KILLS)
        lost, foreign = senders.accepted - set(arrived), set(arrived) - senders.accepted - senders.unknown
        self.assertEqual(len(lost), 0, f"{len(lost)} accepted and not sent, such as {sorted(lost)[:5]}"[:300])
        self.assertEqual(len(foreign), 0, f"{len(foreign)} sent and not accepted"[:300])
        self.assertLessEqual(copies, interrupted)
        self.assertNotIn("damaged", relay.log_text())

    @unittest.skipUnless(SOAK_SECONDS, "SPOOL_SOAK_SECONDS is not set")
    def test_a_soak_with_faults_balances_and_neither_memory_nor_descriptors_grow(self):
        relay = self.relay()
        relay.start()
        senders = Senders(relay, 8, pause=0.1)
        process = pathlib.Path(f"/proc/{relay.process.pid}")

        def sample():
            status = (process / "status").read_text()
            number = lambda name: int(re.search(rf"{name}:\s+(\d+)", status).group(1))
            return number("RssAnon") / 1024, len(list((process / "fd").iterdir())), number("Threads")

        ends = time.monotonic() + SOAK_SECONDS
        samples = []
        while time.monotonic() < ends:
            self.emulator.faults(random.choices(SOAK_FAULTS, k=random.randrange(20)))
            time.sleep(min(10, SOAK_SECONDS / 12))
            samples.append(sample())
        senders.stop()
        relay.until_empty(600)
        arrived = self.emulator.subjects()
        dead = {
            re.search(r"^Subject: (\S+)", file.read_text(), re.M).group(1) for file in (relay.spool / "dead").glob("*.eml")
        }
        ambiguous = relay.metric("gatepost_ses_ambiguous_attempts_total")
        self.assertEqual(relay.stop(), 0)
        copies = sum(count - 1 for count in arrived.values())
        early, late = samples[len(samples) // 4 : len(samples) // 2], samples[-len(samples) // 4 :]
        highest = lambda part: tuple(max(column) for column in zip(*part))
        print(f"{SOAK_SECONDS} s: {len(senders.accepted)} accepted, {len(arrived)} arrived, {len(dead)} rejected, {copies} twice, "
              f"{ambiguous:.0f} ambiguous; MiB, descriptors, threads: {highest(early)}, then {highest(late)} ... ", end="", flush=True)
        self.assertEqual(senders.unknown, set())
        self.assertEqual(senders.accepted - set(arrived) - dead, set(), "lost")
        # One that was rejected may have been sent by an ambiguous attempt before.
        self.assertEqual((set(arrived) | dead) - senders.accepted, set(), "sent and not accepted")
        self.assertLessEqual(copies + len(dead & set(arrived)), ambiguous)
        for what, before, after, more in zip(("MiB", "descriptors", "threads"), highest(early), highest(late), (30, 20, 4)):
            self.assertLessEqual(after, before + more, f"{what} grow: {samples}")

    def test_a_failed_flush_is_answered_with_451_and_the_next_segment_works(self):
        # The flushes of the writing thread fail from the 4th to the 5th; then two in a row have failed.
        self.fails_and_recovers("fdatasync:error=EIO:when=4..5")

    def test_on_a_file_system_that_becomes_read_only_nothing_is_accepted(self):
        # As after an error of the disk: open files can no longer be written.
        self.fails_and_recovers("pwrite64:error=EROFS:when=5..7")

    def fails_and_recovers(self, fault):
        relay = self.relay()
        call = fault.split(":")[0]
        relay.start(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}"])
        replies = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and (len(replies) < 12 or replies[-1] != 250):
            replies.append(relay.send(f"e{len(replies)}")[0])
            time.sleep(0.2)
        self.assertIn(451, replies)
        self.assertEqual(replies[-1], 250, "it recovers by itself")
        relay.until_empty()
        arrived = self.emulator.subjects()
        accepted = {f"e{number}" for number, code in enumerate(replies) if code == 250}
        self.assertEqual(accepted - set(arrived), set())

    def test_a_second_process_on_the_same_spool_is_refused(self):
        relay = self.relay()
        relay.start()
        other = self.directory / "other"
        other.mkdir()
        second = self.relay(other, spool=relay.spool)
        done = subprocess.run([BINARY, "run", "--config", second.config], env={**os.environ, **CREDENTIALS},
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS)
        self.assertEqual(done.returncode, 73, done.stderr)
        self.assertIn("is in use by another process", done.stderr)
        self.assertEqual(relay.send("one")[0], 250)
        relay.until_empty()
        self.assertEqual(relay.stop(), 0)

    def test_a_full_disk_refuses_before_content_and_recovers(self):
        disk = self.directory / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=140m", "tmpfs", disk], check=True)
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        relay = self.relay(spool=disk / "spool")
        relay.start()
        self.assertEqual(relay.send("before")[0], 250)
        relay.until_empty()
        with open(disk / "ballast", "wb") as ballast:
            try:
                while True:
                    ballast.write(b"x" * 1_000_000)
            except OSError:
                pass
        codes = set()
        for number in range(3):
            with smtplib.SMTP("127.0.0.1", relay.port, timeout=PATIENCE_SECONDS) as client:
                client.ehlo("client.example")
                client.mail("app@example.com", ["SIZE=1000"])
                client.rcpt("user@elsewhere.example")
                codes.add(client.docmd("DATA")[0])
        self.assertEqual(codes, {452})
        (disk / "ballast").unlink()
        self.assertEqual(relay.send("after")[0], 250)
        relay.until_empty()
        self.assertEqual(set(self.emulator.subjects()), {"before", "after"})

    def test_without_inodes_large_messages_are_deferred_and_small_ones_accepted(self):
        disk = self.directory / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,nr_inodes=40", "tmpfs", disk], check=True)
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        relay = self.relay(spool=disk / "spool")
        relay.start()
        self.assertEqual(relay.send("first")[0], 250)
        files = []
        try:
            for number in range(100):
                files.append(disk / f"file{number}")
                files[-1].touch()
        except OSError:
            files.pop()
        # Its content needs a file of its own.
        self.assertEqual(relay.send("large", 1_200_000)[0], 452)
        self.assertEqual(relay.send("small")[0], 250)
        for file in files:
            file.unlink()
        self.assertEqual(relay.send("large-again", 1_200_000)[0], 250)
        relay.until_empty()
        self.assertEqual(set(self.emulator.subjects()), {"first", "small", "large-again"})
        self.assertEqual(relay.stop(), 0)


if __name__ == "__main__":
    unittest.main()
