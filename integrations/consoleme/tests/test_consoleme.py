"""Calls ConsoleMe's own functions with a running gatepost and compares what its SES emulator received; for failures, checks
what ConsoleMe logs and counts."""

import asyncio
import email
import email.policy
import json
import socket
import urllib.request
import uuid

import relay_process
import pytest

SENDER = "ConsoleMe <consoleme@example.com>"

# Added to the relay's configuration: recipients that are refused, and a listener with very little memory.
LIMITED = """
[[app]]
name = "limited"
listeners = ["normalizing"]
from = ["*@example.com"]

[[limit]]
name = "a-sender-a-mail"
by = "reverse_path"
apps = ["limited"]
rates = ["1/h"]

[[limit]]
name = "a-domain-a-recipient"
by = "recipient_domain"
of = "recipients"
apps = ["limited"]
rates = ["1/h"]
"""


@pytest.fixture(scope="module")
def relay():
    policy = {"GATEPOST_POLICY__RECIPIENTS_DENIED": '["*@denied.example.com"]'}
    relay = relay_process.Relay(lambda relay: relay_process.emulator(relay) + LIMITED, policy)
    yield relay
    assert relay.stop() == 0


@pytest.fixture
def smtp(consoleme, relay):
    """Sets the `smtp` block for a listener of the relay, and clears the emulator."""

    def use(door="plain", **more):
        tls = relay_process.Relay.LISTENERS.get(door, "none")
        block = {"host": "127.0.0.1", "port": relay.ports[door], "tls": tls, "timeout_seconds": 20}
        if tls != "none":
            block.update(ca_file=str(relay.authority), username="app", password="secret")
        block.update(more)
        consoleme.config["smtp"] = {key: value for key, value in block.items() if value is not None}

    relay.messages()
    use()
    yield use
    emulator(relay, "DELETE", "/faults")
    assert relay.messages() == [], "a mail that the test does not know of"


def emulator(relay, method, path, content=None):
    address = f"http://127.0.0.1:{relay.ports['emulator']}{path}"
    data = None if content is None else json.dumps(content).encode()
    urllib.request.urlopen(urllib.request.Request(address, data, method=method)).close()


def the_mail(relay):
    """The only message that arrived: the parameters of the SES call, and the parsed message."""
    (sent,) = relay.messages()
    return sent, email.message_from_bytes(relay_process.without_trace(sent["raw"]), policy=email.policy.SMTP)


def request(status="pending", requester="ann@example.com", principal="arn:aws:iam::111122223333:role/payroll"):
    from consoleme.models import ExtendedRequestModel

    return ExtendedRequestModel(
        id="1",
        principal={"principal_arn": principal, "principal_type": "AwsResource"},
        timestamp=1700000000,
        requester_email=requester,
        approvers=[],
        request_status=status,
        changes={"changes": []},
        requester_info={"email": requester},
    )


URI = "https://consoleme.example.com/policies/request/1"


def status_change(consoleme, **named):
    asyncio.run(consoleme.ses.send_policy_request_status_update_v2(request("approved", **named), URI))


def new_comment(consoleme, to, **named):
    asyncio.run(consoleme.ses.send_new_comment_notification(request(**named), to, "bob@example.com", URI))


def say(consoleme, to, subject="s", body="b"):
    asyncio.run(consoleme.ses.send_email(to, subject, body))


def nothing_but(seen, *names):
    """The metrics that were counted, of ConsoleMe and of the package."""
    assert [name for name, _ in seen.counts] == list(names)


def failed(seen, step, reason, text):
    nothing_but(seen, "lib.ses.smtp.error", "lib.ses.error")
    assert seen.counts[0] == ("lib.ses.smtp.error", {"step": step, "reason": reason})
    said = seen.error()
    assert "Exception sending email" in said and "'function': 'consoleme.lib.ses.send_email'" in said
    assert text in said
    assert "secret" not in said


# Notifications of changed requests and of comments: all mail functions that this version of ConsoleMe calls.


@pytest.mark.parametrize("door", ["plain", "starttls", "implicit"])
def test_the_acceptance_pair(consoleme, relay, smtp, seen, door):
    smtp(door)
    status_change(consoleme)
    sent, message = the_mail(relay)
    assert sent["to"] == ["ann@example.com"]
    assert (message["From"], message["To"]) == (SENDER, "ann@example.com")
    subject = "ConsoleMe: Policy change request for arn:aws:iam::111122223333:role/payroll has been updated to approved"
    assert message["Subject"] == f"{subject} and committed"
    assert seen.response() == f"250 2.0.0 Ok {sent['message_id']}"
    assert sent["parameters"]["FeedbackForwardingEmailAddress"] == "consoleme@example.com"
    seen.entries.clear()

    new_comment(consoleme, ["carol@example.com", "ann@example.com"])
    sent, message = the_mail(relay)
    assert sent["to"] == ["carol@example.com", "ann@example.com"]
    assert message["To"] == "carol@example.com, ann@example.com"
    assert message["Subject"].startswith("ConsoleMe: A new comment has been added to Policy Change request for arn:")
    text, html = message.iter_parts()
    assert URI in text.get_content() and "by bob@example.com" in html.get_content()
    assert seen.response() == f"250 2.0.0 Ok {sent['message_id']}"
    nothing_but(seen, "lib.ses.success", "lib.ses.success")


FUNCTIONS = {
    "send_access_email_to_user": (["ann@example.com", "group", "bob@example.com", "approved", URI, URI, "fine"], ["ann", "bob"]),
    "send_request_created_to_user": (["ann@example.com", "group", "ann@example.com", "approved", URI], ["ann"]),
    "send_request_to_secondary_approvers": ([["ann@example.com", "bob@example.com"], "group", URI, URI], ["ann", "bob"]),
    "send_group_modification_notification": (
        [{"group@example.com": [{"name": "tom@example.com", "type": "USER"}]}, "ann@example.com"], ["ann"],
    ),
    "send_new_aws_groups_notification": ([["ann@example.com"], ["group@example.com"]], ["ann"]),
    "send_policy_request_status_update": (
        [{"arn": "arn:aws:iam::1:role/a", "status": "pending", "username": "ann@example.com"}, URI], ["ann"],
    ),
    "send_policy_request_status_update_v2": (lambda: [request(), URI], ["ann"]),
    "send_new_comment_notification": (lambda: [request(), ["bob@example.com"], "ann@example.com", URI], ["bob"]),
}


def test_the_functions_are_these(consoleme):
    assert {name for name in vars(consoleme.ses) if name.startswith("send_")} == {"send_email", *FUNCTIONS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_arrives_as_consoleme_wrote_it(consoleme, relay, smtp, seen, monkeypatch, name):
    arguments, people = FUNCTIONS[name]
    wrote = []
    send_email = consoleme.ses.send_email

    async def listening(*arguments, **named):
        wrote.append(arguments)
        await send_email(*arguments, **named)

    monkeypatch.setattr(consoleme.ses, "send_email", listening)
    asyncio.run(getattr(consoleme.ses, name)(*(arguments() if callable(arguments) else arguments)))
    ((_, subject, body),) = wrote
    sent, message = the_mail(relay)
    assert sent["to"] == [f"{person}@example.com" for person in people]
    assert (message["From"], message["Subject"]) == (SENDER, subject)
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    for part in message.iter_parts():
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
        assert part.get_content().replace("\r\n", "\n") == body
    nothing_but(seen, "lib.ses.success")


def test_a_storm_arrives_once_each(consoleme, relay, smtp):
    async def storm():
        await asyncio.gather(*(consoleme.ses.send_email(["ann@example.com"], f"storm {n}", "b") for n in range(10)))

    asyncio.run(storm())
    subjects = [email.message_from_bytes(sent["raw"], policy=email.policy.SMTP)["Subject"] for sent in relay.messages()]
    assert sorted(subjects) == [f"storm {n}" for n in range(10)]


def test_a_reload_does_not_send_twice(consoleme, relay, smtp):
    from consoleme_smtp.plugin import Config

    for _ in range(3):
        Config.get_config_location()
    say(consoleme, ["ann@example.com"])
    the_mail(relay)


# Special cases of ConsoleMe's mail.


def test_a_new_request_without_application_admin_reaches_the_requester(consoleme, relay, smtp, seen):
    asyncio.run(consoleme.ses.send_policy_request_status_update_v2(request("pending"), URI))
    assert the_mail(relay)[0]["to"] == ["ann@example.com"]
    consoleme.config["application_admin"] = "admins@example.com"
    asyncio.run(consoleme.ses.send_policy_request_status_update_v2(request("pending"), URI))
    assert the_mail(relay)[0]["to"] == ["ann@example.com", "admins@example.com"]


def test_the_requester_who_is_the_updater_gets_one(consoleme, relay, smtp):
    say(consoleme, ["ann@example.com", "ann@example.com"])
    sent, message = the_mail(relay)
    assert sent["to"] == ["ann@example.com"] and message["To"] == "ann@example.com"


def test_a_bare_recipient_is_one_recipient(consoleme, relay, smtp):
    say(consoleme, "ann@example.com")
    assert the_mail(relay)[0]["to"] == ["ann@example.com"]


@pytest.mark.parametrize("to", [[], [None]])
def test_a_comment_without_reviewers_says_so(consoleme, smtp, seen, to):
    new_comment(consoleme, to)
    failed(seen, "prepare", "MessageError", "MessageError: no recipients")


@pytest.mark.parametrize(
    "sender, name",
    [("consoleme@example.com", ""), ("Équipe IAM <consoleme@example.com>", "Équipe IAM"),
     ("=?UTF-8?B?w4lxdWlwZSBJQU0=?= <consoleme@example.com>", "Équipe IAM"), ('"IAM, Cloud" <consoleme@example.com>', "IAM, Cloud")],
)
def test_every_spelling_of_a_sender_passes_the_relay(consoleme, relay, smtp, sender, name):
    consoleme.config["ses"]["consoleme"]["sender"] = sender
    say(consoleme, ["ann@example.com"])
    (author,) = the_mail(relay)[1]["From"].addresses
    assert (author.display_name, author.addr_spec) == (name, "consoleme@example.com")


def test_what_people_wrote_cannot_become_a_field_or_an_end(consoleme, relay, smtp):
    body = "From here\n.\nMAIL FROM:<eve@example.org>\n" + "<td>é</td>" * 1000
    say(consoleme, ["ann@example.com"], "role/a\r\nBcc: eve@example.org\r\n\r\nx", body)
    sent, message = the_mail(relay)
    assert message["Subject"] == "role/a Bcc: eve@example.org x" and message["Bcc"] is None
    assert sent["to"] == ["ann@example.com"]
    assert [part.get_content().replace("\r\n", "\n") for part in message.iter_parts()] == [body, body]


def test_x_ses_fields_do_not_leave_a_relay_that_was_not_told_to_heed_them(consoleme, relay, smtp):
    smtp(send_source_arn=True)
    say(consoleme, ["ann@example.com"])
    sent, _ = the_mail(relay)
    assert b"x-ses" not in sent["raw"].lower() and "FromEmailAddressIdentityArn" not in sent["parameters"]


def test_the_override_for_development_works_as_ever(consoleme, relay, smtp):
    consoleme.config["development"] = True
    consoleme.config["ses"]["override_receivers_for_dev"] = ["dev@example.com"]
    say(consoleme, ["ann@example.com"])
    assert the_mail(relay)[0]["to"] == ["dev@example.com"]


# Refusals: ConsoleMe's log and metrics have each, with the relay's reply.


def test_a_refused_sender(consoleme, smtp, seen):
    consoleme.config["ses"]["consoleme"]["sender"] = "CEO <ceo@example.org>"
    status_change(consoleme)
    failed(seen, "MAIL", "550 5.7.1", "NotDelivered: MAIL: 550 5.7.1 Envelope sender not permitted (ref ")


def test_a_sender_that_is_no_address(consoleme, smtp, seen):
    consoleme.config["ses"]["consoleme"]["sender"] = "a@example.com, b@example.com"
    status_change(consoleme)
    failed(seen, "prepare", "MessageError", "'a@example.com, b@example.com' is not an address")


def test_a_rate_limit(consoleme, relay, smtp, seen):
    smtp("normalizing")
    consoleme.config["ses"]["consoleme"]["sender"] = f"{uuid.uuid4().hex}@example.com"
    say(consoleme, ["ann@one.example.com"])
    the_mail(relay)
    seen.counts.clear()
    say(consoleme, ["ann@two.example.com"])
    failed(seen, "MAIL", "451 4.7.1", "MAIL: 451 4.7.1 Rate limit reached, try again")


def test_a_rate_limit_of_recipients(consoleme, relay, smtp, seen):
    smtp("normalizing")
    domain = f"{uuid.uuid4().hex}.example.com"
    consoleme.config["ses"]["consoleme"]["sender"] = f"{uuid.uuid4().hex}@example.com"
    say(consoleme, [f"ann@{domain}"])
    the_mail(relay)
    seen.counts.clear()
    consoleme.config["ses"]["consoleme"]["sender"] = f"{uuid.uuid4().hex}@example.com"
    say(consoleme, [f"bob@{domain}"])
    failed(seen, "RCPT", "452 4.5.3", f"RCPT: bob@{domain}: 452 4.5.3 Too many recipients for now: rate limit reached")


@pytest.mark.parametrize(
    "fault, reason, text",
    [
        ("MessageRejected", "554 5.7.1", "DATA: 554 5.7.1 Message rejected by the provider"),
        ("access-denied", "451 4.3.5", "DATA: 451 4.3.5 Sending is not possible until the operator of this relay corrects its configuration"),
    ],
)
def test_what_ses_refuses(consoleme, relay, smtp, seen, fault, reason, text):
    emulator(relay, "POST", "/faults", [fault])
    status_change(consoleme)
    failed(seen, "DATA", reason, text)


def test_a_throttle_of_ses_is_not_felt(consoleme, relay, smtp, seen):
    """A throttled message is certainly not sent, so the relay sends it again."""
    emulator(relay, "POST", "/faults", ["429"])
    status_change(consoleme)
    the_mail(relay)
    assert [name for name, _ in seen.counts] == ["lib.ses.success"]


def test_the_daily_quota_of_ses(consoleme, smtp, seen):
    # With a separate relay, because after this error it sends nothing for some time.
    relay = relay_process.Relay(relay_process.emulator)
    try:
        emulator(relay, "POST", "/faults", ["daily-quota"])
        smtp(port=relay.ports["plain"])
        status_change(consoleme)
        failed(seen, "DATA", "454 4.7.0", "DATA: 454 4.7.0 Throttling failure: daily message quota exceeded")
    finally:
        assert relay.stop() == 0


def test_some_recipients_are_refused(consoleme, relay, smtp, seen):
    say(consoleme, ["ann@example.com", "eve@denied.example.com", "AWSReservedSSO_x/bob"], "subject 7")
    sent, _ = the_mail(relay)
    assert sent["to"] == ["ann@example.com"]
    refused = "lib.ses.smtp.refused_recipient"
    assert seen.counts == [(refused, {"reason": "550 5.7.1"}), (refused, {"reason": "no address"}), ("lib.ses.success", None)]
    said = seen.error()
    for text in (
        "'function': 'consoleme_smtp.ses_hook._report_refused'",
        "'message': 'Email sent, but not to all'",
        "'subject': 'subject 7'",
        "'eve@denied.example.com': '550 5.7.1 Recipient not permitted (ref ",
        "'AWSReservedSSO_x/bob': \"'AWSReservedSSO_x/bob' is not an address\"",
        f"'response': '250 2.0.0 Ok {sent['message_id']}'",
    ):
        assert text in said


def test_all_recipients_are_refused(consoleme, smtp, seen):
    say(consoleme, ["eve@denied.example.com", "bob@denied.example.com"])
    failed(seen, "RCPT", "550 5.7.1", "bob@denied.example.com: 550 5.7.1 Recipient not permitted")


def test_who_is_one_too_many_for_ses(consoleme, relay, smtp, seen):
    say(consoleme, [f"{n}@example.com" for n in range(51)])
    assert the_mail(relay)[0]["to"] == [f"{n}@example.com" for n in range(50)]
    assert "'50@example.com': '452 4.5.3 Too many recipients" in seen.error()


# No relay, a wrong relay, or one that does not accept the credentials.


def test_the_relay_is_down(consoleme, smtp, seen):
    port = relay_process.free_port()
    smtp(port=port)
    status_change(consoleme)
    failed(seen, "connect", "ConnectionRefusedError", f"NotDelivered: connect: ConnectionRefusedError: [Errno 111] Connection refused (127.0.0.1:{port})")


def test_the_relay_is_silent(consoleme, smtp, seen):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        smtp(port=silent.getsockname()[1], timeout_seconds=1)
        status_change(consoleme)
    assert seen.counts[0][1]["step"] == "connect" and "timed out" in seen.error()


@pytest.mark.parametrize("door", ["starttls", "implicit"])
def test_a_wrong_password(consoleme, smtp, seen, door):
    smtp(door, password="secret-but-wrong")
    status_change(consoleme)
    failed(seen, "AUTH", "535 5.7.8", "NotDelivered: AUTH: 535 5.7.8 Authentication credentials invalid")


@pytest.mark.parametrize("door, step", [("starttls", "STARTTLS"), ("implicit", "connect")])
def test_a_certificate_that_nobody_vouches_for(consoleme, smtp, seen, door, step):
    smtp(door, ca_file=None)
    status_change(consoleme)
    failed(seen, step, "SSLCertVerificationError", "certificate verify failed")


def test_a_relay_that_does_not_offer_tls_gets_nothing(consoleme, relay, smtp, seen):
    smtp("starttls", port=relay.ports["plain"])
    status_change(consoleme)
    failed(seen, "STARTTLS", "SMTPNotSupportedError", "STARTTLS extension not supported by server")


def test_a_configuration_that_became_wrong(consoleme, smtp, seen):
    smtp(port="secret")
    status_change(consoleme)
    failed(seen, "prepare", "SettingsError", "SettingsError: ConsoleMe's configuration, smtp: port must be a whole number from 1 to 65535")
    del consoleme.config["smtp"]
    seen.entries.clear(), seen.counts.clear()
    status_change(consoleme)
    failed(seen, "prepare", "SettingsError", "smtp: the block is missing")
