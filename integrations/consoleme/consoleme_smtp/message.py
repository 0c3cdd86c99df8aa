"""Converts the parameters of SES's SendEmail into an envelope and a message.

Composes the same message as SES: the same text and HTML parts, the sender, every recipient in To. Two errors are corrected
for which SES rejects the whole message: None among the recipients (a request without an application_admin), and a recipient
that is not an address (a login provider's user name). Lines are shorter than 998 bytes, and the message is ASCII only.
"""

import re
from email import charset, policy
from email.errors import ObsoleteHeaderDefect
from email.header import Header
from email.headerregistry import Address
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, make_msgid
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple


class MessageError(Exception):
    """No message can be composed from these parameters."""


class Mail(NamedTuple):
    reverse_path: str
    forward_paths: List[str]
    content: bytes
    #: Recipients that are not an address, with the reason.
    unusable: Dict[str, str]


def without_gaps(recipients: Iterable[Any]) -> List[Any]:
    """Removes None, empty values and duplicates. botocore rejects None before later hooks run."""
    return list(dict.fromkeys(recipient for recipient in recipients if recipient))


def compose(parameters: Mapping[str, Any], send_source_arn: bool) -> Mail:
    destination = parameters["Destination"]
    # ConsoleMe uses no other parameter. To ignore a Bcc or a configuration set would be worse than an error.
    strange = (set(parameters) - {"Source", "SourceArn", "Destination", "Message"}) | (set(destination) - {"ToAddresses"})
    if strange:
        raise MessageError(f"SendEmail with {', '.join(sorted(strange))} is not supported over SMTP")

    author = _mailbox(parameters["Source"])
    mailboxes: Dict[str, Address] = {}
    unusable: Dict[str, str] = {}
    for recipient in without_gaps(destination.get("ToAddresses", [])):
        try:
            mailbox = _mailbox(recipient)
            mailboxes.setdefault(f"{mailbox.username}@{mailbox.domain.lower()}", mailbox)
        except MessageError as error:
            unusable[recipient] = str(error)
    if not mailboxes:
        raise MessageError(f"no recipients; unusable: {unusable}" if unusable else "no recipients")

    message = MIMEMultipart("alternative")
    message["From"] = _field(author)
    message["To"] = ", ".join(map(_field, mailboxes.values()))
    message["Subject"] = _subject(parameters["Message"]["Subject"]["Data"])
    message["Date"] = formatdate()
    # With a domain, because make_msgid would otherwise query the DNS for our own, without a timeout.
    message["Message-ID"] = make_msgid(domain=author.domain)
    if send_source_arn:
        message["X-SES-SOURCE-ARN"] = _one_line(parameters["SourceArn"])
    body = parameters["Message"]["Body"]
    for name, subtype in (("Text", "plain"), ("Html", "html")):
        if name in body:
            message.attach(MIMEText(body[name]["Data"], subtype, _QUOTED_PRINTABLE))  # type: ignore[arg-type]
    content = message.as_bytes(policy=_WIRE)
    return Mail(author.addr_spec, [mailbox.addr_spec for mailbox in mailboxes.values()], content, unusable)


def _mailbox(text: str) -> Address:
    """One address with an optional display name, which may be non-ASCII or encoded words."""
    try:
        field: Any = policy.SMTP.header_factory("To", text)
        mailbox: Address
        (mailbox,) = field.addresses
        # Obsolete, but common: a period in a display name.
        strange = [defect for defect in field.defects if not isinstance(defect, ObsoleteHeaderDefect)]
    except Exception as error:
        # The parser of old Python versions raises exceptions on some invalid input.
        raise MessageError(f"{text!r} is not an address") from error
    if strange or not (mailbox.username and mailbox.domain):
        raise MessageError(f"{text!r} is not an address")
    if not mailbox.addr_spec.isascii():
        raise MessageError(f"{text!r} is not ASCII; write the domain in Punycode (xn--)")
    if not (mailbox.addr_spec + mailbox.display_name).isprintable():
        raise MessageError(f"{text!r} has control characters")
    return mailbox


def _field(mailbox: Address) -> str:
    if mailbox.display_name.isascii():
        return formataddr((mailbox.display_name, mailbox.addr_spec))
    # formataddr would create a single encoded word of any length.
    return f"{Header(mailbox.display_name, 'utf-8').encode()} <{mailbox.addr_spec}>"


def _subject(text: str) -> str:
    text = _one_line(text)
    # A long word without a space can only be folded after encoding.
    return Header(text, "utf-8" if len(text) > 900 else None, header_name="Subject").encode()


def _one_line(text: str) -> str:
    """Replaces control characters: with a line end, the name of an IAM role could add a header field."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


_QUOTED_PRINTABLE = charset.Charset("utf-8")
_QUOTED_PRINTABLE.body_encoding = charset.QP

# Not the newer EmailMessage: in old Python versions its folding breaks some names.
_WIRE = policy.compat32.clone(linesep="\r\n")
