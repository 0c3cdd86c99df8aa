"""Replies that a correct relay rarely returns, from a server with configured replies."""

import socket
import threading

import pytest

from consoleme_smtp.delivery import NotDelivered, deliver
from consoleme_smtp.message import Mail
from consoleme_smtp.settings import read_settings

MAIL = Mail("consoleme@example.com", ["ann@example.com", "bob@example.com"], b"Subject: s\r\n\r\n.dot\r\n", {})


class Server:
    """Answers each command with the reply for its longest configured prefix. None: closes the connection."""

    REPLIES = {
        "": "220 relay.example", "EHLO": "250-relay.example\r\n250 SIZE 1000", "MAIL": "250 2.1.0 Ok", "RCPT": "250 2.1.5 Ok",
        "DATA": "354 Go", ".": "250 2.0.0 Ok 0100-abc", "QUIT": "221 2.0.0 Bye",
    }

    def __init__(self, **replies):
        self.replies = {**self.REPLIES, **{name.replace("_", " "): reply for name, reply in replies.items()}}
        self.got = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.settings = {"host": "127.0.0.1", "port": self.listener.getsockname()[1], "tls": "none", "timeout_seconds": 1}
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rwb") as stream:
            if not self.say(stream, self.replies[""]):
                return
            content = None
            for line in stream:
                self.got.append(line)
                command = line.decode().rstrip("\r\n")
                if content is not None and command != ".":
                    continue
                (*_, reply) = [reply for name, reply in sorted(self.replies.items()) if command.upper().startswith(name.upper())]
                content = [] if reply and reply.startswith("354") else None
                if reply == "silence":
                    continue
                if not self.say(stream, reply):
                    return

    @staticmethod
    def say(stream, reply):
        if reply is None:
            return False
        stream.write(reply.encode() + b"\r\n")
        stream.flush()
        return True

    def deliver(self, mail=MAIL, **settings):
        try:
            return deliver(read_settings({**self.settings, **settings}), mail)
        finally:
            self.listener.close()
            self.thread.join(timeout=5)


def test_one_transaction_and_the_reply_of_the_relay():
    server = Server()
    receipt = server.deliver()
    assert (str(receipt.reply), receipt.refused) == ("250 2.0.0 Ok 0100-abc", {})
    verbs = [line.upper().split(b":")[0].strip() for line in server.got]
    assert verbs[1:4] == [b"MAIL FROM", b"RCPT TO", b"RCPT TO"] and verbs[-1] == b"QUIT" and verbs.count(b"DATA") == 1
    assert f"size={len(MAIL.content)}".encode() in server.got[1].lower()
    assert b"..dot\r\n" in server.got


@pytest.mark.parametrize(
    "replies, step, reason, text",
    [
        ({"": "554 5.7.1 Client address not permitted"}, "connect", "554 5.7.1", "554 5.7.1 Client address not permitted"),
        ({"": "421 4.3.2 Too many\r\n"}, "connect", "421 4.3.2", "421 4.3.2 Too many"),
        ({"": None}, "connect", "SMTPServerDisconnected", "(127.0.0.1:"),
        ({"MAIL": "550 5.7.1 Envelope sender not permitted (ref x)"}, "MAIL", "550 5.7.1", "not permitted (ref x)"),
        ({"MAIL": "451 no enhanced status"}, "MAIL", "451", "451 no enhanced status"),
        ({"MAIL": "550-5.7.1 two\r\n550 5.7.1 lines"}, "MAIL", "550 5.7.1", "550 5.7.1 two 5.7.1 lines"),
        ({"MAIL": None}, "MAIL", "SMTPServerDisconnected", "closed"),
        ({"RCPT": "452 4.5.3 Too many"}, "RCPT", "452 4.5.3", "ann@example.com: 452 4.5.3 Too many, bob@example.com: 452"),
        ({"DATA": "452 4.3.1 Full"}, "DATA", "452 4.3.1", "452 4.3.1 Full"),
        ({".": "454 4.7.0 Throttling failure"}, "DATA", "454 4.7.0", "454 4.7.0 Throttling failure"),
        ({".": None}, "DATA", "SMTPServerDisconnected", "it may have been sent"),
        ({".": "silence", "QUIT": "silence"}, "DATA", "SMTPServerDisconnected", "it may have been sent"),
    ],
)
def test_says_where_it_ended_and_why(replies, step, reason, text):
    server = Server(**replies)
    with pytest.raises(NotDelivered) as error:
        server.deliver()
    assert (error.value.step, error.value.reason) == (step, reason)
    assert text in str(error.value)
    assert server.got.count(b".\r\n") <= 1


def test_a_refused_recipient_is_reported_and_the_other_served():
    server = Server(**{"RCPT TO:<bob": "550 5.7.1 Recipient not permitted"})
    receipt = server.deliver()
    assert {path: str(reply) for path, reply in receipt.refused.items()} == {"bob@example.com": "550 5.7.1 Recipient not permitted"}
    assert server.got.count(b".\r\n") == 1


@pytest.mark.parametrize("goodbye", [None, "421 4.3.2 Shutting down", "500 What", "silence"])
def test_a_bad_goodbye_does_not_make_a_sent_mail_unsent(goodbye):
    assert Server(QUIT=goodbye).deliver().reply.code == 250


def test_a_relay_without_starttls_gets_neither_mail_nor_password():
    server = Server()
    with pytest.raises(NotDelivered, match="STARTTLS: SMTPNotSupportedError"):
        server.deliver(tls="starttls", username="consoleme", password="hunter2")
    assert [line.split()[0].upper() for line in server.got] == [b"EHLO", b"QUIT"]


def test_a_relay_without_auth_gets_no_mail():
    server = Server()
    with pytest.raises(NotDelivered, match="AUTH: SMTPNotSupportedError"):
        server.deliver(username="consoleme", password="hunter2")
    assert [line.split()[0].upper() for line in server.got] == [b"EHLO", b"QUIT"]
