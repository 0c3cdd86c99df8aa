"""The table of scenarios and clients.

A scenario is one message, and what gatepost does with it. A client is a program that sends; its row has its own behaviour, and
every exception has the reason why the client ends a scenario differently. Both are tested: an exception that no longer holds
fails the test.
"""

import dataclasses

HOST = "elsewhere.example"
# Bytes; the relay's limit in these tests.
MESSAGE_OCTETS_MAX = 200_000
DOTS = ".one\n..two\n.\n...\n\n.\nFrom here\nlast\n"


@dataclasses.dataclass
class Scenario:
    """One message through one listener. `refusal` is the reply that the client receives, and at which command."""

    name: str
    listener: str = "plain"
    user: str = ""
    reverse_path: str = "ann@example.com"
    author: str = "ann@example.com"
    to: tuple = ()
    bcc: tuple = ()
    subject: str = "a message"
    text: str = "hello\n"
    attachment: bytes = b""
    # Header fields of messages that the client does not compose.
    fields: str = ""
    messages: int = 1
    refusal: str = ""
    # Errors that SES returns for the next calls, by the emulator's names.
    faults: tuple = ()

    def __post_init__(self):
        self.to = self.to or (f"bob+{self.name}@{HOST}",)


SCENARIOS = [
    Scenario("plain"),
    Scenario("auth", listener="auth", user="app"),
    Scenario("starttls", listener="starttls", user="app", text="Grüße\n"),
    Scenario("implicit", listener="implicit", user="app", text="Grüße\n"),
    # Every byte value, including line ends and NUL, and decoded lines that a transport could misread.
    Scenario("attachment", attachment=bytes(range(256)) * 150 + b"\r\n.\r\nMAIL FROM:<x@y>\r\n", text="Größe\n"),
    Scenario("eight-bit", subject="Grüße aus Köln für 10 €", text="Grüße, 10 €, 日本語\n" + "ü" * 70 + "\n"),
    Scenario("dots", text=DOTS),
    Scenario(
        "bcc", bcc=(f"hidden+bcc@{HOST}",),
        fields="Return-Path: <ceo@other.example>\r\nX-SES-CONFIGURATION-SET: other\r\nX-Ses-Message-Tags: a=b,\r\n c=d\r\n",
    ),
    Scenario("one-refused", to=(f"bob+one-refused@{HOST}", "bad+one-refused@refused.example"), refusal="550 5.7.1"),
    Scenario("foreign-envelope", reverse_path="ceo@other.example", author="ceo@other.example", messages=0, refusal="550 5.7.1"),
    Scenario("foreign-from", author="ceo@other.example", messages=0, refusal="550 5.7.1"),
    Scenario("too-large", text=("x" * 70 + "\n") * 4_000, messages=0, refusal="552 5.3.4"),
    # An hour without SES: what a client does after the reply to the end of data. SES accepts mail again after one call.
    Scenario("without-ses", messages=0, refusal="451 4.4.1", faults=({"fault": "status", "status": 503},)),
    # The first message uses the whole limit.
    Scenario("rate", listener="limited"),
    Scenario("over-the-rate", listener="limited", messages=0, refusal="451 4.7.1"),
]


@dataclasses.dataclass
class Except:
    """This client ends this scenario differently, for the given reason, which its output or behaviour shows."""

    why: str
    outcome: str = "failed"
    messages: int = 0
    # Output of the client. None: the code of the scenario's refusal.
    told: str | None = None
    # The commands that it sends, if the difference is in them.
    commands: tuple = ()
    # It does not reach the scenario's refusal.
    unheard: bool = False
    # The content that arrives, if the client changes it.
    text: str = ""
    # A notice about the message arrives.
    notice: bool = False


@dataclasses.dataclass
class Client:
    """One program. `command` starts its driver, in the drivers directory."""

    command: list
    # Its greeting without TLS and AUTH.
    hello: str = "EHLO"
    # The mechanism that it chooses from "PLAIN LOGIN".
    mechanism: str = "PLAIN"
    pipelines: bool = False
    # Whether it composes the message and the caller sets From; otherwise it sends a given message.
    composes: bool = False
    # Its driver needs root.
    root: bool = False
    exceptions: dict = dataclasses.field(default_factory=dict)
    # Scenarios that only this client supports.
    scenarios: tuple = ()
    # For the listener "limited": with the default, no tokens are refilled during a test.
    rate: str = "1/h"


def python(*words):
    return ["{python}", *words]


def all_or_nobody(*commands):
    return {"one-refused": Except("one refused recipient, and nobody gets the message", commands=commands)}


CLIENTS = {
    # First, because its queue makes it slow. Its notices have a null reverse-path: only the listener of that name accepts them.
    "postfix": Client(
        python("postfix.py"), root=True, pipelines=True, rate="20/min burst 1",
        exceptions={
            "one-refused": Except("it sends to the others, and a notice about this one to the sender", messages=1),
            "over-the-rate": Except("it waits in the queue and goes later", outcome="sent", messages=1, told="451 4.7.1"),
            "without-ses": Except("it waits in the queue and goes later", outcome="sent", messages=1, told="451 4.4.1"),
            "too-large": Except(
                "it looks at SIZE and asks nobody; the second connection is its notice", told="exceeds size limit 200000",
                commands=("EHLO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "QUIT"), unheard=True,
            ),
            "notices": Except("the sender receives a notice through gatepost", messages=1, notice=True),
        },
        scenarios=(
            Scenario(
                "notices", listener="notices", reverse_path="ann+notices@example.com", author="ann+notices@example.com",
                to=("bad+notices@refused.example",), messages=0, refusal="550 5.7.1",
            ),
        ),
    ),
    "swaks": Client(python("commands.py", "swaks"), mechanism="LOGIN"),
    "msmtp": Client(
        python("commands.py", "msmtp"), pipelines=True,
        exceptions={
            # It sends DATA before it receives the refusal, and then closes the connection instead of sending content.
            **all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "DATA"),
            "auth": Except(
                "without TLS it wants the mechanism named", told="cannot use a secure authentication method",
                commands=("EHLO",),
            ),
        },
    ),
    "msmtp-sendmail": Client(
        python("commands.py", "msmtp_sendmail"), pipelines=True,
        exceptions=all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "DATA"),
    ),
    "s-nail": Client(
        python("commands.py", "s_nail"), hello="HELO", composes=True, exceptions=all_or_nobody("HELO", "MAIL", "RCPT", "RCPT"),
    ),
    "mutt": Client(
        python("commands.py", "mutt"), hello="HELO", composes=True, exceptions=all_or_nobody("HELO", "MAIL", "RCPT", "RCPT"),
    ),
    "curl": Client(
        python("commands.py", "curl"),
        exceptions={
            **all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "QUIT"),
            "foreign-from": Except("it does not show a reply to the end of data", told="curl: (8) Weird server reply"),
            "without-ses": Except("as above", told="curl: (8) Weird server reply"),
        },
    ),
    "nullmailer": Client(
        python("commands.py", "nullmailer"), hello="HELO", exceptions=all_or_nobody("HELO", "MAIL", "RCPT", "RCPT", "QUIT"),
    ),
    "lettre": Client(python("commands.py", "lettre"), exceptions=all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "QUIT")),
    "smtplib": Client(
        python("smtplib_client.py"), composes=True,
        exceptions={
            "dots": Except(
                "send_message writes as for an mbox file", outcome="sent", messages=1, told="",
                text=DOTS.replace("From here", ">From here"),
            ),
        },
    ),
    "django": Client(python("django_client.py"), composes=True),
    "nodemailer": Client(["node", "nodemailer.mjs"], pipelines=True, composes=True),
    "phpmailer": Client(
        ["/usr/bin/php", "-d", "display_errors=stderr", "phpmailer.php"], mechanism="LOGIN", composes=True,
        exceptions={
            "one-refused": Except("it sends to the others, and then says that it failed", messages=1, told="Recipient not permitted"),
            "foreign-from": Except("it does not show a reply to the end of data", told="data not accepted"),
            "without-ses": Except("as above", told="data not accepted"),
            "too-large": Except("as above, and it does not declare SIZE", told="data not accepted"),
        },
    ),
    "ruby-mail": Client(
        ["/usr/bin/ruby", "ruby_mail.rb"], composes=True,
        exceptions={
            **all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "QUIT"),
            "dots": Except(
                "mail 2.7 doubles the dot of a line that has nothing else, and Net::SMTP does it again", outcome="sent",
                messages=1, told="", text=DOTS.replace("\n.\n", "\n..\n"),
            ),
        },
    ),
    "net-smtp-perl": Client(["/usr/bin/perl", "net_smtp.pl"], exceptions=all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "QUIT")),
    "net-smtp-go": Client(["{work}/matrix/net_smtp"], exceptions=all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT")),
    "jakarta-mail": Client(
        ["java", "-cp", "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar:{work}/matrix", "JakartaMail"],
        mechanism="LOGIN", composes=True, exceptions=all_or_nobody("EHLO", "MAIL", "RCPT", "RCPT", "RSET", "QUIT"),
    ),
}
