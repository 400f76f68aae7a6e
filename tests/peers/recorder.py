"""A backend that records everything and is as gullible as the worst of its kind.

It takes a lone dot between any newlines (CRLF, LF, CR) as the end of data, so that anything the relay lets slip
becomes a second message here. Every message gets a serial number, which its 250 contains: a client that reads
"queued as 7" got the backend's own reply to message 7.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import collections
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field

from bed import BACKEND
from fakes import Listener

# The dot needs a newline of any kind on both sides; a CR at the end may still become a CRLF.
GULLIBLE_END = re.compile(rb"(?:\A|[\r\n])\.(?:\r\n|\n|\r(?=[^\n]))", re.DOTALL)
BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\0")
EXTENSIONS = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES",
              "XCLIENT NAME ADDR PORT REVERSE_NAME DESTADDR DESTPORT")


@dataclass
class Message:
    serial: int
    sender: str
    recipients: list
    client: str     # what XCLIENT said
    helo: str
    tls: bool
    content: bytes  # as written: dots still stuffed, without the end
    reply: str
    chunked: bool = False   # received by BDAT: nothing is stuffed
    answered: bool = False  # the whole reply was sent

    def body(self):
        """The message without the Received field that the relay adds on top."""
        assert self.content.startswith(b"Received:"), self.content[:80]
        return re.sub(rb"\AReceived:.*?\r\n(?![ \t])", b"", self.content, count=1, flags=re.DOTALL)


@dataclass
class Transaction:
    sender: str = None
    recipients: list = field(default_factory=list)
    chunks: bytes = b""


class Cut(Exception):
    """Raised when the requested fault is reached."""


class Dialog:
    """One connection."""

    def __init__(self, backend, sock):
        self.backend, self.sock = backend, sock
        self.pending, self.last = bytearray(), b""
        self.taken = self.given = 0
        self.give_at_most = self.take_at_most = self.fault = None
        try:
            self.give_at_most, self.take_at_most, self.fault = backend.faults.popleft()
        except IndexError:
            pass
        self.client = self.helo = ""
        self.port = 0  # the client's, as XCLIENT says
        self.tls = False
        self.transaction = Transaction()

    def receive(self):
        limit = self.take_at_most
        size = 65536 if limit is None else min(65536, limit - self.taken)
        if size <= 0:
            raise Cut
        piece = self.sock.recv(size)
        if not piece:
            raise ConnectionError
        self.taken += len(piece)
        # A CR at the end of the previous piece is judged with this one.
        if BARE.search(self.last + piece):
            self.backend.complain(f"bare newline or NUL in {bytes(self.last + piece)[:400]!r}")
        self.last = b"\r" if piece.endswith(b"\r") else b""
        self.pending += piece

    def line(self):
        while b"\n" not in self.pending:
            self.receive()
        line, _, rest = bytes(self.pending).partition(b"\n")
        self.pending = bytearray(rest)
        return line.rstrip(b"\r").decode("latin-1")

    def body(self):
        searched = 0
        while True:
            end = GULLIBLE_END.search(self.pending, searched)
            if end:
                break
            searched = max(0, len(self.pending) - 4)
            self.receive()
        start = end.start() if self.pending[end.start()] == 0x2e else end.start() + 1
        content = bytes(self.pending[:start])
        del self.pending[:end.end()]
        return content

    def say(self, text):
        wire = (text + "\r\n").encode("latin-1")
        limit = self.give_at_most
        if limit is not None and self.given + len(wire) > limit:
            wire = wire[:limit - self.given]
            self.given += len(wire)
            if wire:
                self.sock.sendall(wire)
            raise Cut
        self.given += len(wire)
        self.sock.sendall(wire)

    def start_tls(self):
        self.say("220 2.0.0 go")
        assert not self.pending
        self.sock = self.backend.context.wrap_socket(self.sock, server_side=True)
        self.tls = True

    def deliver(self, content, chunked=False):
        said = self.backend.judge(self, "dot", content)
        message = self.backend.keep(self, content, said)
        message.chunked = chunked
        self.transaction = Transaction()
        self.say(message.reply)
        message.answered = True

    def run(self):
        self.say(self.backend.judge(self, "banner", "") or "220 backend ESMTP")
        while True:
            line = self.line()
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            self.backend.commands.append(line)
            answer = getattr(self, "on_" + verb.lower(), None)
            if answer is None:
                self.backend.complain(f"unknown command {line!r}")
                self.say("500 5.5.2 what")
            elif answer(line, argument) is False:
                return

    def refused(self, step, line):
        said = self.backend.judge(self, step, line)
        if said:
            self.say(said)
        return bool(said)

    def on_ehlo(self, line, argument):
        self.helo = argument
        self.transaction = Transaction()
        if self.refused("ehlo", line):
            return
        extensions = list(self.backend.extensions)
        if self.backend.context and not self.tls:
            extensions.append("STARTTLS")
        self.say("\r\n".join(["250-backend"] + ["250-" + e for e in extensions[:-1]] + ["250 " + extensions[-1]]))

    on_helo = on_ehlo

    def on_starttls(self, line, _):
        if not self.refused("starttls", line):
            self.start_tls()

    def on_xclient(self, line, argument):
        if self.refused("xclient", line):
            return
        self.client = re.search(r"ADDR=(\S+)", argument).group(1)
        self.port = int(re.search(r"PORT=(\d+)", argument).group(1))
        self.say("220 backend ESMTP")

    def on_mail(self, line, argument):
        if self.transaction.sender is not None:
            self.backend.complain("MAIL inside a transaction")
        if self.refused("mail", line):
            return
        self.transaction.sender = re.match(r"FROM:<(.*?)>(?: |$)", argument).group(1)
        self.say("250 2.1.0 Ok")

    def on_rcpt(self, line, argument):
        if self.transaction.sender is None:
            self.say("503 5.5.1 MAIL first")
        elif not self.refused("rcpt", line):
            self.transaction.recipients.append(re.match(r"TO:<(.*)>$", argument).group(1))
            self.say("250 2.1.5 Ok")

    def on_data(self, line, _):
        if not self.transaction.recipients:
            self.say("554 5.5.1 No valid recipients")
        elif not self.refused("data", line):
            self.say("354 go on")
            self.deliver(self.body())

    def on_bdat(self, line, argument):
        """RFC 3030: counted octets; here they are kept until the last chunk."""
        octets, _, last = argument.partition(" ")
        while len(self.pending) < int(octets):
            self.receive()
        self.transaction.chunks += bytes(self.pending[:int(octets)])
        del self.pending[:int(octets)]
        if not self.transaction.recipients:
            self.say("554 5.5.1 No valid recipients")
        elif not last:
            self.say("250 2.0.0 Ok")
        else:
            self.deliver(self.transaction.chunks, chunked=True)

    def on_rset(self, line, _):
        self.transaction = Transaction()
        if not self.refused("rset", line):
            self.say("250 2.0.0 Ok")

    def on_quit(self, *_):
        self.say("221 2.0.0 Bye")
        return False


class Recorder(Listener):
    """`judge(dialog, step, text)` returns None, or a reply that replaces the ordinary one; it may raise Cut."""

    def __init__(self, port, judge=None, certificate=None, extensions=EXTENSIONS, host=BACKEND, dialog=Dialog):
        self.judge = judge or (lambda dialog, step, text: None)
        self.extensions = extensions
        self.dialog = dialog
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        # For future connections, one each: the most octets that it sends and reads (None: any number), and
        # what it then does, "close" or "stall".
        self.faults = collections.deque()
        self.messages, self.accepted, self.commands, self.violations = [], [], [], []
        self.most_given = self.most_taken = self.serial = 0
        self.lock = threading.Lock()
        self.open = set()
        super().__init__(host, port)

    def crash(self):
        """Acts as if the machine were switched off: no listener, no connection. listen() brings it back."""
        self.deafen()
        for dialog in list(self.open):
            try:
                # Not SSLSocket's own, after which it would read on without TLS.
                socket.socket.shutdown(dialog.sock, socket.SHUT_RDWR)
            except OSError:
                pass

    def serve_and_close(self, sock, listener):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(120)
        dialog = self.dialog(self, sock)
        self.open.add(dialog)
        try:
            if listener.fileno() < 0:  # switched off meanwhile, and crash() did not know of this one
                sock.shutdown(socket.SHUT_RDWR)
            dialog.run()
        except Cut:
            if dialog.fault == "stall":
                self.ended.wait(60)
        except (OSError, ConnectionError, ValueError):
            pass
        except Exception as error:  # what the relay wrote was not even SMTP
            self.complain(f"{type(error).__name__}: {error}")
        finally:
            self.most_given = max(self.most_given, dialog.given)
            self.most_taken = max(self.most_taken, dialog.taken)
            self.open.discard(dialog)
            dialog.sock.close()

    def keep(self, dialog, content, said):
        with self.lock:
            serial = self.serial = self.serial + 1
            message = Message(serial, dialog.transaction.sender, dialog.transaction.recipients, dialog.client,
                              dialog.helo, dialog.tls, content, said or f"250 2.0.0 Ok: queued as {serial}")
            self.messages.append(message)
            if message.reply.startswith("2"):
                self.accepted.append(message)
        return message

    def complain(self, text):
        self.violations.append(text)

    def forget(self):
        """Forgets the messages; numbers continue."""
        with self.lock:
            self.messages, self.accepted, self.commands = [], [], []
