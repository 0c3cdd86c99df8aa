"""A running gatepost for the tests in this directory: configuration, process, messages at the SES emulator."""

import base64
import http.client
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

BINARY = os.environ["INTEROP_BINARY"]
WORK = pathlib.Path(os.environ["INTEROP_WORK"])
PATIENCE_SECONDS = 60
# Those of the emulator.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_EC2_METADATA_DISABLED": "true",
}


# Below the ephemeral ports of the system, so that no client takes the port between this check and its use.
PORTS = itertools.cycle(range(16_000, 32_000))
for _ in range(random.randrange(16_000)):
    next(PORTS)


def free_port():
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_for_port(port, process):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


class Gatepost:
    """`gatepost run` with its own ports, a certificate for localhost and the configuration that `config` returns."""

    def __init__(self, ports, config, environment=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="relay-"))
        subprocess.run([BINARY, "gen-cert", "--directory", self.directory], check=True, stdout=subprocess.DEVNULL)
        self.authority = self.directory / "ca.pem"
        self.ports = {name: free_port() for name in ports}
        (self.directory / "gatepost.toml").write_text(config(self))
        self.log = open(self.directory / "log", "w")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = {**inherited, "AWS_EC2_METADATA_DISABLED": "true", **(environment or {})}
        self.process = subprocess.Popen(
            [BINARY, "run", "--config", self.directory / "gatepost.toml"], stderr=self.log, env=self.environment
        )
        try:
            wait_for_port(self.ports[ports[0]], self.process)
        except RuntimeError as error:
            self.log.close()
            raise RuntimeError(f"{error}: {(self.directory / 'log').read_text()}") from error

    def certificate(self):
        return f'certificate = {{ file = "{self.directory}/cert.pem" }}\nkey = {{ file = "{self.directory}/key.pem" }}\n'

    def stop(self):
        """Stops the relay and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self.log.close()
        if code == 0:
            shutil.rmtree(self.directory)
        return code

    def script(self, faults):
        """Sets the errors that the emulator returns for the next calls."""
        if faults:
            base = f"http://127.0.0.1:{self.ports['emulator']}"
            urllib.request.urlopen(f"{base}/faults", json.dumps(faults).encode()).close()

    def messages(self):
        """The messages that the emulator accepted since the last call."""
        base = f"http://127.0.0.1:{self.ports['emulator']}"
        with urllib.request.urlopen(f"{base}/messages") as answer:
            messages = [json.loads(line) for line in answer.read().splitlines()]
        urllib.request.urlopen(urllib.request.Request(f"{base}/messages", method="DELETE")).close()
        for message in messages:
            message["raw"] = base64.b64decode(message["raw_b64"])
        return messages


class Relay(Gatepost):
    """A configuration with a plain, a STARTTLS and an implicit TLS listener, each with optional AUTH, and one that normalizes line
    ends."""

    LISTENERS = {"plain": "none", "starttls": "starttls", "implicit": "implicit"}

    def __init__(self, ses, aws=None):
        super().__init__([*self.LISTENERS, "normalizing", "emulator"], lambda relay: relay.config(ses), aws)

    def config(self, ses):
        listeners = "".join(
            f"""
[[listener]]
name = "{name}"
address = "127.0.0.1:{self.ports[name]}"
tls = "{tls}"
auth = "optional"
auth_in_clear = true
"""
            + ("" if tls == "none" else self.certificate())
            for name, tls in self.LISTENERS.items()
        )
        return f"""
hostname = "relay.example"
{listeners}
[[listener]]
name = "normalizing"
address = "127.0.0.1:{self.ports['normalizing']}"
line_endings = "normalize"

[auth]
users.app = "{hashed('secret')}"

[policy]
from = ["*@example.com"]

[log]
format = "json"
{ses(self)}
"""


def hashed(password):
    done = subprocess.run([BINARY, "hash-password"], input=f"{password}\n", text=True, check=True, capture_output=True)
    return done.stdout.strip()


def emulator(relay):
    return f"""
[ses]
emulator = true

[ses_emulator]
listen = "127.0.0.1:{relay.ports['emulator']}"
"""


def without_trace(raw):
    """The message without the Received field that gatepost added."""
    assert raw.startswith(b"Received: from unknown\r\n\tby relay.example with "), raw[:200]
    return raw.split(b"\r\n", 3)[3]


class OverUnix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_SECONDS)
        self.sock.connect(str(self.path))
