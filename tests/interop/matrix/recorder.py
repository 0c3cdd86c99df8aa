"""A TCP proxy that records both directions, and a parser for its records.

The parser shares no code with gatepost, so the tests know independently what a client sent.
"""

import dataclasses
import re
import socket
import threading
import time

# The program has ended; its connection will end soon.
CLOSING_SECONDS = 20


class Recorder:
    """Listens on a free port of this machine and forwards everything to `port`."""

    def __init__(self, port):
        self.target = port
        # Seconds by which replies are delayed, to detect a client that does not wait for them.
        self.reply_delay = 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.open = 0
        self.recorded = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        # Wakes the thread that waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def take(self):
        """The dialogues since the last call. Waits for those in progress."""
        with self.changed:
            ended = self.changed.wait_for(lambda: self.open == 0, CLOSING_SECONDS)
            assert ended, "a client stays connected"
            taken, self.recorded = self.recorded, []
        return [read(events) for events in taken]

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            events = []
            with self.changed:
                self.recorded.append(events)
                self.open += 1
            server = socket.create_connection(("127.0.0.1", self.target))
            pumps = [
                threading.Thread(target=self._pump, args=(client, server, b"C", events), daemon=True),
                threading.Thread(target=self._pump, args=(server, client, b"S", events), daemon=True),
            ]
            threading.Thread(target=self._serve, args=(pumps, [client, server]), daemon=True).start()

    def _serve(self, pumps, sockets):
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        for one in sockets:
            one.close()
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def _pump(self, source, sink, who, events):
        try:
            while octets := source.recv(65536):
                if who == b"S":
                    time.sleep(self.reply_delay)
                # Recorded before it is forwarded, so that a reply is never recorded before its command.
                events.append((who, octets))
                sink.sendall(octets)
        except OSError:
            pass
        for one, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            try:
                one.shutdown(how)
            except OSError:
                pass


@dataclasses.dataclass
class Exchange:
    """A command, its reply, and what the client sent in between: content, or the lines of AUTH."""

    command: str
    reply: str = ""
    content: bytes | None = None

    @property
    def verb(self):
        return self.command.split(":")[0].split(" ")[0].upper()

    @property
    def code(self):
        return self.reply[:3]


@dataclasses.dataclass
class Conversation:
    """One connection, up to the start of TLS."""

    exchanges: list = dataclasses.field(default_factory=list)
    # none, starttls or implicit: as recorded, whatever the client was configured to do.
    tls: str = "none"
    # RCPT was sent before the reply to MAIL.
    pipelined: bool = False

    def of(self, verb):
        return [exchange for exchange in self.exchanges if exchange.verb == verb]

    def reply_to(self, verb):
        """The first refusal of such a command, or else the last reply."""
        replies = [exchange.reply for exchange in self.of(verb)]
        return next((reply for reply in replies if reply[:1] in "45"), replies[-1] if replies else "")


def read(events):
    conversation = Conversation()
    client = b"".join(octets for who, octets in events if who == b"C")
    server = b"".join(octets for who, octets in events if who == b"S")
    if client[:2] == b"\x16\x03":
        conversation.tls = "implicit"
        return conversation
    conversation.pipelined = pipelined(events)

    def line():
        nonlocal client
        # A device may end its commands with a bare LF.
        text, end, client = client.partition(b"\n")
        return (text.removesuffix(b"\r") if end else text).decode("latin-1")

    def reply():
        nonlocal server
        lines = []
        while server:
            text, _, server = server.partition(b"\r\n")
            lines.append(text.decode("latin-1"))
            if text[3:4] != b"-":
                break
        return "\n".join(lines)

    reply()
    while client:
        exchange = Exchange(line())
        conversation.exchanges.append(exchange)
        exchange.reply = reply()
        if exchange.verb == "STARTTLS" and exchange.code == "220":
            assert client[:2] == b"\x16\x03" or not client, "no TLS after STARTTLS"
            conversation.tls = "starttls"
            return conversation
        while exchange.verb == "AUTH" and exchange.code == "334":
            exchange.content = (exchange.content or b"") + line().encode("latin-1") + b"\n"
            exchange.reply = reply()
        if exchange.verb == "DATA" and exchange.code == "354":
            # The line end before the dot belongs to the content; an empty message has none.
            text, end, client = (b"\r\n" + client).partition(b"\r\n.\r\n")
            if not end:
                exchange.reply = ""
                client = b""
                return conversation
            lines = (text + b"\r\n").removeprefix(b"\r\n").split(b"\r\n")
            exchange.content = b"\r\n".join(part[1:] if part[:1] == b"." else part for part in lines)
            exchange.reply = reply()
    return conversation


def pipelined(events):
    """Whether RCPT was sent before the replies to all earlier commands, counting the greeting as one."""
    sent = replies = b""
    for who, octets in events:
        if who == b"S":
            replies += octets
            continue
        sent += octets
        before, found, _ = sent.upper().partition(b"RCPT TO:")
        if found:
            return before.count(b"\n") + 1 > len(re.findall(rb"(?m)^\d{3} ", replies))
    return False
