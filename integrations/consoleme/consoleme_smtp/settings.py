"""The `smtp:` block of ConsoleMe's YAML.

The block is validated as a whole, so a `Settings` object is always valid. The defaults are secure: STARTTLS unless configured
otherwise, certificates always verified, no password in clear text over a network unless two keys permit it. No error shows a
value, because any value may be a password under the wrong key.
"""

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

PORTS = {"starttls": 587, "implicit": 465, "none": 25}

TIMEOUT_SECONDS_MAX = 60


class SettingsError(Exception):
    """All errors of the block."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("ConsoleMe's configuration, smtp: " + "; ".join(problems))


@dataclass(frozen=True)
class Settings:
    host: str
    port: int
    tls: str
    ca_file: Optional[str]
    username: Optional[str]
    password: Optional[str] = field(repr=False)
    timeout_seconds: float
    send_source_arn: bool

    def tls_context(self) -> ssl.SSLContext:
        """Created for each message, so that a renewed file is used. With ca_file, no other authority is trusted."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def read_settings(block: Any) -> Settings:
    if not isinstance(block, dict):
        raise SettingsError(["the block is missing, or has no keys"])
    problems: List[str] = []
    left: Dict[Any, Any] = dict(block)

    def take(key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        if key not in left:
            return default
        value = left.pop(key)
        if fits(value):
            return value
        problems.append(f"{key} must be {expected}")
        return default

    if "host" not in left:
        problems.append("host is missing")
    host = take("host", "", _is_host, "a host name or an address")
    tls = take("tls", "starttls", lambda value: value in list(PORTS), "starttls, implicit or none")
    port = take("port", PORTS[tls], _is_port, "a whole number from 1 to 65535")
    ca_file = take("ca_file", None, _is_text, "the path of a file")
    username = take("username", None, _is_credential, "text in printable ASCII, in quotes where it looks like a number")
    password = take("password", None, _is_credential, "text in printable ASCII, in quotes where it looks like a number")
    auth_in_clear = take("auth_in_clear", False, _is_flag, "true or false")
    timeout = take("timeout_seconds", 25, _is_timeout, f"a number from 1 to {TIMEOUT_SECONDS_MAX}")
    send_source_arn = take("send_source_arn", False, _is_flag, "true or false")
    known = "host, tls, port, ca_file, username, password, auth_in_clear, timeout_seconds, send_source_arn"
    problems += [f"{key} is not a known key; the keys are {known}" for key in left]

    settings = Settings(host, port, tls, ca_file, username, password, float(timeout), send_source_arn)
    if problems:
        raise SettingsError(problems)
    if (username is None) != (password is None):
        problems.append("username and password must be set together")
    if tls == "none" and password is not None and not (auth_in_clear or _is_loopback(host)):
        problems.append("without TLS, the password can be read on the network: set tls, or auth_in_clear: true")
    if tls == "none" and ca_file is not None:
        problems.append("ca_file has no effect without tls")
    elif tls != "none":
        try:
            settings.tls_context()
        except OSError as error:
            problems.append(f"ca_file cannot be read: {error}")
    if problems:
        raise SettingsError(problems)
    return settings


def _is_host(value: Any) -> bool:
    return _is_text(value) and (re.fullmatch(r"[\w.-]+", value, re.ASCII) is not None or _is_address(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _is_credential(value: Any) -> bool:
    """smtplib supports only ASCII."""
    return _is_text(value) and value.isascii()


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_timeout(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= TIMEOUT_SECONDS_MAX


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"
