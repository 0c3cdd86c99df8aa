"""Sends one message: one connection, one SMTP transaction.

This module issues each command itself instead of smtplib's sendmail, which does not return the reply to the content (it has
the id that is also in the relay's log), nor the refused recipients if at least one was accepted. There is no second attempt:
ConsoleMe has no queue, and a message that may have been sent must not be sent twice.
"""

import re
import smtplib
import socket
from contextlib import contextmanager
from typing import Dict, Iterator, NamedTuple, Tuple

from consoleme_smtp.message import Mail
from consoleme_smtp.settings import Settings

#: Timeout for QUIT, after the outcome is known.
QUIT_SECONDS = 2.0


class Reply(NamedTuple):
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"

    @property
    def reason(self) -> str:
        """Code and enhanced status: few enough values for a metric's tag."""
        status = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)", self.text)
        return f"{self.code} {status.group()}" if status else str(self.code)


class Receipt(NamedTuple):
    reply: Reply
    #: Recipients that the relay refused while it accepted others.
    refused: Dict[str, Reply]


class NotDelivered(Exception):
    """The failed step (`step`) and the cause (`reason`: code and enhanced status of a reply, or the name of an exception)."""

    def __init__(self, step: str, reason: str, text: str) -> None:
        super().__init__(f"{step}: {text}")
        self.step = step
        self.reason = reason


def deliver(settings: Settings, mail: Mail) -> Receipt:
    with _session(settings) as smtp:
        size = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        with _step("MAIL"):
            _expect_ok(smtp.mail(mail.reverse_path, size))
        refused: Dict[str, Reply] = {}
        for forward_path in mail.forward_paths:
            with _step("RCPT"):
                reply = _reply(*smtp.rcpt(forward_path))
            if reply.code not in (250, 251):
                refused[forward_path] = reply
        if len(refused) == len(mail.forward_paths):
            reason = next(iter(refused.values())).reason
            raise NotDelivered("RCPT", reason, ", ".join(f"{path}: {reply}" for path, reply in refused.items()))
        with _step("DATA", "; it may have been sent"):
            return Receipt(_expect_ok(smtp.data(mail.content)), refused)


@contextmanager
def _session(settings: Settings) -> Iterator[smtplib.SMTP]:
    """A session with EHLO, TLS and AUTH as configured. If one of them fails, there is no session."""
    host, port, timeout = settings.host, settings.port, settings.timeout_seconds
    with _step("connect", f" ({host}:{port})"):
        if settings.tls == "implicit":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, _our_name(), timeout=timeout, context=settings.tls_context())
        else:
            smtp = smtplib.SMTP(host, port, _our_name(), timeout=timeout)
    try:
        if settings.tls == "starttls":
            with _step("STARTTLS"):
                # Raises if the relay does not offer STARTTLS: nothing is sent in clear text.
                smtp.starttls(context=settings.tls_context())
        with _step("EHLO"):
            smtp.ehlo_or_helo_if_needed()
        if settings.username is not None and settings.password is not None:
            with _step("AUTH"):
                smtp.login(settings.username, settings.password)
        yield smtp
    finally:
        _leave(smtp)


def _our_name() -> str:
    """The name for EHLO. smtplib would query the DNS without a timeout; in a container there may be no answer."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _leave(smtp: smtplib.SMTP) -> None:
    """Ends the session. Errors of QUIT are ignored: the outcome is known, and an error would report a sent message as unsent."""
    try:
        if smtp.sock is not None:
            smtp.sock.settimeout(QUIT_SECONDS)
            smtp.quit()
    except OSError:
        pass
    finally:
        smtp.close()


@contextmanager
def _step(name: str, note: str = "") -> Iterator[None]:
    """Converts an exception inside into NotDelivered with this step. The note is added to errors that are not SMTP replies."""
    try:
        yield
    except smtplib.SMTPResponseException as error:
        reply = _reply(error.smtp_code, error.smtp_error)
        # The reply has all information; a second traceback would hide it.
        raise NotDelivered(name, reply.reason, str(reply)) from None
    except OSError as error:
        kind = type(error).__name__
        raise NotDelivered(name, kind, f"{kind}: {error}{note}") from error


def _expect_ok(answer: Tuple[int, bytes]) -> Reply:
    code, text = answer
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    return _reply(code, text)


def _reply(code: int, text: object) -> Reply:
    said = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    return Reply(code, " ".join(said.split()))
