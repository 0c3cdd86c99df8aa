import email
import email.policy
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest

from consoleme_smtp.message import MessageError, compose


def parameters(to=("ann@example.com",), source="consoleme@example.com", subject="s", body="b", **more):
    text = {"Charset": "UTF-8", "Data": body}
    return {
        "Source": source,
        "SourceArn": "arn:aws:ses:us-east-1:111122223333:identity/example.com",
        "Destination": {"ToAddresses": list(to)},
        "Message": {"Subject": {"Charset": "UTF-8", "Data": subject}, "Body": {"Text": text, "Html": text}},
        **more,
    }


def composed(*arguments, **named):
    mail = compose(parameters(*arguments, **named), False)
    return mail, email.message_from_bytes(mail.content, policy=email.policy.SMTP)


def test_it_is_what_ses_would_have_composed():
    mail, message = composed(body="<b>Grüße</b>")
    assert (mail.reverse_path, mail.forward_paths) == ("consoleme@example.com", ["ann@example.com"])
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    for part in message.iter_parts():
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
        assert part.get_content_charset() == "utf-8"
        assert part.get_content() == "<b>Grüße</b>"
    assert message["Date"].datetime and message["Message-ID"].endswith("@example.com>")
    assert message["To"] == "ann@example.com" and message["Cc"] is None and message["Bcc"] is None


@pytest.mark.parametrize(
    "body",
    [
        "x" * 5000,
        "From here on\nFrom there\n.\n..\n.x\n",
        "é…Å\u0085 \u2028\x0b " * 400,
        "tab\t \nspace \r\ncr\rend",
        "",
        "=3D =\n=",
    ],
)
def test_any_body_arrives_in_short_ascii_lines(body):
    mail, message = composed(body=body)
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 78
    assert not mail.content.replace(b"\r\n", b"").count(b"\n") and not mail.content.replace(b"\r\n", b"").count(b"\r")
    assert b"\r\n>From" not in mail.content
    for part in message.iter_parts():
        arrived = part.get_payload(decode=True).decode()
        assert arrived.replace("\r\n", "\n") == body.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "source, name",
    [
        ("ConsoleMe <consoleme@example.com>", "ConsoleMe"),
        ("consoleme@example.com", ""),
        ("<consoleme@example.com>", ""),
        ('"Access, Cloud" <consoleme@example.com>', "Access, Cloud"),
        ('"A \\"B\\" C" <consoleme@example.com>', 'A "B" C'),
        ("Netflix. Inc <consoleme@example.com>", "Netflix. Inc"),
        ("Équipe IAM <consoleme@example.com>", "Équipe IAM"),
        ("=?UTF-8?B?w4lxdWlwZSwgSUFN?= <consoleme@example.com>", "Équipe, IAM"),
        ('"Équipe, très longue" <consoleme@example.com>', "Équipe, très longue"),
        ("Ünlü " * 30 + "<consoleme@example.com>", ("Ünlü " * 30).strip()),
    ],
)
def test_a_sender_may_have_a_name(source, name):
    mail, message = composed(source=source)
    (author,) = message["From"].addresses
    assert author.addr_spec == "consoleme@example.com"
    # The newer parser adds a space between two encoded words of a name.
    raw = email.message_from_bytes(mail.content)["From"]
    assert str(make_header(decode_header(parseaddr(raw)[0]))) == name
    assert mail.reverse_path == "consoleme@example.com"
    assert mail.content.isascii() and max(map(len, mail.content.split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "source",
    ["consoleme", "", "a@example.com, b@example.com", "a@example.com>b@example.org", "é@example.com", "a@bücher.example",
     "a@example.com\r\nBcc: b@example.org", "=?utf-8?q?a=0AB:?= <a@example.com>"],
)
def test_a_sender_that_can_be_read_in_two_ways_or_none_is_refused(source):
    with pytest.raises(MessageError):
        composed(source=source)


def test_gaps_and_duplicates_among_recipients_are_dropped():
    mail, message = composed(["ann@example.com", None, "", "bob@example.com", "ann@example.com", "Ann <ann@EXAMPLE.com>"])
    assert mail.forward_paths == ["ann@example.com", "bob@example.com"]
    assert message["To"] == "ann@example.com, bob@example.com"
    assert mail.unusable == {}


def test_who_has_no_address_does_not_cost_the_others_theirs():
    mail, message = composed(["AWSReservedSSO_x/ann", "bob@example.com", "a@x\r\nBcc: c@example.com"])
    assert mail.forward_paths == ["bob@example.com"] and message["To"] == "bob@example.com"
    assert list(mail.unusable) == ["AWSReservedSSO_x/ann", "a@x\r\nBcc: c@example.com"]
    assert mail.unusable["AWSReservedSSO_x/ann"] == "'AWSReservedSSO_x/ann' is not an address"


@pytest.mark.parametrize("to", [[], [None], [""], ["ann"]])
def test_without_recipients_there_is_no_mail(to):
    with pytest.raises(MessageError, match="no recipients"):
        composed(to)


def test_many_long_recipients_fold_between_addresses():
    to = [f"{'a' * 60}{n}@{'department.' * 10}example.com" for n in range(50)]
    mail, message = composed(to)
    assert [mailbox.addr_spec for mailbox in message["To"].addresses] == to == mail.forward_paths
    assert max(map(len, mail.content.split(b"\r\n"))) < 998


@pytest.mark.parametrize(
    "subject, arrives",
    [
        ("Grüße für arn:aws:iam::111122223333:role/" + "x" * 100, None),
        ("a\r\nBcc: eve@example.org\r\n\r\nbody", "a Bcc: eve@example.org body"),
        ("x" * 3000, None),
        ("", None),
    ],
)
def test_a_subject_stays_a_subject(subject, arrives):
    mail, message = composed(subject=subject)
    assert message["Subject"] == (subject if arrives is None else arrives)
    assert message["Bcc"] is None and not message.defects
    assert max(map(len, mail.content.split(b"\r\n"))) < 998


def test_the_source_arn_is_sent_if_asked():
    assert b"X-SES" not in compose(parameters(), False).content
    arn = b"X-SES-SOURCE-ARN: arn:aws:ses:us-east-1:111122223333:identity/example.com\r\n"
    assert arn in compose(parameters(), True).content.replace(b"\r\n ", b" ")


@pytest.mark.parametrize("more", [{"ConfigurationSetName": "x"}, {"ReplyToAddresses": []}, {"Tags": []}])
def test_what_cannot_be_said_in_smtp_is_not_dropped_silently(more):
    with pytest.raises(MessageError, match=next(iter(more))):
        compose(parameters(**more), False)
    destination = {"Destination": {"ToAddresses": ["ann@example.com"], "BccAddresses": ["bob@example.com"]}}
    with pytest.raises(MessageError, match="BccAddresses"):
        compose(parameters(**destination), False)
