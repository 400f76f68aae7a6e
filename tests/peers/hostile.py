"""Hostile clients and backends: smuggling, STARTTLS, faults of the other side, signals. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import time

import tap
from bed import BACKEND, CLIENT4, RELAY4, SCRIPTED_PORT, Client, read, wait_for
from canonical import canonical_chunks
from fakes import HangUp, MailServer
from recorder import EXTENSIONS, Recorder
from tap import scenario

# What follows "text" in mail data: the bytes, what the backend gets for them, whether they end the data, and
# whether they are canonical. The numbers are those in the table of the protocol notes.
ROWS = {
    "1 CRLF.CRLF": (b"\r\n.\r\n", b"\r\n", True, True),
    "2 LF.LF": (b"\n.\n", b"\r\n..\r\n", False, False),
    "3 LF.CRLF": (b"\n.\r\n", b"\r\n..\r\n", False, False),
    "4 CRLF.LF": (b"\r\n.\n", b"\r\n..\r\n", False, False),
    "5 CR.CR": (b"\r.\rx", b" . x", False, False),
    "6 CR.CRLF": (b"\r.\r\n", b" .\r\n", False, False),
    "7 CRLF.CR": (b"\r\n.\rx", b"\r\n. x", False, False),
    "8a CRLF NUL.CRLF": (b"\r\n\0.\r\n", b"\r\n .\r\n", False, False),
    "8b CRLF.NUL CRLF": (b"\r\n.\0\r\n", b"\r\n. \r\n", False, False),
    "9 CRCRLF.CRCRLF": (b"\r\r\n.\r\r\n", b" \r\n. \r\n", False, False),
    "10 CRLF.CRCRLF": (b"\r\n.\r\r\n", b"\r\n. \r\n", False, False),
    "11 CRCRLF.CRLF": (b"\r\r\n.\r\n", b" \r\n", True, False),
    "12a CRLF..CRLF": (b"\r\n..\r\n", b"\r\n..\r\n", False, True),
    "12b CRLF. CRLF": (b"\r\n. \r\n", b"\r\n. \r\n", False, True),
    "12c CRLF.x": (b"\r\n.x", b"\r\n.x", False, True),
    "13 LFCRLF.CRLF": (b"\n\r\n.\r\n", b"\r\n\r\n", True, False),
}
HEADER = b"Subject: x\r\n\r\n"
SMUGGLED = (b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nx")
ACCEPTED = re.compile(r"250 2\.0\.0 Ok: queued as (\d+)")


def recorder(world, **more):
    backend = Recorder(SCRIPTED_PORT, **more)
    world.backends.append(backend)
    return backend


def message_for(backend, reply):
    """The message that the backend's own 250 was for."""
    serial = int(ACCEPTED.search(reply[1]).group(1))
    return backend.messages[serial - 1]


def send_in_two(client, data, cut):
    client.send(data[:cut])
    if 0 < cut < len(data):
        # Long enough for the relay to read only the first part.
        time.sleep(0.0015)
    client.send(data[cut:])


def begin_data(client, recipient="a@example.com"):
    client.send(f"MAIL FROM:<s@sender.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n")
    codes = [client.reply()[0] for _ in range(3)]
    assert codes == [250, 250, 354], codes


def ready_client(tls=False, source=CLIENT4):
    client = Client(source)
    client.hello()
    if tls:
        client.starttls()
    return client


def check_row(backend, client, name, reject, cut):
    data, expected, ends, canonical = ROWS[name]
    if not ends:
        data, expected = data + b"y\r\n.\r\n", expected + b"y\r\n"
    before = len(backend.messages)
    begin_data(client)
    send_in_two(client, HEADER + b"text" + data, len(HEADER) + 4 + cut)
    reply = client.reply()
    client.cmd("NOOP", 250)  # no part of it was taken as a command, and there was no second reply
    if reject and not canonical:
        assert reply[0] == 550 and "5.5.2" in reply[1], (name, cut, reply)
        assert len(backend.messages) == before, (name, cut)
    else:
        assert len(backend.messages) == before + 1, (name, cut, reply)
        assert message_for(backend, reply).body() == HEADER + b"text" + expected, (name, cut)


def check_rows(world, mode, tls=False):
    backend = recorder(world)
    world.relay(backend_port=SCRIPTED_PORT, inner=f'bare_newlines = "{mode}";', limits="errors = 1000;")
    tried = 0
    for name, (data, _, ends, _) in ROWS.items():
        client = ready_client(tls)
        for cut in range(len(data) + (1 if ends else 6)):
            check_row(backend, client, name, mode == "reject", cut)
            tried += 1
        client.close()
    assert not backend.violations, backend.violations[:3]
    print(f"# {tried} messages")


@scenario("smuggling: each row of the table, cut at every octet, normalize")
def rows_normalize(world):
    check_rows(world, "normalize")


@scenario("smuggling: each row of the table, cut at every octet, reject")
def rows_reject(world):
    check_rows(world, "reject")


@scenario("smuggling: each row of the table in TLS records cut at every octet")
def rows_tls(world):
    check_rows(world, "normalize", tls=True)


def check_pair(backend, client, first, second, reject):
    """One row, a smuggled transaction, another row, a true end of data: one message, or none."""
    one, two = ROWS[first], ROWS[second]
    before = len(backend.messages)
    begin_data(client)
    client.send(HEADER + b"text" + one[0] + SMUGGLED + two[0])
    if not two[2]:
        client.send(b"y\r\n.\r\n")
    reply = client.reply()
    client.cmd("NOOP", 250)
    got = backend.messages[before:]
    if reject and not (one[3] and two[3]):
        assert reply[0] == 550 and not got, (first, second, reply, got)
        return
    assert reply[0] == 250 and len(got) == 1, (first, second, reply, got)
    expected = HEADER + b"text" + one[1] + SMUGGLED + two[1] + (b"" if two[2] else b"y\r\n")
    assert got[0].recipients == ["a@example.com"] and got[0].body() == expected, (first, second, got)


def check_pairs(world, mode):
    backend = recorder(world)
    world.relay(backend_port=SCRIPTED_PORT, inner=f'bare_newlines = "{mode}";', limits="errors = 1000;")
    for first, (_, _, ends, _) in ROWS.items():
        if ends:
            continue  # what follows then really is the client's next command
        client = ready_client()
        for second in ROWS:
            check_pair(backend, client, first, second, mode == "reject")
        client.close()
    assert not any("evil" in m.sender for m in backend.messages)
    assert not backend.violations, backend.violations[:3]


@scenario("smuggling: two rows with a smuggled transaction between them make one message, normalize")
def pairs_normalize(world):
    check_pairs(world, "normalize")


@scenario("smuggling: two rows with a smuggled transaction between them make one message or none, reject")
def pairs_reject(world):
    check_pairs(world, "reject")


@scenario("smuggling: behind a true end of data stand commands, and each is answered by the backend")
def behind_the_end(world):
    backend = recorder(world)
    world.relay(backend_port=SCRIPTED_PORT)
    client = ready_client()
    begin_data(client)
    client.send(HEADER + b"one\r\n.\r\n" + SMUGGLED + b"\r\n.\r\nQUIT\r\n")
    heard = [client.reply()[0] for _ in range(6)]
    assert heard == [250, 250, 250, 354, 250, 221], heard
    assert [m.sender for m in backend.messages] == ["s@sender.example", "evil@sender.example"]
    assert backend.messages[1].body() == b"Subject: smuggled\r\n\r\nx\r\n"


@scenario("smuggling: each row of the table in chunks (BDAT), cut at every octet, to backends of both kinds")
def rows_chunks(world):
    """Chunks go to a backend with CHUNKING; one greeted with HELO, which thus offers nothing, gets lines."""
    backend = recorder(world, extensions=EXTENSIONS[:-1] + ("CHUNKING",) + EXTENSIONS[-1:])
    world.relay(backend_port=SCRIPTED_PORT, limits="errors = 1000;")
    wait_for("the keeper's look", lambda: any(c.startswith("EHLO") for c in backend.commands))
    kinds = set()
    for hello in ("EHLO", "HELO"):
        client = Client()
        client.reply()
        wait_for("the offer", lambda: client.cmd("EHLO c.example", 250)[1].find("CHUNKING") > 0)
        client.cmd(f"{hello} c.example", 250)
        for name, (row, _, _, _) in ROWS.items():
            data = HEADER + b"text" + row + SMUGGLED
            for cut in range(len(row) + 1):
                first = len(HEADER) + 4 + cut
                assert client.envelope("a@example.com") == [250]
                client.send(b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (first, data[:first], len(data) - first, data[first:]))
                before = len(backend.messages)
                replies = [client.reply(), client.reply()]
                assert [r[0] for r in replies] == [250, 250], (hello, name, cut, replies)
                message = message_for(backend, replies[1])
                assert len(backend.messages) == before + 1 or message.serial == before
                kinds.add(message.chunked)
                assert message.body() == canonical_chunks(data, message.chunked), (hello, name, cut, message)
        client.cmd("NOOP", 250)
        client.close()
    assert kinds == {True, False} and not any("evil" in m.sender for m in backend.messages)
    assert not backend.violations, backend.violations[:3]


def vanish(client, how):
    if how == "reset":
        client.kill()
    elif how == "half-close":
        client.sock.shutdown(socket.SHUT_WR)
    else:  # under TLS: without close_notify
        socket.socket(fileno=os.dup(client.sock.fileno())).shutdown(socket.SHUT_RDWR)
        client.close()


@scenario("truncation: a client that vanishes after any octet of the data delivers nothing, plain and TLS")
def truncation(world):
    backend = recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT)
    data = b"A: b\r\n\r\nx\r\n.\r\n"
    count = 0
    for tls in (False, True):
        for how in ("close", "half-close", "reset"):
            for cut in range(len(data)):
                client = ready_client(tls)
                begin_data(client)
                client.send(data[:cut])
                vanish(client, how)
                count += 1
    wait_for("all to be aborted", lambda: read(relay.log).count("status=aborted") == count, 30)
    assert backend.messages == [] and not backend.violations, (backend.messages, backend.violations)
    client = ready_client(tls=True)
    begin_data(client)
    client.send(data)
    vanish(client, "close")  # after the end of data: the message counts
    wait_for("the delivery", lambda: len(backend.messages) == 1)


# -- STARTTLS

@scenario("starttls: plaintext after STARTTLS is never acted upon, wherever it is cut")
def injected_by_client(world):
    backend = recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT, limits="connections_per_client = 100;")
    injected = b"STARTTLS\r\nRSET\r\nMAIL FROM:<evil@sender.example>\r\nRCPT TO:<a@example.com>\r\n"
    for cut in range(11, 16):
        client = ready_client()
        client.send(injected[:cut])
        assert client.reply()[0] == 554 and client.gone()
    # After the 220, before the handshake: a broken handshake, not a command.
    client = ready_client()
    client.cmd("STARTTLS", 220)
    client.send(injected[10:])
    heard = client.sock.recv(4096)
    assert not re.match(rb"[2-5]\d\d[ -]", heard), heard  # an alert at most
    wait_for("the log", lambda: "event=tls-failed" in read(relay.log))
    # A command injected during the handshake must not take effect under TLS.
    client = ready_client()
    client.cmd("STARTTLS", 220)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_bio(incoming, outgoing, server_hostname="relay.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        client.send(outgoing.read() + b"NOOP\r\nEHLO evil.example\r\n")
    client.sock.settimeout(5)
    heard = b""
    try:
        while piece := client.sock.recv(4096):
            heard += piece
    except (TimeoutError, ConnectionError):
        pass
    assert b"250" not in heard, heard
    assert backend.commands == [] or not any("evil" in c for c in backend.commands), backend.commands


class TlsLiar(MailServer):
    """A backend that sends plain text after its 220 to STARTTLS, or hangs up there."""

    def __init__(self, world, how):
        self.how, self.rest = how, b""
        super().__init__(BACKEND, SCRIPTED_PORT)
        world.backends.append(self)

    def heard(self):
        return b"".join(self.commands) + self.rest

    def offers(self, talk):
        return ["XCLIENT NAME ADDR PORT"] if self.how == "no offer" else ["STARTTLS", "XCLIENT NAME ADDR PORT"]

    def reply(self, talk, step, line):
        if step == "xclient":
            return "220 liar ESMTP"
        if step != "starttls":
            return super().reply(talk, step, line)
        if self.how == "refuse":
            return "454 4.7.0 no"
        if self.how == "inject":
            talk.say("220 go\r\n250-liar\r\n250 XCLIENT NAME ADDR")
            self.rest += talk.file.read()
            raise HangUp
        talk.say("220 go")
        if self.how == "garbage":
            talk.file.read(1)
            talk.say("250 nothing of the kind\r\n" * 10)
        raise HangUp


@scenario("starttls: a backend that injects, refuses or breaks off gets no mail in plain text")
def injected_by_backend(world):
    for mode in ("mirror", "encrypt"):
        relay = world.relay(backend_port=SCRIPTED_PORT, backend=f'tls = "{mode}";')
        for how in ("inject", "refuse", "garbage", "close"):
            backend = TlsLiar(world, how)
            client = ready_client(tls=True)
            client.cmd("MAIL FROM:<s@sender.example>", 250)
            code, text = client.cmd("RCPT TO:<a@example.com>")
            assert code == 451, (mode, how, text)
            client.close()
            backend.close()
            heard = backend.heard()
            assert b"MAIL FROM" not in heard and b"XCLIENT" not in heard, (mode, how, heard)
            if how == "inject":
                assert "plaintext after the reply to STARTTLS" in read(relay.log)
        relay.stop()
        world.relays.remove(relay)


@scenario("starttls: where \"encrypt\" finds no offer (stripped on the way) nothing goes in plain text")
def stripped(world):
    world.relay(backend_port=SCRIPTED_PORT, backend='tls = "encrypt";')
    backend = TlsLiar(world, "no offer")
    client = ready_client(tls=True)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    code, text = client.cmd("RCPT TO:<a@example.com>")
    assert code == 451 and "4.3.5" in text, text
    heard = backend.heard()
    assert b"MAIL FROM" not in heard and b"ADDR" not in heard, heard


@scenario("starttls: what a backend offered before TLS does not hold under TLS")
def forgotten_offer(world):
    """XCLIENT is offered only in plain text: under TLS the identity cannot be sent, so nothing is delivered."""
    plain = ("PIPELINING", "XCLIENT NAME ADDR PORT REVERSE_NAME DESTADDR DESTPORT")

    def judge(dialog, step, _):
        if step == "xclient":
            return "550 5.7.0 insufficient authorization" if dialog.tls else None
        if step == "ehlo" and dialog.tls:
            return "250-backend\r\n250 PIPELINING"
        return None

    backend = recorder(world, judge=judge, extensions=plain, certificate=(world.bed.cert, world.bed.key))
    world.relay(backend_port=SCRIPTED_PORT)
    client = ready_client(tls=True)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", 451)
    client.cmd("DATA", 554)
    assert backend.messages == []


def s_client(*arguments):
    return subprocess.Popen(["openssl", "s_client", "-starttls", "smtp", "-crlf", "-bind", f"{CLIENT4}:0",
                             "-connect", f"{RELAY4}:25", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def read_until(process, pattern, seconds=10):
    """What the process prints until the pattern, its end or the timeout."""
    said, end = b"", time.monotonic() + seconds
    while not re.search(pattern, said) and time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.2)[0]:
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            said += piece
    return said


@scenario("tls: renegotiation that the client asks for ends its session and nothing else")
def renegotiation(world):
    backend = recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT)
    process = s_client("-tls1_2")
    try:
        assert b"Verify return code" in read_until(process, rb"250 \S+\r?\n|Verify return code[^\n]*\n---\n"), "no session"
        process.stdin.write(b"R\n")
        process.stdin.flush()
        said = read_until(process, rb"RENEGOTIATING[^\0]*(error|closed|errno)")
        assert b"RENEGOTIATING" in said, said
        process.stdin.write(b"EHLO after.example\n")
        process.stdin.flush()
        said += read_until(process, rb"250[ -]", 3)
        assert b"250-" not in said, said
        wait_for("the end of the session", lambda: "reason=lost" in read(relay.log))
    except BrokenPipeError:
        pass
    finally:
        process.kill()
        process.communicate()
    client = ready_client(tls=True)
    begin_data(client)
    client.send(b"x\r\n.\r\n")
    assert client.reply()[0] == 250 and len(backend.messages) == 1


@scenario("tls: versions below the minimum and a fallback (RFC 7507) are refused")
def downgrade(world):
    world.relay()
    for arguments in (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
                      ["-tls1_2", "-fallback_scsv"]):
        process = s_client(*arguments)
        said = process.communicate(timeout=20)[0]
        assert b"Cipher is (NONE)" in said and b"alert" in said, (arguments, said[-600:])


if __name__ == "__main__":
    sys.exit(tap.main(with_postfix=False))
