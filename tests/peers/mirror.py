"""A recording backend that supports everything that relay-in can pass on, and counts flights.

A flight is the input that arrives together: the backend waits until nothing has come for `gather` seconds, then
answers all of it in one send. So the number of flights is the number of round trips that the relay made the
client wait, independent of the clock.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import select
import socket
import ssl
import struct
import time

from bed import BACKEND, CLIENT4, SCRIPTED_PORT as PORT, Client, Relay, read, wait_for
from recorder import Cut, Dialog, Recorder, Transaction

FULL = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES",
        "XCLIENT NAME ADDR PORT REVERSE_NAME DESTADDR DESTPORT")
SILENCE = 0.05  # seconds of silence that show a spare is ready
GATHER = 0.04   # seconds, where flights are counted


class MirrorDialog(Dialog):
    def __init__(self, backend, sock):
        super().__init__(backend, sock)
        self.out, self.flights, self.lines, self.chunked = bytearray(), [], [], bytearray()
        self.peer = sock.getpeername()
        self.proxy = None        # (version, client's address) from the PROXY header
        self.introduced = False  # the client of this connection is known
        self.mail_line, self.rcpt_lines, self.bdats = "", [], 0
        self.open, self.version = True, None
        self.greeted, self.spoke_at = False, 0  # when anything was last sent either way
        backend.dialogs.append(self)

    def flush(self):
        out, self.out = bytes(self.out), bytearray()
        if out:
            self.sock.sendall(out)
            self.spoke_at, self.greeted = time.monotonic(), True

    def more(self):
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        return bool(select.select([self.sock], [], [], self.backend.gather)[0])

    def receive(self):
        self.flush()
        piece = self.sock.recv(65536)
        self.spoke_at = time.monotonic()
        while piece and self.backend.gather and self.more():
            another = self.sock.recv(65536)
            piece += another
            if not another:
                break
        if not piece:
            raise ConnectionError
        self.flights.append(piece[:60])
        self.pending += piece

    def take(self, count):
        while len(self.pending) < count:
            self.receive()
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def say(self, text):
        self.out += (text + "\r\n").encode("latin-1")

    def verdict(self, step, text):
        """Returns None or a reply, or plays one of the faults, which end here."""
        said = self.backend.judge(self, step, text)
        before = ("starttls",) if self.backend.proxy else ("banner", "xclient", "starttls")
        if said is None and (self.introduced or self.backend.nameless or step in before):
            said = self.backend.script.get(step)
        if said in ("close", "stall"):
            self.fault = said
            raise Cut
        return "\0\xff what?" if said == "garbage" else said

    def refused(self, step, line):
        said = self.verdict(step, line)
        if said:
            self.say(said)
        return bool(said)

    def alone(self, what):
        if self.pending:
            self.backend.complain(f"{bytes(self.pending)!r} behind {what}")

    def read_proxy(self):
        head = self.take(12)
        if head == b"\r\n\r\n\0\r\nQUIT\n":
            kind, family, length = struct.unpack(">BBH", self.take(4))
            rest = self.take(length)
            if kind == 0x20:
                return 2, None
            size = {0x11: 4, 0x21: 16}[family]
            return 2, socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, rest[:size])
        while not head.endswith(b"\r\n"):
            head += self.take(1)
        return 1, re.match(rb"PROXY TCP[46] (\S+) \S+ \d+ \d+\r\n\Z", head).group(1).decode()

    def run(self):
        try:
            if self.backend.proxy:
                self.proxy = self.read_proxy()
                self.introduced = self.proxy[1] not in (None, "10.0.0.1", "10.0.0.2")
                self.alone("the PROXY header")
            said = self.verdict("banner", "") or "220 backend ESMTP"
            self.say(said)
            while True:
                line = self.line()
                verb, _, argument = line.partition(" ")
                self.backend.commands.append(line)
                self.lines.append(line)
                answer = getattr(self, "on_" + verb.lower(), None)
                if answer is None:
                    self.backend.complain(f"unknown command {line!r}")
                    self.say("500 5.5.2 what")
                elif answer(line, argument) is False:
                    break
        finally:
            self.open = False
            try:
                self.flush()
            except OSError:
                pass

    def start_tls(self):
        self.alone("STARTTLS")
        self.say("220 2.0.0 go")
        self.flush()
        self.sock = self.backend.context.wrap_socket(self.sock, server_side=True)
        self.tls, self.version = True, self.sock.version()

    def on_ehlo(self, line, argument):
        self.alone(line)
        super().on_ehlo(line, argument)

    on_helo = on_ehlo

    def on_xclient(self, line, argument):
        self.alone(line)
        self.introduced = True
        super().on_xclient(line, argument)

    def on_mail(self, line, argument):
        self.mail_line, self.rcpt_lines, self.bdats, self.chunked = line, [], 0, bytearray()
        super().on_mail(line, argument)

    def on_rcpt(self, line, argument):
        if self.transaction.sender is None:
            self.say("503 5.5.1 MAIL first")
        elif not self.refused("rcpt", line):
            self.rcpt_lines.append(line)
            self.transaction.recipients.append(re.match(r"TO:<(.*?)>(?: |$)", argument).group(1))
            self.say("250 2.1.5 Ok")

    def finish(self, step, content, chunked):
        message = self.backend.keep(self, content, self.verdict(step, content))
        message.chunked = chunked
        message.mail, message.rcpts, message.bdats = self.mail_line, self.rcpt_lines, self.bdats
        self.transaction = Transaction()
        self.say(message.reply)

    def deliver(self, content, chunked=False):
        self.finish("last" if chunked else "dot", content, chunked)

    def on_bdat(self, line, argument):
        size, _, last = argument.partition(" ")
        data = self.take(int(size))
        self.bdats += 1
        if not self.transaction.recipients:
            self.say("503 5.5.1 RCPT first")
            return
        said = None if last else self.verdict("bdat", line)
        if said:
            self.transaction = Transaction()
            self.say(said)
            return
        self.chunked += data
        if last:
            self.deliver(bytes(self.chunked), chunked=True)
        else:
            self.say("250 2.0.0 chunk")

    def on_auth(self, line, argument):
        self.introduced = True
        if not self.refused("auth", line):
            self.say("235 2.7.0 in")


class Mirror(Recorder):
    def __init__(self, port, script=None, judge=None, certificate=None, extensions=FULL, gather=0, proxy=False,
                 host=BACKEND, nameless=False):
        """`nameless`: no client is introduced, and the script holds for every connection."""
        self.script, self.gather, self.proxy, self.dialogs = script or {}, gather, proxy, []
        self.nameless = nameless
        super().__init__(port, judge, certificate, extensions, host, MirrorDialog)

    def held(self):
        """The connections that are open now."""
        return [d for d in self.dialogs if d.open]

    def idle(self):
        """Those of them that are unused and ready: the greeting and the first commands are done. A relay that is
        still busy with one is not silent that long."""
        now = time.monotonic()
        return [d for d in self.held() if d.greeted and not d.introduced and now - d.spoke_at > SILENCE
                and (not d.lines or d.lines[-1].startswith("EHLO"))]

    def drop(self, dialogs):
        for dialog in dialogs:
            socket.socket.shutdown(dialog.sock, socket.SHUT_RDWR)  # SSLSocket's own would read on without TLS

    def say_goodbye(self):
        """Closes the backend and all its connections for good."""
        self.crash()
        self.close()


def mirror(world, port=PORT, **settings):
    backend = Mirror(port, **settings)
    world.backends.append(backend)
    return backend


def learned(source=CLIENT4, keyword="8BITMIME"):
    """Waits until relay-in knows what the backends offer, and offers it."""
    wait_for("the backend's offer", lambda: "event=backend-offer" in read(Relay.last.log))
    wait_for("the backend's offer", lambda: keyword in probe_ehlo(source))


def probe_ehlo(source=CLIENT4):
    client = Client(source)
    try:
        return client.hello()
    finally:
        client.close()


def wait_spares(backend, count):
    wait_for(f"{count} spares", lambda: len(backend.idle()) == count and len(backend.held()) == count)
    time.sleep(0.1)  # so that the relay has read the last reply too


def introduced(backend):
    return [d for d in backend.dialogs if d.introduced]
