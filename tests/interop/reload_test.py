"""The configuration of the compiled relay, read again and again: under load, with certificates that change, with files that are wrong.

RELOAD_SECONDS is the length of each load (8 here, 60 in tests/long/run).
"""

import json
import os
import pathlib
import random
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import relay_process
from relay_process import BINARY, CREDENTIALS, PATIENCE_SECONDS, WORK, OverUnix

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("RELOAD_SECONDS", "8"))
REFUSED = int(os.environ.get("RELOAD_REFUSED", "1000"))


class Relay:
    def __init__(self, directory):
        self.directory, self.port, self.tls_port = directory, relay_process.free_port(), relay_process.free_port()
        self.config, self.socket = directory / "gatepost.toml", directory / "admin.sock"
        subprocess.run([BINARY, "gen-cert", "--directory", directory, "--name", "localhost"], check=True,
                       stdout=subprocess.DEVNULL)
        self.write(self.text("one"))
        self.log = open(directory / "log", "w")
        self.process = subprocess.Popen([BINARY, "run", "--config", self.config], stderr=self.log,
                                        env={**os.environ, **CREDENTIALS})
        relay_process.wait_for_port(self.tls_port, self.process)

    def text(self, name, more=""):
        """Two configurations that differ: each permits the reverse-path and the author of its own name only."""
        return f"""
hostname = "relay.example"
[ses]
emulator = true
[ses_emulator]
listen = "127.0.0.1:0"
[admin]
address = "unix:{self.socket}"
[limits]
state_directory = "{self.directory}/state"
[tls]
certificate = {{ file = "{self.directory}/cert.pem" }}
key = {{ file = "{self.directory}/key.pem" }}
[policy]
from = ["{name}@example.com"]
{more}
[[limit]]
name = "all"
by = "relay"
of = "messages"
rates = ["1000000/day"]
[[listener]]
address = "127.0.0.1:{self.port}"
[[listener]]
address = "127.0.0.1:{self.tls_port}"
tls = "implicit"
"""

    def write(self, text):
        # As an editor does it: never half written.
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)

    def reload(self, query=""):
        connection = OverUnix(self.socket)
        try:
            connection.request("POST", f"/api/v1/reload{query}")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def metrics(self):
        connection = OverUnix(self.socket)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def metric(self, name):
        return sum(float(line.split()[-1]) for line in self.metrics().splitlines() if re.match(rf"{name}[ {{]", line))

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self.log.close()
        return code


class Reload(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="reload-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.relay = Relay(self.directory)
        self.addCleanup(self.end)

    def end(self):
        if self.relay.process.poll() is None:
            self.relay.stop()

    def test_ten_times_a_second_under_load_nothing_is_cut_mixed_or_miscounted(self):
        relay, stop = self.relay, threading.Event()
        accepted, refused, wrong = [0] * 6, [0] * 6, []

        def client(number):
            try:
                with smtplib.SMTP("127.0.0.1", relay.port, timeout=PATIENCE_SECONDS) as session:
                    session.ehlo("client.example")
                    while not stop.is_set():
                        name = random.choice(["one", "two"])
                        code, text = session.mail(f"{name}@example.com")
                        if code == 550:
                            refused[number] += 1
                            session.rset()
                            continue
                        # Permitted at MAIL: the whole transaction is, whatever is in force by now.
                        codes = [code, session.rcpt("bob@elsewhere.example")[0]]
                        codes.append(session.data(f"From: {name}@example.com\r\nSubject: x\r\n\r\nx\r\n")[0])
                        if codes != [250, 250, 250]:
                            wrong.append((name, codes))
                        accepted[number] += 1
            except Exception as error:
                wrong.append(repr(error))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(accepted))]
        for thread in threads:
            thread.start()
        reloads, ends = 0, time.monotonic() + SECONDS
        while time.monotonic() < ends:
            relay.write(relay.text(["one", "two"][reloads % 2]))
            status, report = relay.reload()
            self.assertEqual(status, 200, report)
            reloads += 1
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
        print(f"{reloads} reloads: {sum(accepted)} accepted, {sum(refused)} refused ... ", end="", flush=True)
        self.assertEqual(wrong, [])
        self.assertGreater(sum(refused), reloads)
        # The quota counted each message once, over all reloads.
        self.assertEqual(relay.metric("gatepost_limit_used"), sum(accepted))
        self.assertEqual(relay.stop(), 0)

    def test_certificates_that_change_five_times_a_second_break_no_handshake(self):
        relay, stop, broken, shaken = self.relay, threading.Event(), [], [0]
        pairs = []
        for number in range(3):
            pair = self.directory / f"pair{number}"
            subprocess.run([BINARY, "gen-cert", "--directory", pair, "--name", "localhost"], check=True,
                           stdout=subprocess.DEVNULL)
            pairs.append([(pair / name).read_bytes() for name in ("cert.pem", "key.pem")])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def handshakes():
            while not stop.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", relay.tls_port), timeout=PATIENCE_SECONDS) as plain:
                        with context.wrap_socket(plain) as stream:
                            self.assertTrue(stream.recv(100).startswith(b"220"))
                            shaken[0] += 1
                except Exception as error:
                    broken.append(repr(error))

        thread = threading.Thread(target=handshakes)
        thread.start()
        refused, ends, number = 0, time.monotonic() + SECONDS, 0
        while time.monotonic() < ends:
            number += 1
            certificate, key = pairs[number % 3]
            # Every second time the files are half written at the moment of the reload, or do not belong together.
            if number % 2:
                key = random.choice([key[: len(key) // 2], pairs[(number + 1) % 3][1]])
            (self.directory / "cert.pem").write_bytes(certificate)
            (self.directory / "key.pem").write_bytes(key)
            status, _ = relay.reload()
            refused += status == 422
            self.assertEqual(status == 422, bool(number % 2))
            time.sleep(0.2)
        stop.set()
        thread.join()
        print(f"{number} changes, {refused} of them refused: {shaken[0]} handshakes ... ", end="", flush=True)
        self.assertEqual(broken, [])
        self.assertGreater(shaken[0], 20)

    def test_a_configuration_that_is_wrong_changes_nothing(self):
        relay, before = self.relay, None
        samples = [relay.text("one", 'delivery = "hand-off"')]
        samples += [file.read_text() for file in sorted((ROOT / "config").glob("*.toml")) if file.name != "reference.toml"]
        refused = tried = 0
        random.seed(2020)
        while refused < REFUSED:
            tried += 1
            self.assertLess(tried, REFUSED * 20)
            lines = random.choice(samples).splitlines()
            place = random.randrange(len(lines))
            line = lines[place]
            if line.strip().startswith("#"):
                continue
            lines[place] = random.choice([
                line[: random.randrange(len(line) + 1)], line + "x", line.replace("=", " ", 1), line.replace('"', "", 1),
                re.sub(r"\w", "7", line, count=3), "", "\x01", line.upper(), f"{line}\n{line}",
            ])
            text = "\n".join(lines)
            relay.write(text)
            status, report = relay.reload("?dry_run=true")
            if status == 200:
                continue
            self.assertEqual(status, 422)
            status, report = relay.reload()
            self.assertEqual(status, 422, text)
            problem = report["problems"][0]
            self.assertTrue(problem["message"] and problem["place"], (problem, text))
            before = before or report["digest"]
            self.assertEqual(report["digest"], before)
            refused += 1
        print(f"{refused} refused of {tried} ... ", end="", flush=True)
        self.assertEqual(relay.metric("gatepost_config_last_reload_successful"), 0)
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=PATIENCE_SECONDS) as client:
            client.sendmail("one@example.com", ["bob@elsewhere.example"], "From: one@example.com\r\n\r\nx\r\n")
        relay.write(relay.text("two"))
        status, report = relay.reload()
        self.assertEqual((status, report["changes"]), (200, ['policy.from changes from ["one@example.com"] to ["two@example.com"]']))
        self.assertEqual(relay.metric("gatepost_config_last_reload_successful"), 1)

    def test_a_watched_file_is_read_when_it_has_changed_and_a_half_written_one_is_not(self):
        relay = self.relay
        # As Kubernetes mounts it: a link to a directory that is replaced.
        for name in ("one", "two"):
            (self.directory / name).mkdir()
            (self.directory / name / "gatepost.toml").write_text('reload = "watch"\n' + relay.text(name))
        (self.directory / "data").symlink_to("one")
        relay.config.unlink()
        relay.config.symlink_to("data/gatepost.toml")
        self.assertEqual(relay.reload()[0], 200)
        new = self.directory / "data.new"
        new.symlink_to("two")
        new.rename(self.directory / "data")
        self.until(lambda: 'reloaded: policy.from changes' in relay.directory.joinpath("log").read_text())
        whole = (self.directory / "two/gatepost.toml").read_text().replace("two@", "three@")
        with open(self.directory / "two/gatepost.toml", "w") as file:
            # Longer than one look, and shorter than two.
            for part in range(0, len(whole), len(whole) // 8 + 1):
                file.write(whole[part : part + len(whole) // 8 + 1])
                file.flush()
                time.sleep(0.4)
        self.until(lambda: "three@" in relay.directory.joinpath("log").read_text())
        # A bad file, and the good one again.
        (self.directory / "two/gatepost.toml").write_text(whole.replace("[policy]", "[polcy]"))
        self.until(lambda: relay.metric("gatepost_config_last_reload_successful") == 0)
        (self.directory / "two/gatepost.toml").write_text(whole)
        self.until(lambda: relay.metric("gatepost_config_last_reload_successful") == 1)
        self.assertEqual(relay.metric("gatepost_config_last_reload_successful"), 1)

    def until(self, holds):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.assertLess(time.monotonic(), deadline, (self.directory / "log").read_text()[-3000:])
            time.sleep(0.1)

    def test_a_change_that_needs_a_restart_is_refused_with_the_key(self):
        relay = self.relay
        relay.write('log.level = "debug"\n' + relay.text("two"))
        status, report = relay.reload()
        self.assertEqual(status, 422)
        self.assertIn("a change of log needs a restart", report["problems"][0]["message"])
        done = subprocess.run([BINARY, "reload", "--config", relay.config], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (78, ""))
        self.assertIn("a change of log needs a restart", done.stderr)
        relay.write(relay.text("two"))
        for command in (["reload", "--dry-run"], ["check", "--against-running"]):
            done = subprocess.run([BINARY, *command, "--config", relay.config], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('policy.from changes from ["one@example.com"] to ["two@example.com"]', done.stdout)
        done = subprocess.run([BINARY, "reload", "--config", relay.config], capture_output=True, text=True)
        self.assertIn("reloaded: 1 change(s)", done.stdout)


if __name__ == "__main__":
    unittest.main()
