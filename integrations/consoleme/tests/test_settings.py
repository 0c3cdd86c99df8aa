import pathlib

import pytest
import yaml

from consoleme_smtp import settings as module
from consoleme_smtp.settings import SettingsError, read_settings

SAMPLE = pathlib.Path(module.__file__).with_name("sample.yaml")
LOOPBACK = {"host": "127.0.0.1", "tls": "none"}
REMOTE = {"host": "relay.internal"}
LOGIN = {"username": "consoleme", "password": "hunter2"}


def test_a_host_is_enough_and_then_it_is_starttls():
    settings = read_settings({"host": "relay.internal"})
    assert (settings.port, settings.tls, settings.timeout_seconds) == (587, "starttls", 25)
    assert settings.username is None and not settings.send_source_arn
    context = settings.tls_context()
    assert context.check_hostname and context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


def test_the_sample_says_the_defaults_and_all_keys():
    text = SAMPLE.read_text()
    assert read_settings(yaml.safe_load(text)["smtp"]) == read_settings(REMOTE)
    everything = text.replace("  # ca_file", "  ca_file").replace("  # username", "  username").replace("  # password", "  password")
    with pytest.raises(SettingsError) as error:
        read_settings(yaml.safe_load(everything)["smtp"])
    assert str(error.value).endswith("smtp: ca_file cannot be read: [Errno 2] No such file or directory")  # The only error.


@pytest.mark.parametrize("tls, port", [("starttls", 587), ("implicit", 465), ("none", 25)])
def test_each_kind_of_tls_has_its_usual_port(tls, port):
    assert read_settings({"host": "relay.internal", "tls": tls}).port == port


@pytest.mark.parametrize(
    "block, problem",
    [
        (None, "the block is missing, or has no keys"),
        ("relay.internal", "the block is missing, or has no keys"),
        ({}, "host is missing"),
        ({"host": ""}, "host must be a host name or an address"),
        ({"host": "relay.internal:25"}, "host must be a host name or an address"),
        ({"host": "[::1]"}, "host must be a host name or an address"),
        ({"host": "a b"}, "host must be a host name or an address"),
        ({"host": 5}, "host must be a host name or an address"),
        ({**REMOTE, "prot": 25}, "prot is not a known key; the keys are host, tls, port"),
        ({**REMOTE, "port": 0}, "port must be a whole number from 1 to 65535"),
        ({**REMOTE, "port": 65536}, "port must be"),
        ({**REMOTE, "port": "25"}, "port must be"),
        ({**REMOTE, "port": True}, "port must be"),
        ({**REMOTE, "tls": "ssl"}, "tls must be starttls, implicit or none"),
        ({**REMOTE, "tls": True, "starttls": True}, "tls must be starttls, implicit or none; starttls is not a known key"),
        ({**REMOTE, "tls": ["implicit"]}, "tls must be starttls, implicit or none"),
        ({**REMOTE, "verify": False}, "verify is not a known key"),
        ({**REMOTE, "username": "consoleme"}, "username and password must be set together"),
        ({**REMOTE, "password": "hunter2"}, "username and password must be set together"),
        ({**REMOTE, "username": "consoleme", "password": None}, "password must be text"),
        ({**REMOTE, "username": "consoleme", "password": 4711}, "password must be text in printable ASCII, in quotes"),
        ({**REMOTE, "username": "consoleme", "password": "hünter2"}, "password must be text in printable ASCII"),
        ({**REMOTE, "tls": "none", **LOGIN}, "without TLS, the password can be read on the network"),
        ({"host": "127.0.0.1.example", "tls": "none", **LOGIN}, "without TLS, the password can be read"),
        ({**REMOTE, "auth_in_clear": "yes"}, "auth_in_clear must be true or false"),
        ({**LOOPBACK, "ca_file": "/ca.pem"}, "ca_file has no effect without tls"),
        ({**REMOTE, "ca_file": "/no/such/file"}, "ca_file cannot be read"),
        ({**REMOTE, "ca_file": __file__}, "ca_file cannot be read"),
        ({**REMOTE, "timeout_seconds": 0}, "timeout_seconds must be a number from 1 to 60"),
        ({**REMOTE, "timeout_seconds": float("nan")}, "timeout_seconds must be"),
        ({**REMOTE, "timeout_seconds": "25"}, "timeout_seconds must be"),
        ({**REMOTE, "send_source_arn": 1}, "send_source_arn must be true or false"),
    ],
)
def test_says_what_is_wrong(block, problem):
    with pytest.raises(SettingsError) as error:
        read_settings(block)
    assert f"smtp: {problem}" in str(error.value)


def test_says_everything_that_is_wrong_at_once():
    with pytest.raises(SettingsError) as error:
        read_settings({"port": 0, "tls": "ssl", "prot": 1})
    assert all(word in str(error.value) for word in ("host is missing", "port must", "tls must", "prot is not a known key"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_a_password_may_stay_on_this_machine_in_clear(host):
    assert read_settings({"host": host, "tls": "none", **LOGIN}).password == "hunter2"


def test_a_password_may_cross_a_network_in_clear_when_said_so():
    assert read_settings({**REMOTE, "tls": "none", "auth_in_clear": True, **LOGIN}).password == "hunter2"


@pytest.mark.parametrize(
    "block",
    [
        {**REMOTE, "tls": "none", **LOGIN},
        {**REMOTE, "password": "hunter2"},
        {**REMOTE, "port": "hunter2"},
        {**REMOTE, "tls": "hunter2"},
        {"host": "hunter2 hunter2"},
    ],
)
def test_no_error_shows_a_value(block):
    with pytest.raises(SettingsError) as error:
        read_settings(block)
    assert "hunter2" not in str(error.value) + repr(error.value)


def test_the_password_is_not_in_the_representation():
    assert "hunter2" not in repr(read_settings({**REMOTE, **LOGIN}))
