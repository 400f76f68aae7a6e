"""What EHLO offers, and whether it works: chunks, DSN, SMTPUTF8, REQUIRETLS, LIMITS.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import hashlib
import os
import pwd
import re
import time

from bed import BACKEND, Client, read, wait_for
from connections import make_ca
from mirror import FULL, PORT, learned, mirror, probe_ehlo
from tap import scenario

XCLIENT = "XCLIENT NAME ADDR PORT REVERSE_NAME DESTADDR DESTPORT"
OWN_SIZE = 104857600


def keywords(text):
    """An EHLO reply as a set, without the host's name."""
    return {line[4:] for line in text.splitlines()[1:]}


ALWAYS = {"PIPELINING", "STARTTLS", "HELP"}


@scenario("ehlo: mirrors what the backend offers, for several sets of extensions")
def ehlo_mirrors(world):
    # what the backend has; what we offer besides ALWAYS
    table = [
        (("8BITMIME",), {"8BITMIME", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}),
        (("SIZE", "HELP"), {f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}),
        (("SIZE 0", "8BITMIME"), {"8BITMIME", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}),
        (("PIPELINING", "SIZE 1000000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "ETRN", "VRFY"),
         {"SIZE 1000000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=100"}),
        (("SIZE 999999999", "SMTPUTF8", "8bitmime", "Chunking"),
         {f"SIZE {OWN_SIZE}", "SMTPUTF8", "8BITMIME", "CHUNKING", "LIMITS RCPTMAX=100"}),
        # binary mail travels only in chunks
        (("BINARYMIME", "8BITMIME"), {"8BITMIME", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}),
        (("BINARYMIME", "CHUNKING", "8BITMIME", "LIMITS MAILMAX=3 RCPTMAX=7", "REQUIRETLS"),
         {"BINARYMIME", "CHUNKING", "8BITMIME", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=7"}),
        (("LIMITS RCPTMAX=5000", "AUTH PLAIN", "X-UNHEARD-OF"), {f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}),
    ]
    for has, offered in table:
        for spares_wanted in (0, 1):
            backend = mirror(world, extensions=has + (XCLIENT,))
            relay = world.relay(backend_port=PORT, backend=f'spares = {spares_wanted}; tls = "none";')
            heard = set()

            def as_wanted():
                nonlocal heard
                heard = keywords(probe_ehlo())
                return heard == offered | ALWAYS

            try:
                wait_for("the offer", as_wanted, 3)
            except AssertionError:
                raise AssertionError((has, "offered", heard, "wanted", offered | ALWAYS)) from None
            relay.stop()
            backend.close()


ASSUMED = ALWAYS | {"8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}


@scenario("ehlo: before the backend was ever seen all is offered, and what is missing then is 451; an outage changes nothing")
def ehlo_changes(world):
    world.relay(backend_port=PORT, backend="spares = 0;")
    assert keywords(probe_ehlo()) == ASSUMED
    held = []
    for mail, rcpt in ((" BODY=8BITMIME", ""), (" SMTPUTF8", ""), (" RET=HDRS", ""), ("", " NOTIFY=SUCCESS")):
        client = Client()
        client.hello()
        sender = "säbel" if "UTF8" in mail else "s"
        client.send(f"MAIL FROM:<{sender}@sender.example>{mail}\r\n".encode())
        assert client.reply()[0] == 250
        held.append((client, rcpt))
    first, _ = held[0]
    first.cmd("RCPT TO:<b@example.com>", 451)
    # relay-in learns the offer from the first message
    backend = mirror(world, extensions=("SIZE 5000", XCLIENT))
    for (client, rcpt), code in zip(held, (451, 451, 250, 451)):
        if client is first:
            client.cmd("RSET", 250)
            client.cmd("MAIL FROM:<s@sender.example> BODY=8BITMIME", 250)
        heard = client.cmd(f"RCPT TO:<a@example.com>{rcpt}")
        assert heard[0] == code, (rcpt, code, heard)
        client.close()
    backend.extensions = ("8BITMIME", "SIZE 5000", XCLIENT)
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [250]
    assert keywords(probe_ehlo()) == ALWAYS | {"8BITMIME", "SIZE 5000", "LIMITS RCPTMAX=100"}
    assert client.data("x\r\n")[0] == 250
    # and from each later one
    backend.extensions = ("SMTPUTF8", "8BITMIME", "DSN", XCLIENT)
    client.cmd("EHLO again.example", 250)
    assert client.envelope("a@example.com") == [250]
    changed = ALWAYS | {"SMTPUTF8", "8BITMIME", "DSN", f"SIZE {OWN_SIZE}", "LIMITS RCPTMAX=100"}
    assert keywords(probe_ehlo()) == changed
    client.cmd("RSET", 250)
    backend.say_goodbye()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", 451)
    assert keywords(probe_ehlo()) == changed


@scenario("ehlo: with several backends, what all of them have; sizes and recipients are each domain's own")
def ehlo_of_two(world):
    mirror(world, PORT, extensions=("8BITMIME", "DSN", "SIZE 9000", "LIMITS RCPTMAX=50", XCLIENT))
    mirror(world, PORT + 1, extensions=("8BITMIME", "SMTPUTF8", "SIZE 8000", "LIMITS RCPTMAX=2", XCLIENT))
    world.relay(backend_port=PORT, limits="errors = 100;", inner=f'''backends = ( {{ domains = [ "other.example" ];
                retry_after = 0; hosts = [ "{BACKEND}:{PORT + 1}" ]; identity = "xclient"; }} );''')
    both = ALWAYS | {"8BITMIME", "SMTPUTF8", "SIZE 9000", "LIMITS RCPTMAX=50"}
    wait_for("both", lambda: keywords(probe_ehlo()) == both, 5)
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> SIZE=9001", 552)
    for domain, size, code in (("example.com", 8500, 250), ("other.example", 8500, 552), ("other.example", 7999, 250)):
        client.cmd(f"MAIL FROM:<s@sender.example> SIZE={size}", 250)
        heard = client.cmd(f"RCPT TO:<a@{domain}>")
        assert heard[0] == code, (domain, size, heard)
        client.cmd("RSET", 250)
    for domain, codes in (("example.com", [250, 250, 250]), ("other.example", [250, 250, 452])):
        assert client.envelope(*(f"{n}@{domain}" for n in "abc")) == codes, domain
        client.cmd("RSET", 250)
    for domain, code in (("other.example", 250), ("example.com", 553)):
        client.send("MAIL FROM:<säbel@sender.example> SMTPUTF8\r\n".encode())
        assert client.reply()[0] == 250
        heard = client.cmd(f"RCPT TO:<a@{domain}>")
        assert heard[0] == code, (domain, heard)
        client.cmd("RSET", 250)
    # the same for a header, for good: it would not be taken tomorrow either
    for domain, code, enhanced in (("other.example", 250, "2.0.0"), ("example.com", 554, "5.6.9")):
        client.cmd("MAIL FROM:<s@sender.example> SMTPUTF8", 250)
        client.cmd(f"RCPT TO:<a@{domain}>", 250)
        heard = client.data("Subject: gr\xfc\xdfe\r\n\r\nx\r\n")
        assert heard[0] == code and enhanced in heard[1], (domain, heard)
    assert client.envelope("a@other.example") == [250]
    assert client.data(("x" * 70 + "\r\n") * 120)[0] == 552


@scenario("ehlo: what was offered is offered after a restart, while the backend is away")
def ehlo_remembered(world):
    state = f"{world.bed.dir}/state"
    os.makedirs(state)
    os.chown(state, pwd.getpwnam("nobody").pw_uid, -1)
    backend = mirror(world, extensions=("8BITMIME", "SIZE 5000", "LIMITS RCPTMAX=7", XCLIENT))
    relay = world.relay(backend_port=PORT, state=state)
    learned()
    wait_for("the file", lambda: f"backend-{BACKEND}:{PORT}" in os.listdir(state))
    relay.stop()
    backend.say_goodbye()
    relay = world.relay(backend_port=PORT, state=state)
    assert keywords(probe_ehlo()) == ALWAYS | {"8BITMIME", "SIZE 5000", "LIMITS RCPTMAX=7"}
    relay.stop()
    # nobody else's offer, and nothing truncated
    for spoil in (lambda t: t.replace(f"{BACKEND}:", "10.0.0.9:"), lambda t: t[:-5], lambda t: "x" + t, lambda t: ""):
        name = f"{state}/backend-{BACKEND}:{PORT}"
        text = read(name)
        with open(name, "w") as file:
            file.write(spoil(text))
        relay = world.relay(backend_port=PORT, state=state)
        assert keywords(probe_ehlo()) == ASSUMED, spoil(text)
        relay.stop()
        with open(name, "w") as file:
            file.write(text)
    # a missing folder only gives a line in the log
    mirror(world, extensions=("8BITMIME", XCLIENT))
    relay = world.relay(backend_port=PORT, state="/nonexistent")
    learned()
    wait_for("the word", lambda: "event=state-failed" in read(relay.log))


@scenario("limits: sizes and recipients are held to the backend's, at MAIL, at RCPT and while data comes")
def limits(world):
    backend = mirror(world, extensions=("SIZE 5000", "8BITMIME", "LIMITS RCPTMAX=2", XCLIENT))
    world.relay(backend_port=PORT)
    learned()
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> SIZE=5001", 552)
    client.cmd("MAIL FROM:<s@sender.example> SIZE=4999", 250)
    assert [client.cmd(f"RCPT TO:<{n}@example.com>")[0] for n in "abc"] == [250, 250, 452]
    code, text = client.data(("x" * 70 + "\r\n") * 100)
    assert code == 552 and "5.3.4" in text, text
    assert backend.messages == []
    assert client.envelope("a@example.com") == [250]
    assert client.data(("x" * 70 + "\r\n") * 20)[0] == 250
    assert any(line.endswith(" SIZE=4999") for line in backend.commands), backend.commands


def bdat(client, data, last):
    client.send(b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"") + data)


def send_chunks(client, chunks, pipelined=True):
    for i, chunk in enumerate(chunks):
        bdat(client, chunk, i + 1 == len(chunks))
        if not pipelined:
            code, text = client.reply()
            assert code == 250, text
    codes = [client.reply() for _ in chunks] if pipelined else [(250, "")]
    assert all(c == 250 for c, _ in codes), codes


def split(data, sizes):
    """Splits into pieces of these sizes, in turn."""
    out, at, i = [], 0, 0
    while at < len(data):
        out.append(data[at:at + sizes[i % len(sizes)]])
        at += len(out[-1])
        i += 1
    return out


@scenario("chunks: around the borders of all buffers the message arrives as it was, by BDAT and turned into DATA")
def chunk_borders(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 0;')
    learned(keyword="CHUNKING")
    lines = b"..two\r\n.\r\n.one\r\nline\r\n"
    for has in (FULL, tuple(e for e in FULL if e not in ("CHUNKING", "BINARYMIME"))):
        # this session keeps what it was offered, whatever the backend offers now
        client = Client()
        assert "CHUNKING" in client.hello()
        backend.extensions = has
        for size in (1, 2, 3, 8190, 8191, 8192, 8193, 16383, 16384, 16385, 65535, 65536, 65537, 131073):
            data = b"Subject: x\r\n\r\n" + lines * (size // len(lines) + 1)
            data = data[:max(size, 20) - 2].rstrip(b"\r\n") + b"\r\n"
            backend.forget()
            assert client.envelope("a@example.com") == [250]
            send_chunks(client, split(data, (size, 1, 7)))
            message, = backend.accepted
            arrived = message.body()
            if has is not FULL:
                arrived = re.sub(rb"(\A|\r\n)\.", rb"\1", arrived)
            assert (message.bdats > 0) == (has is FULL), (size, message.bdats)
            assert arrived == data, (size, has is FULL, len(arrived), len(data))
        client.close()
    assert "CHUNKING" not in probe_ehlo()
    assert backend.violations == [], backend.violations[:3]
    assert relay.process.poll() is None


@scenario("chunks: 20 MiB in chunks of odd sizes reach Postfix octet for octet")
def big_chunks(world):
    relay = world.relay()
    learned(keyword="CHUNKING")
    line = b"".join(bytes((97 + i % 26,)) * (i % 120) + b"\r\n" for i in range(300)) + b".\r\n..\r\n" + \
        bytes(range(128, 256)) + b"\r\n"
    head = (b"Subject: big\r\nFrom: s@sender.example\r\nDate: Sat, 21 Nov 2026 00:00:00 +0000\r\n"
            b"Message-ID: <1@sender.example>\r\n\r\n")
    plain = head + line * (20 * 1024 * 1024 // len(line) + 1)
    client = Client(timeout=60)
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> BODY=8BITMIME", 250)
    client.cmd("RCPT TO:<a@example.com>", 250)
    before = relay.peak_kib()
    send_chunks(client, split(plain, (1, 99991, 65537, 524287, 3, 16385, 1000003)), pipelined=False)
    grown = relay.peak_kib() - before
    mail = world.postfix.wait_mail("a", seconds=60)
    arrived = mail[mail.index(b"Subject: big\n"):].replace(b"\n", b"\r\n")
    assert hashlib.sha256(arrived).hexdigest() == hashlib.sha256(plain).hexdigest(), (len(arrived), len(plain))
    assert world.sanitized or grown < 2048, f"{grown} KiB"
    # Postfix logs a session's command counts when it ends
    client.cmd("QUIT", 221)
    wait_for("Postfix's count", lambda: re.search(r"disconnect from .*mail=1 rcpt=1 bdat=\d\d", read(world.postfix.log)))
    assert not re.search(r"disconnect from .* data=1", read(world.postfix.log))


@scenario("chunks: binary mail goes through unchanged, and never where it is not understood")
def binary(world):
    backend = mirror(world, extensions=FULL)
    backend.binary = True
    world.relay(backend_port=PORT, backend="spares = 0;")
    learned(keyword="BINARYMIME")
    data = b"Subject: x\r\n\r\n" + bytes(range(256)) * 500 + b"\r\n.\r\n\r.\n\n.\r\n\0"
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> BODY=BINARYMIME", 250)
    client.cmd("RCPT TO:<a@example.com>", 250)
    client.cmd("DATA", 503)
    send_chunks(client, split(data, (7, 8191, 65536)))
    message, = backend.accepted
    assert message.body() == data and message.mail.endswith("BODY=BINARYMIME"), message.mail
    # lost since it was offered
    backend.extensions = tuple(e for e in FULL if e != "BINARYMIME")
    client.cmd("EHLO client.example", 250)
    client.cmd("MAIL FROM:<s@sender.example> BODY=BINARYMIME", 250)
    code, text = client.cmd("RCPT TO:<a@example.com>")
    assert code == 451 and "4.3.5" in text, text
    bdat(client, b"x", True)
    assert client.reply()[0] in (503, 554)
    client.cmd("EHLO client.example", 250)
    client.cmd("MAIL FROM:<s@sender.example> BODY=BINARYMIME", 554)
    assert len(backend.messages) == 1 and backend.violations == []


@scenario("chunks: a client that vanishes in a chunk, or between two, leaves nothing behind")
def chunks_vanish(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend="spares = 0;")
    learned(keyword="CHUNKING")
    for how in ("close", "kill"):
        for sent in (b"BDAT 100\r\n" + b"x" * 50, b"BDAT 10\r\n12345678\r\n", b"BDAT 10\r\n12345678\r\nBDAT 9 LA",
                     b"BDAT 10\r\n12345678\r\nBDAT 100000 LAST\r\n" + b"y" * 99999):
            client = Client()
            client.hello()
            client.envelope("a@example.com")
            client.send(sent)
            time.sleep(0.05)
            getattr(client, how)()
    client = Client()
    client.hello()
    for end in ("RSET", "EHLO client.example", "QUIT"):
        client.envelope("a@example.com")
        bdat(client, b"half of it\r\n", False)
        assert client.reply()[0] == 250
        client.cmd(end, 221 if end == "QUIT" else 250)
    wait_for("the ends", lambda: read(relay.log).count("status=aborted") == 11 and not backend.held())
    assert backend.messages == [] and backend.violations == [], (backend.messages, backend.violations)


@scenario("chunks: nonsense and bad order are answered once, and never taken for commands")
def chunk_order(world):
    backend = mirror(world)
    world.relay(backend_port=PORT, limits="errors = 100;")
    learned(keyword="CHUNKING")
    client = Client()
    client.hello()
    smuggled = b"RSET\r\nMAIL FROM:<evil@sender.example>\r\n"
    for before in ((), ("MAIL FROM:<s@sender.example>",)):
        for line in before:
            client.cmd(line, 250)
        bdat(client, smuggled, True)
        assert client.reply()[0] == 503
        client.cmd("NOOP", 250)
        client.cmd("RSET", 250)
    # all recipients refused
    backend.script = {"rcpt": "550 5.1.1 unknown"}
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", 550)
    bdat(client, smuggled, True)
    assert client.reply()[0] == 554
    client.cmd("NOOP", 250)
    backend.script = {}
    # DATA between chunks
    assert client.envelope("a@example.com") == [250]
    bdat(client, b"x\r\n", False)
    assert client.reply()[0] == 250
    client.cmd("DATA", 503)
    client.cmd("RCPT TO:<b@example.com>", 503)
    client.cmd("RSET", 250)
    assert backend.accepted == []
    bad = Client()
    bad.hello()
    bad.envelope("a@example.com")
    bad.send(b"BDAT nonsense\r\n" + smuggled)
    assert bad.reply()[0] == 501 and bad.gone()
    assert backend.messages == [] and not any("evil" in line for line in backend.commands)


@scenario("dsn: RET, ENVID, NOTIFY and ORCPT arrive as they were written; without DSN there they are refused")
def dsn(world):
    backend = mirror(world)
    world.relay(backend_port=PORT, backend="spares = 0;", limits="errors = 100;")
    learned(keyword="DSN")
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> RET=HDRS ENVID=QQ314159+2Bx BODY=8BITMIME", 250)
    client.cmd("RCPT TO:<a@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2BX@sender.example", 250)
    client.cmd("RCPT TO:<b@example.com> NOTIFY=NEVER", 250)
    client.cmd("RCPT TO:<c@example.com> ORCPT=x400;/G+3Dx/", 250)
    client.cmd("RCPT TO:<d@example.com>", 250)
    assert client.data("x\r\n")[0] == 250
    message, = backend.accepted
    assert message.mail == "MAIL FROM:<s@sender.example> BODY=8BITMIME RET=HDRS ENVID=QQ314159+2Bx", message.mail
    assert message.rcpts == ["RCPT TO:<a@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2BX@sender.example",
                             "RCPT TO:<b@example.com> NOTIFY=NEVER", "RCPT TO:<c@example.com> ORCPT=x400;/G+3Dx/",
                             "RCPT TO:<d@example.com>"], message.rcpts
    # values that RFC 3461 does not allow but Postfix accepts arrive in correct form, or not at all
    client.cmd("MAIL FROM:<s@sender.example> ENVID=a=b", 250)
    client.cmd(f"RCPT TO:<a@example.com> NOTIFY=DELAY,DELAY ORCPT=rfc822;a=b{chr(0xe4)}@c".encode().decode("latin-1"), 250)
    client.cmd(f"RCPT TO:<b@example.com> ORCPT=rfc822;{'x' * 500}", 250)
    assert client.data("x\r\n")[0] == 250
    message = backend.accepted[-1]
    assert message.mail == "MAIL FROM:<s@sender.example> ENVID=a+3Db", message.mail
    assert message.rcpts == ["RCPT TO:<a@example.com> NOTIFY=DELAY ORCPT=rfc822;a+3Db+C3+A4@c",
                             "RCPT TO:<b@example.com>"], message.rcpts
    client.cmd("MAIL FROM:<s@sender.example> AUTH=<> ENVID=" + "x" * 101, 250)
    client.cmd("RSET", 250)
    for bad in ("RET=ALL RET=HDRS", "RET=SOME", "ENVID=a+b", "ENVID="):
        code, text = client.cmd(f"MAIL FROM:<s@sender.example> {bad}")
        assert code == 501, (bad, text)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    for bad in ("NOTIFY=NEVER,SUCCESS", "NOTIFY=", "NOTIFY=SOMETIMES", "ORCPT=nothing", "ORCPT=rfc822;a+b"):
        code, text = client.cmd(f"RCPT TO:<a@example.com> {bad}")
        assert code == 501, (bad, text)
    client.cmd("RSET", 250)
    backend.extensions = ("8BITMIME", XCLIENT)
    client.cmd("EHLO client.example", 250)
    assert client.envelope("a@example.com") == [250]
    client.cmd("EHLO client.example", 250)
    client.cmd("MAIL FROM:<s@sender.example> RET=HDRS", 555)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com> NOTIFY=NEVER", 555)
    assert backend.violations == []


@scenario("dsn: Postfix sends the success notice that a client asked for")
def dsn_postfix(world):
    world.relay()
    learned(keyword="DSN")
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<a@example.com> RET=HDRS ENVID=ticket-42", 250)
    client.cmd("RCPT TO:<b@example.com> NOTIFY=SUCCESS ORCPT=rfc822;first@sender.example", 250)
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    notice = world.postfix.wait_mail("a").decode()
    for part in ("Original-Envelope-Id: ticket-42", "Original-Recipient: rfc822;first@sender.example",
                 "Final-Recipient: rfc822; b@example.com", "Action: delivered"):
        assert part in notice, (part, notice)


@scenario("smtputf8: addresses of all scripts reach Postfix; where the backend has none, 553 or 555")
def smtputf8(world):
    world.relay()
    learned(keyword="SMTPUTF8")
    client = Client()
    client.hello()
    client.send("MAIL FROM:<säbel@пример.example> SMTPUTF8\r\n".encode())
    assert client.reply()[0] == 250
    client.cmd("RCPT TO:<a@example.com>", 250)
    assert client.data("Subject: ü\r\n\r\nx\r\n".encode())[0] == 250
    mail = world.postfix.wait_mail("a").decode()
    assert "with UTF8SMTP id" in mail and "Return-Path: <säbel@пример.example>" in mail, mail
    assert "from=<säbel@пример.example>" in read(world.relays[0].log)
    # without the keyword, as Postfix accepts it: the address shows it, but must be valid UTF-8
    for line, code in (("MAIL FROM:<säbel@sender.example>".encode(), 250), (b"RSET", 250),
                       (b"MAIL FROM:<s\xe4bel@sender.example> SMTPUTF8", 500)):
        client.send(line + b"\r\n")
        heard = client.reply()
        assert heard[0] == code, (line, heard)
    client.close()
    world.relays[0].stop()
    backend = mirror(world, extensions=("SMTPUTF8", "8BITMIME", XCLIENT))
    world.relay(backend_port=PORT, backend="spares = 0;", limits="errors = 100;")
    learned(keyword="SMTPUTF8")
    client = Client()
    client.hello()
    # lost since it was offered
    backend.extensions = ("8BITMIME", XCLIENT)
    client.send("MAIL FROM:<säbel@sender.example> SMTPUTF8\r\n".encode())
    assert client.reply()[0] == 250
    code, text = client.cmd("RCPT TO:<a@example.com>")
    assert code == 451 and "4.3.5" in text, text
    client.cmd("EHLO client.example", 250)
    client.send("MAIL FROM:<säbel@sender.example> SMTPUTF8\r\n".encode())
    assert client.reply()[0] == 555
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.send("RCPT TO:<säbel@example.com>\r\n".encode())
    code, text = client.reply()
    assert code == 553 and "5.6.7" in text, text
    assert backend.messages == []


@scenario("smtputf8: who always asks for it gets ASCII through where the backend has none, and no UTF-8")
def smtputf8_asked(world):
    backend = mirror(world, extensions=("SMTPUTF8", "8BITMIME", "CHUNKING", XCLIENT))
    world.relay(backend_port=PORT, backend="spares = 0;", limits="errors = 100;")
    learned(keyword="SMTPUTF8")
    for header, code in (("Subject: plain\r\n\r\nbödy\r\n", 250), ("Subject: hällo\r\n\r\nx\r\n", 451),
                         ("To: a\r\n" * 20000 + "Subject: hällo\r\n\r\nx\r\n", 451)):
        for chunked in (False, True):
            backend.extensions = ("SMTPUTF8", "8BITMIME", "CHUNKING", XCLIENT)
            client = Client()
            client.hello()
            backend.extensions = ("8BITMIME", "CHUNKING", XCLIENT)
            client.cmd("MAIL FROM:<s@sender.example> BODY=8BITMIME SMTPUTF8", 250)
            client.cmd("RCPT TO:<a@example.com>", 250)
            client.send("RCPT TO:<säbel@example.com>\r\n".encode())
            assert client.reply()[0] == 451
            before = len(backend.messages)
            if chunked:
                bdat(client, header.encode(), True)
                heard = client.reply()
            else:
                heard = client.data(header.encode())
            assert heard[0] == code, (header[:30], chunked, heard)
            assert len(backend.messages) == before + (code == 250)
            if code == 250:
                assert backend.messages[-1].mail == "MAIL FROM:<s@sender.example> BODY=8BITMIME", backend.messages[-1].mail
            client.close()
            # the same is offered again
            backend.extensions = ("SMTPUTF8", "8BITMIME", "CHUNKING", XCLIENT)
            again = Client()
            again.hello()
            again.envelope("a@example.com")
            again.close()
            learned(keyword="SMTPUTF8")


@scenario("requiretls: offered under TLS only, with a verified backend that has it, and passed on")
def requiretls(world):
    ca, certificate = make_ca(world.bed, "rca", "backend.example")
    verify = f'tls = "verify"; tls_name = "backend.example"; ca_file = "{ca}"; spares = 0;'
    # settings, does the backend have it?, is the client under TLS?, offered?
    for settings, has, tls, offered in ((verify, True, True, True), (verify, True, False, False),
                                        (verify, False, True, False), ('tls = "encrypt"; spares = 0;', True, True, False),
                                        ('tls = "mirror"; spares = 0;', True, True, False)):
        backend = mirror(world, certificate=certificate, extensions=FULL + (("REQUIRETLS",) if has else ()))
        relay = world.relay(backend_port=PORT, backend=settings)
        learned()
        client = Client()
        text = client.hello()
        if tls:
            assert "REQUIRETLS" not in text
            text = client.starttls()
        assert ("REQUIRETLS" in text) == offered, (settings, has, tls, text)
        client.cmd("MAIL FROM:<s@sender.example> REQUIRETLS", 250 if offered else 555)
        if offered:
            client.cmd("RCPT TO:<a@example.com>", 250)
            assert client.data("x\r\n")[0] == 250
            assert backend.accepted[0].mail.endswith(" REQUIRETLS") and backend.accepted[0].tls
            # no longer offered: better not to deliver at all
            backend.extensions = FULL
            client.cmd("EHLO client.example", 250)
            client.cmd("MAIL FROM:<s@sender.example> REQUIRETLS", 250)
            code, text = client.cmd("RCPT TO:<a@example.com>")
            assert code == 451 and "4.3.5" in text, text
            assert len(backend.messages) == 1
        client.close()
        relay.stop()
        backend.close()
