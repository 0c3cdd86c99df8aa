"""The admin endpoint and the files in deploy/, checked by the programs that use them in production."""

import os
import pathlib
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from relay_process import BINARY, PATIENCE_SECONDS, WORK, Relay, emulator, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTENT = "From: ann@example.com\r\nSubject: x\r\n\r\nx\r\n"


class Admin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        section = f'\n[admin]\naddress = "127.0.0.1:{cls.port}"\n[[limit]]\nby = "app"\nrates = ["100/s"]\n'
        cls.relay = Relay(lambda relay: emulator(relay) + section)

    @classmethod
    def tearDownClass(cls):
        cls.relay.stop()

    def get(self, path, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.read().decode()

    def test_promtool_finds_nothing_to_say_about_the_metrics(self):
        with smtplib.SMTP("127.0.0.1", self.relay.ports["plain"]) as client:
            client.sendmail("ann@example.com", ["bob@elsewhere.example"], CONTENT)
            self.assertEqual(client.mail("ceo@other.example")[0], 550)
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            with smtplib.SMTP("127.0.0.1", self.relay.ports["plain"]) as client:
                client.login("app", "wrong")
        metrics = self.get("/metrics")
        self.assertIn('gatepost_smtp_transactions_total{outcome="accepted",code="250",app="default"} ', metrics)
        self.assertIn('gatepost_limit_remaining{limit="limit-1",window="100/s burst 100",app="default"} ', metrics)
        checked = subprocess.run(
            [os.environ["INTEROP_PROMTOOL"], "check", "metrics"], input=metrics, text=True, capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_every_metric_is_in_the_chapter(self):
        # A limit has samples after its application has sent a message.
        with smtplib.SMTP("127.0.0.1", self.relay.ports["plain"]) as client:
            client.sendmail("ann@example.com", ["bob@elsewhere.example"], CONTENT)
        names = set(re.findall(r"^# TYPE (\S+) ", self.get("/metrics"), re.MULTILINE))
        chapter = (ROOT / "src/manual/operating.md").read_text()
        said = set(re.findall(r"`((?:gatepost|process)_[a-z0-9_]+)", chapter))
        self.assertEqual(names - said, set(), "not in the chapter")

    def test_sighup_reads_certificates_again_and_drops_nobody(self):
        directory, port = self.relay.directory, self.relay.ports["implicit"]

        def connect():
            trusts = ssl.create_default_context(cafile=self.relay.authority)
            return smtplib.SMTP_SSL("localhost", port, context=trusts, timeout=PATIENCE_SECONDS)

        session = connect()
        subprocess.run([BINARY, "gen-cert", "--directory", directory, "--force"], check=True, stdout=subprocess.DEVNULL)
        with self.assertRaises(ssl.SSLError):
            connect()
        self.relay.process.send_signal(signal.SIGHUP)
        self.wait_for_log("the configuration is reloaded")
        connect().quit()
        self.assertEqual(session.noop()[0], 250)
        # Certificate and key do not match: the previous pair stays in use.
        good = (directory / "key.pem").read_bytes()
        (directory / "key.pem").write_bytes(good[: len(good) // 2])
        self.relay.process.send_signal(signal.SIGHUP)
        self.wait_for_log("the configuration is not reloaded")
        (directory / "key.pem").write_bytes(good)
        connect().quit()
        session.quit()

    def wait_for_log(self, text):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in (self.relay.directory / "log").read_text():
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(0.05)

    def test_the_unit_is_one_that_systemd_understands(self):
        directory = self.relay.directory / "unit"
        directory.mkdir()
        unit = (ROOT / "deploy/gatepost.service").read_text().replace("/usr/local/bin/gatepost", BINARY)
        (directory / "gatepost.service").write_text(unit)
        environment = {**os.environ, "LD_LIBRARY_PATH": os.environ.get("INTEROP_SYSTEMD_LIBRARIES", "")}
        analyze = os.environ["INTEROP_SYSTEMD_ANALYZE"]
        verified = subprocess.run(
            [analyze, "verify", "--man=no", directory / "gatepost.service"], capture_output=True, text=True, env=environment,
            timeout=PATIENCE_SECONDS,
        )
        complaints = [line for line in (verified.stdout + verified.stderr).splitlines() if "gatepost" in line]
        self.assertEqual(complaints, [])
        scored = subprocess.run(
            [analyze, "security", "--offline=true", "--threshold=25", directory / "gatepost.service"], capture_output=True,
            text=True, env=environment, timeout=PATIENCE_SECONDS,
        )
        self.assertEqual(scored.returncode, 0, scored.stdout[-300:] + scored.stderr)

    def test_the_image_runs_as_nobody_and_writes_nowhere_else(self):
        lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
        words = [line.split() for line in lines if line and not line.startswith(("#", " "))]
        self.assertIn(["USER", "65532:65532"], words)
        self.assertIn(["STOPSIGNAL", "SIGTERM"], words)
        # The promises of the Dockerfile's comments, without Docker: another user, and a read-only root.
        directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="image-"))
        shutil.copy(BINARY, directory / "gatepost")
        for name in ("state", "tmp"):
            (directory / name).mkdir()
        directory.chmod(0o755)
        config = "[[listener]]\naddress = '127.0.0.1:0'\n[policy]\nfrom = ['*@example.com']\n[ses]\nemulator = true\n" \
            "[[limit]]\nby = 'relay'\nrates = ['5/day']\n"
        (directory / "gatepost.toml").write_text(config)
        script = (
            # Not on /tmp itself: the working directory may be below it.
            f"mount -o remount,ro,bind / && mount -t tmpfs -o mode=1777 tmpfs {directory}/tmp && "
            f"mount -t tmpfs -o mode=0777 tmpfs {directory}/state && "
            f"exec setpriv --reuid 65532 --regid 65532 --clear-groups timeout -s TERM 3 "
            f"env TMPDIR={directory}/tmp STATE_DIRECTORY={directory}/state {directory}/gatepost run --config {directory}/gatepost.toml"
        )
        if os.geteuid() != 0:
            self.skipTest("only root may make a root that cannot be written to")
        for parent in [directory, *directory.parents]:
            if not parent.stat().st_mode & 0o001:
                self.skipTest(f"{parent} is closed to others")
        ran = subprocess.run(
            ["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        self.assertIn("listening on 127.0.0.1:", ran.stderr)
        self.assertIn("stopped", ran.stderr)
        shutil.rmtree(directory)


if __name__ == "__main__":
    unittest.main()
