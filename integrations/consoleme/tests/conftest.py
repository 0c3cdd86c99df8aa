"""Fixtures: the real ConsoleMe in this process, its log and its metrics.

ConsoleMe reads its configuration once, when it is imported. The tests then change the `smtp` and `ses` blocks as a reload
would. Nothing can reach AWS: the keys are invalid, there is no instance metadata, and HTTPS goes to a closed port.
"""

import logging
import os
import pathlib
import sys
import types

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parents[1]

OFFLINE = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "bogus",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_MAX_ATTEMPTS": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    # The emulator and other servers on this machine.
    "NO_PROXY": "127.0.0.1,localhost",
}
CONSOLEME_YAML = """
environment: test
config: {load_from_dynamo: false}
logging: {level: debug}
metrics: {metrics_plugin: recorded_metrics.RecordedMetric}
url: https://consoleme.example.com
groups: {fallback_policy_request_reviewers: [reviewers@example.com]}
ses:
  arn: arn:aws:ses:us-east-1:111122223333:identity/example.com
  region: us-east-1
  consoleme: {sender: ConsoleMe <consoleme@example.com>, name: ConsoleMe}
smtp: {host: 127.0.0.1, port: 1, tls: none}
"""

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(OFFLINE)
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "interop")]


@pytest.fixture(scope="session")
def consoleme(tmp_path_factory):
    location = tmp_path_factory.mktemp("consoleme") / "consoleme.yaml"
    location.write_text(CONSOLEME_YAML)
    os.environ.update(CONFIG_LOCATION=str(location), CONSOLEME_CONFIG_ENTRYPOINT="smtp_config")
    from consoleme.config import config
    from consoleme.lib import ses

    return types.SimpleNamespace(config=config.CONFIG.config, ses=ses, logger=config.get_logger().logger)


class Seen(logging.Handler):
    """ConsoleMe's log and metrics during one test."""

    def __init__(self):
        from recorded_metrics import COUNTS

        super().__init__()
        self.entries = []
        self.counts = COUNTS
        self.counts.clear()
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record):
        self.entries.append((record.levelname, record.msg if isinstance(record.msg, dict) else {}, self.format(record)))

    def error(self):
        """The text of the only error, with its traceback."""
        ((_, _, text),) = [entry for entry in self.entries if entry[0] == "ERROR"]
        return text

    def response(self):
        """The value that ConsoleMe logged as SES's message id."""
        (response,) = [entry["response"] for level, entry, _ in self.entries if level == "DEBUG" and "response" in entry]
        return response


@pytest.fixture
def seen(consoleme):
    handler = Seen()
    consoleme.logger.addHandler(handler)
    # ConsoleMe sets this level unless handlers exist, and pytest's exist.
    consoleme.logger.setLevel(logging.DEBUG)
    yield handler
    consoleme.logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def restored(request):
    """Each test begins with the configuration above."""
    if "consoleme" not in request.fixturenames:
        yield
        return
    config = request.getfixturevalue("consoleme").config
    before = {name: {**config[name]} for name in ("smtp", "ses", "groups")}
    before["ses"]["consoleme"] = {**config["ses"]["consoleme"]}
    yield
    for name in [name for name in config if name in ("application_admin", "development")]:
        del config[name]
    config.update(before)
