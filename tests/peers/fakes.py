"""Servers that only tests have: a mail server and a name server that do as they are told.

recorder.py has the backend that writes everything down and believes everything.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import socket
import struct
import threading

from bed import BACKEND, SCRIPTED_PORT


class Listener:
    """Serves each connection by serve(), on a thread of its own. close() sets `ended`, for what waits there."""

    def __init__(self, address, port):
        self.address, self.port, self.connections = address, port, 0
        self.ended = threading.Event()
        self.listen()

    def listen(self):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self.listener = socket.create_server((self.address, self.port), family=family, backlog=500)
        self.thread = threading.Thread(target=self.accept, args=(self.listener,), daemon=True)
        self.thread.start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve_and_close, args=(sock, listener), daemon=True).start()

    def serve_and_close(self, sock, _listener):
        try:
            sock.settimeout(120)
            self.serve(sock)
        except (OSError, ValueError, IndexError, struct.error):  # the client has gone, or makes no sense
            pass
        finally:
            sock.close()

    def deafen(self):
        """Nobody is served any more. The address is free when this returns."""
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.thread.join(10)
            self.listener.close()

    def close(self):
        self.ended.set()
        self.deafen()


class HangUp(Exception):
    """The server closes the connection without another word."""


class Talk:
    """One connection to a MailServer: the lines of the envelope so far, and the mail data behind it."""

    def __init__(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.file = sock, sock.makefile("rb")
        self.secure, self.envelope, self.body = False, [], b""

    def say(self, text):
        self.sock.sendall(text.encode("latin-1") + b"\r\n")

    def start_tls(self, context):
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.file, self.secure = self.sock.makefile("rb"), True

    def close(self):
        self.file.close()
        self.sock.close()


class MailServer(Listener):
    """Takes all mail; with a `context` it has STARTTLS. To make another of it, override reply(), offers() or
    keep(). The steps are banner, ehlo (or helo), starttls, mail, rcpt, data, dot, rset, quit and any other verb."""

    REPLIES = {"banner": "220 mx ESMTP", "starttls": "220 go", "data": "354 go", "dot": "250 2.0.0 kept",
               "quit": "221 2.0.0 Bye"}

    def __init__(self, address, port=25, context=None):
        self.context, self.commands, self.messages = context, [], []
        super().__init__(address, port)

    def offers(self, talk):
        return ["STARTTLS"] if self.context is not None and not talk.secure else []

    def reply(self, talk, step, line):
        """What is said at this step; it may raise HangUp instead."""
        if step == "ehlo":
            return "\r\n".join(["250-mx", *(f"250-{offer}" for offer in self.offers(talk)), "250 PIPELINING"])
        return self.REPLIES.get(step, "250 2.0.0 Ok")

    def keep(self, talk):
        """A message has come; it is not answered yet."""
        self.messages.append(talk.body)

    def break_off(self, lines):
        """The client has gone in the middle of a message."""

    def serve(self, sock):
        talk = Talk(sock)
        try:
            talk.say(self.reply(talk, "banner", b""))
            while line := talk.file.readline():
                self.commands.append(line)
                if not self.answer(talk, line):
                    return
        except HangUp:
            pass
        finally:
            talk.close()

    def answer(self, talk, line):
        step = line[:4].decode("latin-1").strip().lower()
        step = {"helo": "ehlo", "star": "starttls", "xcli": "xclient"}.get(step, step)
        reply = self.reply(talk, step, line)
        talk.say(reply)
        if step in ("mail", "rset"):
            talk.envelope = []
        if step in ("mail", "rcpt"):
            talk.envelope.append(line.decode("latin-1").strip())
        if step == "starttls" and reply.startswith("220"):
            talk.start_tls(self.context)
        if step == "data" and reply.startswith("354"):
            self.take(talk)
        return step != "quit"

    def take(self, talk):
        lines = []
        while (line := talk.file.readline()) != b".\r\n":
            if not line:
                self.break_off(lines)
                raise HangUp
            lines.append(line)
        talk.body = b"".join(lines)
        self.keep(talk)
        talk.say(self.reply(talk, "dot", line))
        talk.envelope = []


class ScriptedBackend(MailServer):
    """A backend that plays `script`: step -> reply text, "close", "stall" or "garbage". The step "body" is
    the first line of a message. Complete messages are kept in `messages`."""

    ORDINARY = {"banner": "220 b ESMTP", "xclient": "220 b ESMTP", "mail": "250 2.1.0 Ok",
                "rcpt": "250 2.1.5 Ok", "data": "354 go", "dot": "250 2.0.0 Ok",
                "rset": "250 2.0.0 Ok", "quit": "221 2.0.0 Bye",
                "ehlo": "250-b\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-XCLIENT NAME ADDR PORT "
                        "REVERSE_NAME DESTADDR DESTPORT\r\n250 ENHANCEDSTATUSCODES"}

    def __init__(self, script=None, pipelining=True):
        self.script = script or {}
        self.ordinary = dict(self.ORDINARY)
        if not pipelining:
            self.ordinary["ehlo"] = self.ordinary["ehlo"].replace("250-PIPELINING\r\n", "")
        super().__init__(BACKEND, SCRIPTED_PORT)

    def reply(self, talk, step, line):
        talk.introduced = getattr(talk, "introduced", False) or step == "xclient"
        # What is scripted holds only for a client's own session; the relay's look-round is served.
        play_it = step in self.script and (talk.introduced or step == "banner")
        text = self.script[step] if play_it else self.ordinary.get(step, "500 5.5.2 what")
        if text == "stall":
            self.ended.wait(60)
        if text in ("close", "stall"):
            raise HangUp
        return "\0\xff what?" if text == "garbage" else text

    def take(self, talk):
        if self.script.get("body") == "close":
            talk.file.readline()
            raise HangUp
        super().take(talk)


def question_of(packet):
    """(name, number of the type, its end) of a query."""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1").lower())
        at += packet[at] + 1
    return ".".join(labels), struct.unpack("!H", packet[at + 1:at + 3])[0], at + 5


class Questions(Listener):
    """Questions to the DNS, over UDP and TCP; answer() has the packet of the answer, or None for silence."""

    def __init__(self, address, port):
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, port))
        super().__init__(address, port)
        self.udp_thread = threading.Thread(target=self.serve_udp, daemon=True)
        self.udp_thread.start()

    def serve_udp(self):
        while not self.ended.is_set():
            try:
                packet, client = self.udp.recvfrom(4096)
            except OSError:
                return
            if packet:  # otherwise it is shut down
                threading.Thread(target=self.answer_udp, args=(packet, client), daemon=True).start()

    def answer_udp(self, packet, client):
        try:
            reply = self.answer(packet, False)
            if reply is not None:
                self.udp.sendto(reply, client)
        except OSError:
            pass

    def serve(self, sock):
        file = sock.makefile("rb")
        while len(head := file.read(2)) == 2:
            reply = self.answer(file.read(struct.unpack("!H", head)[0]), True)
            if reply is None:
                return
            sock.sendall(struct.pack("!H", len(reply)) + reply)

    def close(self):
        super().close()
        try:
            self.udp.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # of a datagram socket, which wakes all the same
        self.udp_thread.join(10)
        self.udp.close()


class NameServer(Questions):
    """Answers from `records`: (name, type) -> values, a response code, or "silence". A name of which nothing
    is said does not exist. What was asked is kept in `asked`."""

    TYPES = {1: "A", 28: "AAAA", 12: "PTR"}

    def __init__(self, address, port, records):
        self.records, self.asked = records, []
        super().__init__(address, port)

    def answer(self, query, over_tcp):
        name, number, end = question_of(query)
        kind = self.TYPES.get(number, str(number))
        self.asked.append((name, kind))
        known = any(n == name for n, _ in self.records)
        values = self.records.get((name, kind), [] if known else 3)
        if values == "silence":
            return None
        code, values = (values, []) if isinstance(values, int) else (0, values)
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", number, 1, 60, len(v)) + v
                           for v in (self.value(number, v) for v in values))
        reply = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(values), 0, 0) + query[12:end] + records
        if over_tcp or len(reply) <= 512:
            return reply
        # What is longer has to be asked for by TCP.
        return query[:2] + struct.pack("!HHHHH", 0x8780 | code, 1, 0, 0, 0) + query[12:end]

    @staticmethod
    def value(number, text):
        if number == 12:
            return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in text.split(".")) + b"\0"
        return socket.inet_pton(socket.AF_INET if number == 1 else socket.AF_INET6, text)
