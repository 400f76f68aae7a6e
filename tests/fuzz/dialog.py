"""Random dialogs with a running relay-in or relay-out, and a backend whose mood may change at every step.

Clients say valid and invalid things in any order, pipelined or cut to pieces, in plain text and under TLS, and vanish at
any point. Whatever happens, the promises hold. Every message that the backend has accepted was ended by its client with
CRLF.CRLF, goes to exactly those recipients that the client was granted, equals what was sent (bare newlines made
canonical), and has the client's true address. Every 250 for a message is the backend's own for that very message. Every
command gets exactly one well-formed reply. With relay-out (--side out, spool) the client's address is not checked; if it
stores, a 250 is kept if each recipient gets the message in the end or is still in the spool.

usage: POSTERN_PROGRAM=.../dialog.py tests/peers/run.sh [--seconds N] [--seed S] [--only DIALOG] [--side in|out|spool]
The same seed makes the same dialogs; a failure names the dialog, which --only runs alone. Speaks TAP.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import os
import random
import re
import socket
import ssl
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))

from bed import CLIENT4, CLIENT6, OTHER4, RELAY4, RELAY6, SCRIPTED_PORT, SIDES, Bed, read  # noqa: E402
from canonical import canonical, canonical_chunks  # noqa: E402
from recorder import EXTENSIONS, Cut, Recorder  # noqa: E402

CLIENTS = 6  # at a time
REPLY = re.compile(rb"([2-5]\d\d)(?:-[\x20-\x7e]*\r\n\1)*(?: [\x20-\x7e]*)?\r\n")
SERIAL = re.compile(rb"queued as (\d+)")
MOODS = {  # the backend's reply instead of the ordinary one; None: it hangs up, "...": it says nothing
    "ehlo": ["450 4.7.1 not now", None],
    "xclient": ["421 4.3.2 full", "554 5.7.1 never", "450 4.7.1 later", None],
    "mail": ["450 4.1.8 who", "553 5.1.8 no", "421 4.3.2 bye", None],
    "rcpt": ["550 5.1.1 unknown", "450 4.2.0 later", "421 4.3.2 bye", None, "550-5.1.1 no\r\n550 5.1.1 such user"],
    "data": ["451 4.3.0 disk", "554 5.3.0 no", "421 4.3.2 bye", None],
    "dot": ["451 4.3.0 disk", "554 5.7.1 spam", "421 4.3.2 bye", None, None, "..."],
    "rset": ["421 4.3.2 bye", None],
}
PLACED = {"Postmaster": "Postmaster@example.com"}  # RFC 5321 4.5.1: it has no domain of its own
PIECES = [b"\r\n", b"\r\n", b"\n", b"\r", b".", b"..", b"\0", b"\r\n.\r\n", b"\r\n.\n", b"\n.\r\n", b"\n.\n", b"\r.\r",
          b"\r\n..\r\n", b"text", b"\xe2\x82\xac\xff", b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<b@example.com>\r\n",
          b"DATA\r\n", b"QUIT\r\n", b"Received: x\r\n", b"\r\n\r\n", b"y" * 998, b"z" * 20000]
JUNK = [b"NOOP", b"noop x", b"HELP", b"VRFY a", b"VRFY", b"RSET", b"RSET x", b"EXPN a", b"ETRN a", b"AUTH PLAIN AA==",
        b"XCLIENT NAME=a ADDR=192.0.2.1", b"XFORWARD ADDR=192.0.2.1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", b"WHAT",
        b"", b" ", b"\0\1\2", b"\xff\xfe", b"EHLO", b"EHLO a b", b"HELO <>", b"MAIL", b"MAIL FROM a@b", b"MAIL FROM:<a@b",
        b"MAIL FROM:<x@sender.example> SIZE=99999999999", b"MAIL FROM:<x@sender.example> FOO=1", b"RCPT TO:<>", b"RCPT",
        b"RCPT TO:<u@other.example>", b"RCPT TO:<u%other.example@example.com>", b"RCPT TO:<@example.com:u@other.example>",
        b"RCPT TO:<a@example.com> FOO", b"DATA x", b"STARTTLS x", b"x" * 600, b"NOOP " + b"x" * 5000]


class Broken(AssertionError):
    """Checks a promise."""


class Wire:
    """The client's connection and what became of it."""

    def __init__(self, rng):
        self.rng = rng
        self.source = rng.choice([CLIENT4, OTHER4, CLIENT6])
        v6 = ":" in self.source
        self.sock = socket.create_connection((RELAY6 if v6 else RELAY4, 25), 30, source_address=(self.source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self.sock.getsockname()[1]
        self.heard = b""
        self.last_code = 0
        self.tls = False

    def send(self, data):
        """Sends it whole, or in pieces with pauses between them."""
        cuts = sorted(self.rng.randrange(len(data) + 1) for _ in range(self.rng.choice([0, 0, 0, 1, 2])))
        for start, end in zip([0] + cuts, cuts + [len(data)]):
            if data[start:end]:
                self.sock.sendall(data[start:end])
            if end < len(data):
                time.sleep(0.001)

    def reply(self):
        while True:
            match = REPLY.match(self.heard)
            if match:
                self.heard = self.heard[match.end():]
                self.last_code = int(match[1])
                return self.last_code, match[0]
            if b"\n" in self.heard and not re.match(rb"([2-5]\d\d)-", self.heard):
                raise Broken(f"no reply: {self.heard[:300]!r}")
            piece = self.sock.recv(65536)
            if not piece:
                if self.heard:
                    raise Broken(f"half a reply: {self.heard[:300]!r}")
                raise ConnectionError
            self.heard += piece

    def start_tls(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.tls = True

    def vanish(self):
        if self.rng.random() < 0.5:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class Sent:
    """A message as its client sees it. `form` turns the data into what must arrive."""

    def __init__(self, source, recipients, data, form):
        self.source, self.recipients, self.data, self.form = source, recipients, data, form
        self.ended, self.told = False, None

    def expected(self, chunked):
        out = self.form(self.data, chunked)
        # A first line that would continue the relay's own Received field becomes body.
        return (b"\r\n" if out[:1] == b" " else b"") + out


class Dialog:
    def __init__(self, run, name):
        self.run, self.name = run, name
        self.rng = random.Random(f"{name} client")
        self.sent = {}  # by sender
        self.count = 0
        self.sender, self.granted = None, []
        self.trace = []

    def play(self):
        wire = self.wire = Wire(self.rng)
        self.run.moods[wire.port] = self.run.moods[self.name] = random.Random(f"{self.name} backend") if self.rng.random() < 0.6 else None
        try:
            if wire.reply()[0] != 220:
                return
            for _ in range(self.rng.randrange(1, 14)):
                if not self.step():
                    break
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass  # input after the last command is answered by a reset, which may overtake the reply
        except ConnectionError:
            # It may close after these only (BDAT, HTTP: 500 and 502).
            if wire.last_code not in (421, 221, 554, 500, 502):
                raise Broken(f"closed after {wire.last_code}") from None
        except TimeoutError:
            raise Broken("no reply in time") from None
        finally:
            wire.sock.close()

    def step(self):
        """True if the dialog goes on."""
        chance = self.rng.random()
        if chance < 0.03:
            self.trace.append("vanish")
            self.wire.vanish()
            return False
        if chance < 0.10 and not self.wire.tls:
            return self.say([b"STARTTLS"])
        lines = self.group()
        return self.say(lines) and (lines[-1] == b"DATA" or self.rng.random() < 0.6 or self.chunks())

    def chunks(self):
        """Sends a message by BDAT. Its chunks are read whatever the reply is."""
        rng = self.rng
        data = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        cuts = [0] + sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 2]))) + [len(data)]
        parts = [data[a:b] for a, b in zip(cuts, cuts[1:])]
        sender, granted = self.sender, self.granted
        self.sender, self.granted = None, []
        sent = Sent(self.wire.source, granted, data, canonical_chunks)
        if granted:
            self.sent[sender] = sent
        self.trace.append(f"chunks {[p[:60] for p in parts]}")
        wire = [b"BDAT %d%s\r\n" % (len(part), b" LAST" if i + 1 == len(parts) else b"") + part
                for i, part in enumerate(parts)]
        if rng.random() < 0.1:
            self.wire.send(b"".join(wire)[:-1] if wire[-1][-1:] != b"\n" or parts[-1] else b"BDAT 5 LAST\r\nhalf")
            self.wire.vanish()
            return False
        replies, together = [], rng.random() < 0.5
        for i, piece in enumerate([b"".join(wire)] if together else wire):
            sent.ended = together or i + 1 == len(wire)
            self.wire.send(piece)
            for _ in range(len(wire) if together else 1):
                replies.append(self.wire.reply())
                self.trace.append(f"chunk told {replies[-1]}")
                if replies[-1][0] == 421:
                    return False
        if not granted and replies[0][0] == 503:
            self.sender = sender  # out of sequence: nothing has changed
        good = [code == 250 for code, _ in replies]
        if good[-1] and not granted:
            raise Broken("a message without a recipient was taken")
        if False in good and any(good[good.index(False):]):
            raise Broken(f"chunks taken behind one that was not: {replies}")
        if not all(good[:-1]):
            sent.ended = False  # it failed before its last chunk
        sent.told = replies[-1]
        if self.run.reject and canonical_chunks(data, True) != data and sent.told[0] == 250:
            raise Broken(f"bare newlines were not refused: {sent.told}")
        return True

    def group(self):
        """Sends commands in one write. DATA is always the last, because only its reply tells what follows."""
        lines = []
        kind = self.rng.random()
        if kind < 0.25:
            lines.append(self.rng.choice([b"EHLO ", b"HELO ", b"ehlo "]) + b"c%d.example" % self.rng.randrange(100))
        if kind > 0.20:
            self.count += 1
            sender = f"s{self.count}.{self.name}@sender.example"
            lines.append(f"MAIL FROM:<{sender}>".encode() + self.rng.choice([b"", b"", b" SIZE=100", b" BODY=8BITMIME"]))
            lines += [self.rng.choice([b"RCPT TO:<a@example.com>", b"RCPT TO:<B@EXAMPLE.com>", b"rcpt to:<Postmaster>",
                                       b"RCPT TO:<\"a b\"@example.com>", b"RCPT TO:<u@other.example>"])
                      for _ in range(self.rng.choice([0, 1, 1, 2, 5]))]
        for _ in range(self.rng.choice([0, 0, 0, 1, 2])):
            lines.insert(self.rng.randrange(len(lines) + 1), self.rng.choice(JUNK))
        if self.rng.random() < 0.6:
            lines.append(b"DATA")
        if self.rng.random() < 0.05:
            lines = lines + [b"QUIT"] if lines[-1:] != [b"DATA"] else lines
        return lines or [b"NOOP"]

    def say(self, lines):
        if self.rng.random() < 0.5:
            self.wire.send(b"".join(line + b"\r\n" for line in lines))
            for line in lines:
                if not self.hear(line):
                    return False
            return True
        for line in lines:
            self.wire.send(line + b"\r\n")
            if not self.hear(line):
                return False
        return True

    def hear(self, line):
        """Reads the reply to one command and updates the transaction."""
        code, text = self.wire.reply()
        self.trace.append(f"{line[:60]!r} {code}")
        verb = line[:4].upper()
        positive = code // 100 == 2
        if verb == b"STAR" and code == 220:
            self.wire.start_tls()
            self.sender, self.granted = None, []
            return True
        if code == 354:
            return self.data()
        if verb in (b"EHLO", b"HELO", b"RSET") and positive or line == b"DATA" and code != 503:
            self.sender, self.granted = None, []
        elif verb == b"MAIL" and positive:
            self.sender, self.granted = re.search(rb":<?([^> ]*)", line)[1].decode(), []
        elif verb == b"RCPT" and positive:
            self.granted.append(re.search(rb"<(.*)>", line)[1].decode())
        elif verb == b"RCPT" and b"other.example" in line and positive:
            raise Broken("relaying granted")
        return code not in (221, 421)

    def data(self):
        rng = self.rng
        if not self.granted:
            raise Broken("354 without a recipient")
        data = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        out, end = canonical(data)
        vanish = rng.random() < 0.1
        if end is None and not vanish:
            data += b"x\r\n.\r\n"
            out, end = canonical(data)
        elif end is not None:
            data = data[:end]
        sent = self.sent[self.sender] = Sent(self.wire.source, self.granted, data, lambda d, _: canonical(d)[0])
        self.sender, self.granted = None, []
        sent.ended = end is not None
        self.trace.append(f"data {data[:200]!r} ended={sent.ended}")
        self.wire.send(data)
        if vanish and (not sent.ended or rng.random() < 0.5):
            self.wire.vanish()
            return False
        sent.told = self.wire.reply()
        self.trace.append(f"told {sent.told}")
        if self.run.reject and end is not None and data[:-3] != out:
            if sent.told[0] not in (550, 421, 451, 450, 554):
                raise Broken(f"bare newlines were not refused: {sent.told}")
            sent.ended = False
        return sent.told[0] != 421


class Run:
    def __init__(self, bed, reject, chunked, side):
        self.reject, self.chunked, self.moods, self.side = reject, chunked, {}, side
        self.calm = False  # at the end the backend accepts everything
        self.backend = Recorder(SCRIPTED_PORT, judge=self.judge, certificate=(bed.cert, bed.key),
                                extensions=EXTENSIONS[:-1] + ("CHUNKING",) * chunked + EXTENSIONS[-1:])
        self.relay = SIDES[side](bed, backend_port=SCRIPTED_PORT, backend='command_timeout = "1s"; reply_timeout = "1s";',
                           limits="errors = 1000; connections_per_client = 1000; refused_recipients = 100;",
                           inner=f'bare_newlines = "{"reject" if reject else "normalize"}";')
        self.dialogs, self.failures = [], []

    def mood_of(self, dialog, text):
        """Finds it by the client's port if the backend knows it, else by the sender."""
        if self.side == "in":
            return self.moods.get(dialog.port)
        sender = dialog.transaction.sender or text if isinstance(text, str) else dialog.transaction.sender
        named = re.search(r"s\d+\.([^@>]*)@", sender or "")
        return self.moods.get(named[1]) if named else None

    def judge(self, dialog, step, text):
        mood = self.mood_of(dialog, text)
        if step not in MOODS or mood is None or self.calm or mood.random() > 0.12:
            return None
        said = mood.choice(MOODS[step])
        if self.side == "spool" and said and said.startswith("5"):
            return None  # other tests check its notice to the sender
        if said is None:
            raise Cut
        if said == "...":
            self.backend.ended.wait(1.3)
            raise Cut
        return said

    def one(self, name):
        dialog = Dialog(self, name)
        self.dialogs.append(dialog)
        try:
            dialog.play()
        except Exception as error:
            if isinstance(error, OSError) and self.relay.process.poll() is not None:
                error = Broken(f"{self.relay.program} has died")
            self.failures.append((dialog, "".join(traceback.format_exception_only(error))))

    def many(self, prefix, seconds):
        numbers, end, lock = iter(range(10 ** 9)), time.monotonic() + seconds, threading.Lock()

        def work():
            while time.monotonic() < end and not self.failures and self.relay.process.poll() is None:
                with lock:
                    number = next(numbers)
                self.one(f"{prefix}{number}")

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def check(self):
        """Compares what the backend has with what the clients know."""
        sent = {sender: (dialog, message) for dialog in self.dialogs for sender, message in dialog.sent.items()}
        by_serial = {message.serial: message for message in self.backend.accepted}
        stores = self.side == "spool"
        for message in self.backend.messages:
            dialog, mine = sent.get(message.sender, (None, None))
            problem = None
            if mine is None:
                problem = "nobody has sent this"
            elif not mine.ended:
                problem = "delivered without the client's end of data"
            elif message.body() != mine.expected(message.chunked):
                problem = f"changed: {mine.expected(message.chunked)!r} became {message.body()!r}"
            elif message.recipients != self.placed(mine.recipients) and not (
                    stores and set(message.recipients) <= set(mine.recipients)):
                problem = f"recipients {mine.recipients} became {message.recipients}"
            elif self.side == "in" and message.client != ("IPV6:" if ":" in mine.source else "") + mine.source:
                problem = f"the client {mine.source} became {message.client}"
            if problem:
                self.failures.append((dialog, f"{problem}: {message}"))
        for dialog in self.dialogs:
            for sender, mine in dialog.sent.items():
                if stores:
                    self.check_stored(dialog, sender, mine)
                elif mine.told and mine.told[0] == 250:
                    serial = SERIAL.search(mine.told[1])
                    given = by_serial.get(int(serial[1])) if serial else None
                    if given is None or given.sender != sender:
                        self.failures.append((dialog, f"a 250 that the backend has not given: {mine.told}"))
        self.failures += [(None, v) for v in self.backend.violations]

    def placed(self, recipients):
        return [PLACED.get(r, r) if self.side == "in" else r for r in recipients]

    def check_stored(self, dialog, sender, mine):
        """Each recipient has the message once or is still queued; nobody has a refused one."""
        had = [r for message in self.backend.accepted if message.sender == sender for r in message.recipients]
        waits = self.waiting.get(sender, [])
        ok = mine.told and mine.told[0] == 250
        if ok and not set(had) | set(waits) >= set(mine.recipients):
            self.failures.append((dialog, f"lost: {mine.told}, {mine.recipients}, had {had}, waiting {waits}"))
        if mine.told and not ok and (had or waits):
            self.failures.append((dialog, f"refused and delivered: {mine.told}, had {had}, waiting {waits}"))
        if len(had) > len(mine.recipients):
            self.failures.append((dialog, f"doubled: {mine.recipients}, had {had}"))

    def finish(self):
        self.calm = True
        if self.side == "spool":
            self.relay.wait_empty(15)
            self.waiting = self.relay.waiting()
        self.check()
        try:
            self.relay.stop()
        except AssertionError as error:
            self.failures.append((None, f"{error}\n" + read(self.relay.log)[-3000:]))
        self.backend.close()
        told = sum(1 for d in self.dialogs for m in d.sent.values() if m.told and m.told[0] == 250)
        print(f"# {self.relay.program}, {'reject' if self.reject else 'normalize'}: {len(self.dialogs)} dialogs, "
              f"{sum(len(d.trace) for d in self.dialogs)} steps, {sum(len(d.sent) for d in self.dialogs)} messages sent, "
              f"{told} of them acknowledged, {len(self.backend.messages)} seen by the backend", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("DIALOG_SECONDS", 30)))
    parser.add_argument("--seed", default=os.environ.get("DIALOG_SEED", str(random.SystemRandom().randrange(10 ** 9))))
    parser.add_argument("--only")
    parser.add_argument("--side", default=os.environ.get("POSTERN_SIDE", "in"), choices=SIDES)
    arguments = parser.parse_args()
    print("1..3", flush=True)
    print(f"# seed {arguments.seed}", flush=True)
    bed, good = Bed(), True
    try:
        for number, reject, chunked in ((1, False, True), (2, False, False), (3, True, True)):
            run = Run(bed, reject, chunked, arguments.side)
            if arguments.only:
                run.one(arguments.only)
            else:
                run.many(f"{arguments.seed}-{number}-", arguments.seconds / 3)
            run.finish()
            good = good and not run.failures
            print(f"{'not ' if run.failures else ''}ok {number} - random dialogs, bare newlines "
                  f"{'refused' if reject else 'made canonical'}, backend with{'' if chunked else 'out'} CHUNKING", flush=True)
            if run.failures:
                print(f"# {run.relay.program}'s last words:\n# " + "\n# ".join(read(run.relay.log).splitlines()[-8:]))
            for dialog, text in run.failures[:3]:
                print(f"# {dialog.name if dialog else ''} {text[:1500]}".replace("\n", "\n# "))
                for line in dialog.trace[-40:] if dialog else []:
                    print("#   ", line[:400])
    finally:
        bed.close()
    return 0 if good else 1


sys.exit(main())
