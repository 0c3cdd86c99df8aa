"""The operator's guide: its samples and commands, unchanged except for directories, addresses and the way a command is run in
a container. Each ConsoleMe here is a separate process that reads the YAML of the guide."""

import contextlib
import email
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import relay_process
import pytest
from conftest import HERE, OFFLINE, PACKAGE, ROOT

GUIDE = (PACKAGE / "README.md").read_text()
SAMPLE = ROOT / "config" / "examples" / "consoleme.toml"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def block(language, start):
    (text,) = [text for text in blocks(language) if text.startswith(start)]
    return text


@pytest.fixture(scope="module")
def host():
    """A machine after the guide's steps 1 to 3; /etc is a temporary directory."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=relay_process.WORK, prefix="guide-"))
    for name in ("gatepost", "consoleme"):
        (directory / name).mkdir()
    (directory / "gatepost" / "gatepost.toml").write_text(SAMPLE.read_text().replace("/etc/", f"{directory}/"))
    host = Host(directory)
    host.prepared = host.shell(block("sh", "gatepost gen-cert"))
    assert host.prepared.returncode == 0, host.prepared
    consoleme = block("yaml", "ses:")
    # In addition to the guide's lines: no AWS call at the start, and no DynamoDB.
    offline = "environment: test\nconfig: {load_from_dynamo: false}\n"
    (directory / "consoleme" / "consoleme.yaml").write_text(offline + consoleme.replace("/etc/", f"{directory}/"))
    assert host.shell(block("sh", "install")).returncode == 0
    return host


class Host:
    def __init__(self, directory):
        self.directory = directory
        self.listen_elsewhere()

    def listen_elsewhere(self):
        self.port, self.emulator_port = relay_process.free_port(), relay_process.free_port()
        self.log = self.directory / f"gatepost-{self.port}.log"

    def overrides(self, **more):
        """Overrides that adapt the file to a machine without Docker and AWS."""
        return {
            "GATEPOST_LISTENER__0__ADDRESS": f"127.0.0.1:{self.port}",
            "GATEPOST_APP__0__NETWORKS": '["127.0.0.0/8"]',
            "GATEPOST_LIMITS__STATE_DIRECTORY": str(self.directory / f"state-{self.port}"),
            "GATEPOST_SES__EMULATOR": "true",
            "GATEPOST_SES_EMULATOR__LISTEN": f"127.0.0.1:{self.emulator_port}",
            **more,
        }

    def shell(self, script, environment=None):
        """Runs a script: `gatepost` is the binary under test, and `docker exec` runs the command on this machine."""
        inside = f"env PYTHONPATH={HERE / 'container'}:{os.environ.get('PYTHONPATH', '')} {' '.join(self.container())} "
        script = re.sub(r"^gatepost ", f"{relay_process.BINARY} ", script.replace("/etc/", f"{self.directory}/"), flags=re.MULTILINE)
        script = script.replace("docker exec consoleme python", inside + sys.executable)
        script = script.replace("docker logs consoleme", f"cat {self.directory}/consoleme.log")
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env={**os.environ, **OFFLINE, **(environment or {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=relay_process.PATIENCE_SECONDS,
        )

    def container(self):
        """The variables of the guide's image and `docker run`."""
        run = block("sh", "docker run").replace("/etc/", f"{self.directory}/")
        image = re.findall(r"^ENV (\S+)$", block("dockerfile", "FROM"), re.MULTILINE)
        return [f"RELAY_PORT={self.port}", *image, *re.findall(r"--env (\S+)", run)]

    @contextlib.contextmanager
    def relay(self, **overrides):
        before = self.port, self.emulator_port, self.log
        self.listen_elsewhere()
        log = open(self.log, "w")
        environment = {**os.environ, **self.overrides(**overrides)}
        process = subprocess.Popen(
            [relay_process.BINARY, "run", "--config", self.directory / "gatepost" / "gatepost.toml"], stderr=log, env=environment
        )
        try:
            relay_process.wait_for_port(self.port, process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=relay_process.PATIENCE_SECONDS) == 0
            log.close()
            self.port, self.emulator_port, self.log = before

    def messages(self):
        holder = type("Relay", (), {"ports": {"emulator": self.emulator_port}})
        return relay_process.Relay.messages(holder)

    def mail(self, times=1, to="you@example.com", sender=None):
        """Sends the guide's test message; returns the lines of ConsoleMe's log that the guide's `docker logs … | grep` shows."""
        script = block("sh", "docker exec").replace("you@example.com", to)
        script = script.replace("asyncio.run(", "[asyncio.run(").replace('works."))', f'works.")) for _ in range({times})]')
        if sender:
            script = script.replace("; [", f'; ses.config.CONFIG.config["ses"]["consoleme"]["sender"] = "{sender}"; [')
        sent = self.shell(script)
        assert sent.returncode == 0, sent
        (self.directory / "consoleme.log").write_text(sent.stdout)
        found = self.shell(block("sh", "docker logs"))
        return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.fixture(scope="module")
def relay(host):
    with host.relay(GATEPOST_LIMIT__0__RATES='["5/s burst 2"]', GATEPOST_APP__0__REQUESTED_FIELDS='["identity-arn"]'):
        yield


def test_the_blocks_are_these():
    starts = ["gatepost policy", "gatepost gen-cert", "install", "docker run", "docker exec", "docker logs"]
    assert [text.startswith(start) for text, start in zip(blocks("sh"), starts)] == [True] * len(blocks("sh"))
    assert [len(blocks(language)) for language in ("sh", "json", "yaml", "dockerfile", "text")] == [6, 1, 1, 1, 1]


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert (PACKAGE / link).exists(), link


def test_the_configuration_is_checked_and_explained(host):
    assert "gatepost.toml: good" in host.prepared.stdout
    assert "app          consoleme: AUTH name consoleme, network 172.17.0.0/16 as consoleme@example.com" in host.prepared.stdout
    assert "accepted: 250 2.0.0 Ok" in host.prepared.stdout
    explain = next(line for line in block("sh", "gatepost gen-cert").splitlines() if "explain" in line)
    assert host.shell(explain.replace("<consoleme@", "<ceo@")).returncode == 77
    assert host.shell(explain.replace("ann@example.com", "ann@example.org")).returncode == 77


def test_the_policy_is_the_one_that_is_generated(host):
    generated = host.shell(block("sh", "gatepost policy").strip() + " --json")
    assert generated.returncode == 0, generated
    documents = {document["file"]: json.loads(document["policy"]) for document in json.loads(generated.stdout)["documents"]}
    assert documents["role-policy.json"] == json.loads(block("json", "{"))
    assert json.loads(generated.stdout)["findings"] == []


def test_a_first_mail(host, relay):
    (entry,) = host.mail()
    (sent,) = host.messages()
    assert entry["message"] == "Email sent successfully" and entry["levelname"] == "DEBUG"
    assert entry["response"].split()[-1] == sent["message_id"]
    assert f'ses_message_id={sent["message_id"]}' in host.log.read_text()
    assert sent["to"] == ["you@example.com"] and sent["email_tags"] == [{"Name": "app", "Value": "consoleme"}]
    message = email.message_from_bytes(sent["raw"])
    assert (message["From"], message["Subject"]) == ("ConsoleMe <consoleme@example.com>", "Test")


def test_a_storm_over_the_limit_waits_and_loses_nothing(host, relay):
    entries = host.mail(times=6)
    assert [entry["message"] for entry in entries] == ["Email sent successfully"] * 6
    assert len(host.messages()) == 6


@pytest.mark.parametrize(
    "named, ending",
    [
        ({"sender": "ConsoleMe <ceo@example.com>"}, "MAIL: 550 5.7.1 Envelope sender not permitted"),
        ({"to": "you@example.org"}, "RCPT: you@example.org: 550 5.7.1 Recipient not permitted"),
    ],
)
def test_the_log_tells_why_and_the_relay_tells_more(host, relay, named, ending):
    (entry,) = host.mail(**named)
    assert entry["message"] == "Exception sending email"
    last = entry["exc_info"].splitlines()[-1]
    assert last.startswith(f"consoleme_smtp.delivery.NotDelivered: {ending} (ref ")
    reference = re.search(r"\(ref (\S+)\)", last).group(1)
    lines = [line for line in host.log.read_text().splitlines() if f"transaction={reference} " in line]
    (line,) = [line for line in lines if "command refused" in line]
    assert "matches no allowed pattern" in line
    assert host.messages() == []


def test_a_container_of_another_network_may_not_send(host):
    """With the network of the file, which does not contain this machine."""
    with host.relay(GATEPOST_APP__0__NETWORKS='["172.17.0.0/16"]'):
        (entry,) = host.mail()
        assert "MAIL: 550 5.7.1 Sending is not permitted for this client" in entry["exc_info"]
        assert host.messages() == []


def test_the_brake(host):
    with host.relay(GATEPOST_LIMIT__1__RATES='["2/day"]'):
        entries = host.mail(times=3)
        assert [entry["message"] for entry in entries] == ["Email sent successfully"] * 2 + ["Exception sending email"]
        assert "RCPT: you@example.com: 550 5.7.1 Rate limit exceeded" in entries[2]["exc_info"]
        assert len(host.messages()) == 2


def test_the_source_arn_is_heeded_where_the_relay_says_so(host, relay):
    yaml = host.directory / "consoleme" / "consoleme.yaml"
    before = yaml.read_text()
    arn = "arn:aws:ses:us-east-1:111122223333:identity/example.com"
    yaml.write_text(before.replace("arn: unused", f"arn: {arn}").replace("smtp:\n", "smtp:\n  send_source_arn: true\n"))
    try:
        host.mail()
    finally:
        yaml.write_text(before)
    (sent,) = host.messages()
    assert sent["parameters"]["FromEmailAddressIdentityArn"] == arn
    assert b"x-ses" not in sent["raw"].lower()


def test_a_certificate_for_another_name(host, relay):
    yaml = host.directory / "consoleme" / "consoleme.yaml"
    before = yaml.read_text()
    yaml.write_text(before.replace("host: relay.internal", "host: 127.0.0.1").replace("port: 2587", f"port: {host.port}"))
    try:
        (entry,) = host.mail()
    finally:
        yaml.write_text(before)
    assert "SSLCertVerificationError" in entry["exc_info"] and "IP address mismatch" in entry["exc_info"]
    assert host.messages() == []


# How ConsoleMe starts with a wrong block.


@pytest.fixture
def started(host, monkeypatch):
    def start(smtp, more=""):
        yaml = f"environment: test\nconfig: {{load_from_dynamo: false}}\n{more}\n"
        (host.directory / "consoleme" / "start.yaml").write_text(yaml + (f"smtp: {smtp}\n" if smtp else ""))
        with monkeypatch.context() as patch:
            patch.setattr(Host, "container", lambda self: [name.replace("consoleme.yaml", "start.yaml") for name in container(self)])
            return host.shell("docker exec consoleme python -c 'import consoleme.config.config; print(\"started\")'")

    container = Host.container
    return start


def test_a_good_block_starts(started):
    assert started("{host: relay.internal, username: consoleme, password: hunter2}").stdout == "started\n"


@pytest.mark.parametrize(
    "smtp, problem",
    [
        ("", "smtp: the block is missing, or has no keys"),
        ("{host: relay.internal, tls: none, username: consoleme, password: hunter2}", "smtp: without TLS, the password can be read"),
        ("{host: relay.internal, port: 0, passwrd: hunter2}", "smtp: port must be a whole number from 1 to 65535; passwrd is not a known key"),
    ],
)
def test_a_wrong_block_stops_the_start(started, smtp, problem):
    ended = started(smtp)
    assert ended.returncode != 0 and ended.stdout == ""
    assert problem in ended.stderr.splitlines()[-1]
    assert "hunter2" not in ended.stderr


def test_a_block_that_others_complete_starts(started):
    assert started("{username: consoleme}", "extends: [other.yaml]").stdout.endswith("started\n")

