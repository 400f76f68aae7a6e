"""Scenarios against real peers; speaks TAP. SPDX-License-Identifier: GPL-3.0-or-later"""
import glob
import hashlib
import os
import re
import resource
import smtplib
import socket
import ssl
import statistics
import subprocess
import sys
import time

import bed as testbed
import tap
from bed import (BACKEND, CLIENT4, CLIENT6, LENIENCIES, OTHER4, RELAY4, SCRIPTED_PORT, Client, Postfix, can_connect,
                 read, wait_for)
from tap import scenario


def send_one(client, to="a@example.com", body="Subject: x\r\n\r\nhello\r\n"):
    assert client.envelope(to) == [250]
    return client.data(body)


def received_lines(mail):
    header = mail.split(b"\n\n")[0].decode("latin-1")
    return [re.sub(r"\s+", " ", f) for f in re.split(r"\n(?=\S)", header) if f.startswith("Received:")]


@scenario("identity: Postfix sees an IPv4 client's address and HELO")
def identity4(world, source=CLIENT4, shown="198.51.100.7"):
    world.relay()
    client = Client(source)
    client.hello("mx1.sender.example")
    assert send_one(client)[0] == 250
    by_postfix, by_us = received_lines(world.postfix.wait_mail("a"))[:2]
    label = "IPv6:" + shown if ":" in shown else shown
    assert f"from mx1.sender.example (unknown [{label}])" in by_postfix, by_postfix
    assert "with ESMTP id" in by_postfix, by_postfix
    assert f"from mx1.sender.example (unknown [{label}]) by relay.example (Postern) with ESMTP id" in by_us, by_us
    assert "for <a@example.com>;" in by_us, by_us
    wait_for("Postfix's word on the client", lambda: f"client=unknown[{shown}]" in read(world.postfix.log))


@scenario("identity: Postfix sees an IPv6 client's address")
def identity6(world):
    identity4(world, CLIENT6, "2001:db8::7")


@scenario("identity: HELO is replayed as HELO")
def identity_helo(world):
    world.relay()
    client = Client()
    client.reply()
    client.cmd("HELO old.example", 250)
    assert send_one(client)[0] == 250
    by_postfix, by_us = received_lines(world.postfix.wait_mail("a"))[:2]
    assert "with SMTP id" in by_postfix and "with SMTP id" in by_us, (by_postfix, by_us)


@scenario("identity: a client that says HELO and uses extensions gets them, also after mail that needed none")
def extensions_after_helo(world):
    world.relay()
    for mail, rcpt in ((" BODY=8BITMIME", ""), (" RET=HDRS", ""), ("", " NOTIFY=NEVER"), (" SMTPUTF8", "")):
        client = Client()
        client.reply()
        client.cmd("HELO old.example", 250)
        assert send_one(client)[0] == 250
        client.cmd(f"MAIL FROM:<s@sender.example>{mail}", 250)
        client.cmd(f"RCPT TO:<a@example.com>{rcpt}", 250)
        assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
        client.close()
    # With a recipient it is too late for a connection that began with HELO, but not for the next message.
    client = Client()
    client.reply()
    client.cmd("HELO old.example", 250)
    assert client.envelope("a@example.com") == [250]
    client.cmd("RCPT TO:<b@example.com> NOTIFY=NEVER", 451)
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<b@example.com> NOTIFY=NEVER", 250)
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    client.cmd("HELO old.example", 250)
    assert client.envelope("nobody@example.com") == [550]
    client.cmd("RCPT TO:<a@example.com> NOTIFY=NEVER", 250)
    client.cmd("RSET", 250)
    assert send_one(client)[0] == 250
    client.close()


@scenario("tls: the backend leg is under TLS exactly when the client is")
def tls_mirror(world):
    world.relay()
    client = Client()
    client.hello()
    client.starttls("tls.example")
    assert send_one(client)[0] == 250
    by_postfix, by_us = received_lines(world.postfix.wait_mail("a"))[:2]
    assert "with ESMTPS id" in by_us and "(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)" in by_us, by_us
    assert "with ESMTPS id" in by_postfix and "198.51.100.7" in by_postfix, by_postfix
    relay_log = world.relays[0].log
    wait_for("the summary line", lambda: "tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256" in read(relay_log))


@scenario("recipients: one of three is refused alone, with Postfix's own text")
def recipients(world):
    world.relay()
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", 250)
    code, text = client.cmd("RCPT TO:<nobody@example.com>")
    assert code == 550 and "User unknown in virtual mailbox table" in text, text
    client.cmd("RCPT TO:<b@example.com>", 250)
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    world.postfix.wait_mail("a")
    world.postfix.wait_mail("b")


@scenario("pipelining: MAIL, three RCPT and DATA in one write")
def pipelining(world):
    world.relay()
    client = Client()
    client.hello()
    client.send("MAIL FROM:<s@sender.example>\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<no@example.com>\r\n"
                "RCPT TO:<b@example.com>\r\nDATA\r\n")
    codes = [client.reply()[0] for _ in range(5)]
    assert codes == [250, 250, 550, 250, 354], codes
    client.send("Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(2)] == [250, 221]
    world.postfix.wait_mail("b")


@scenario("xclient not authorised: 451, an error that names the fix, nothing delivered")
def xclient_refused(world):
    postfix = Postfix(world.bed, "closed", f"{BACKEND}:2530", "smtpd_authorized_xclient_hosts =")
    try:
        relay = world.relay(backend_port=2530)
        client = Client()
        client.hello()
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        code, text = client.cmd("RCPT TO:<a@example.com>")
        assert code == 451 and "4.3.5" in text, text
        client.cmd("DATA", 554)
        assert "smtpd_authorized_xclient_hosts" in read(relay.log)
        time.sleep(0.5)
        assert postfix.mails("a") == []
    finally:
        postfix.stop()


@scenario("50 MiB arrive octet for octet, and memory stays flat")
def big_message(world):
    relay = world.relay()
    chunk = (b"x" * 998 + b"\r\n" + b"y" * 999 + b"\r\n" + b"z" * 100000 + b"\r\n" +
             b"..\r\n..two\r\n.x\r\n" + bytes(range(128, 256)) + b"\r\n")
    # complete headers, as Postfix would add missing ones
    plain = (b"Subject: big\r\nFrom: s@sender.example\r\nDate: Sat, 21 Nov 2026 00:00:00 +0000\r\n"
             b"Message-ID: <1@sender.example>\r\n\r\n") + chunk * (50 * 1024 * 1024 // len(chunk) + 1)
    small = Client()
    small.hello()
    assert send_one(small, "b@example.com")[0] == 250
    before = relay.peak_kib()
    client = Client(timeout=200)
    client.hello()
    client.envelope("a@example.com")
    code, text = client.data(re.sub(rb"(^|\r\n)\.", rb"\1..", plain))
    assert code == 250, text
    grown = relay.peak_kib() - before
    print(f"# peak memory grew by {grown} KiB for {len(plain)} octets")
    mail = world.postfix.wait_mail("a", seconds=60)
    arrived = mail[mail.index(b"Subject: big\n"):].replace(b"\n", b"\r\n")
    assert hashlib.sha256(arrived).hexdigest() == hashlib.sha256(plain).hexdigest(), (len(arrived), len(plain))
    assert world.sanitized or grown <= 2048, f"{grown} KiB"


@scenario("client vanishes in mid-data: nothing is delivered")
def client_vanishes(world):
    relay = world.relay()
    for end, tls in (("close", False), ("kill", False), ("close", True)):
        client = Client()
        client.hello()
        if tls:
            client.starttls()
        client.envelope("a@example.com")
        client.cmd("DATA", 354)
        client.send("Subject: x\r\n\r\nhalf of it\r\n")
        time.sleep(0.1)
        getattr(client, end)()
    wait_for("three aborts", lambda: read(relay.log).count("status=aborted") == 3)
    time.sleep(0.5)
    assert world.postfix.mails("a") == []


@scenario("backend dies in mid-data and after the final dot: 4xx, the session goes on")
def backend_dies(world):
    world.relay(backend_port=SCRIPTED_PORT, backend="spares = 0;")
    for step, times in (("body", 1), ("dot", 1)):
        backend = world.backend({step: "close"})
        client = Client()
        client.hello()
        client.envelope("a@example.com")
        client.cmd("DATA", 354)
        client.send(("x" * 70 + "\r\n") * 2000)
        time.sleep(0.2)
        client.send(".\r\n")
        code, text = client.reply()
        assert code == 451, (step, text)
        client.cmd("NOOP", 250)
        backend.close()


@scenario("backend's answers reach the client as the table of courier.h says")
def backend_answers(world):
    # without spares, which would be an earlier backend's
    world.relay(backend_port=SCRIPTED_PORT, backend='spares = 0; command_timeout = "1s"; reply_timeout = "1s";')
    # step: what the backend does; then the client's replies to RCPT, DATA, end of data
    table = [
        ("banner", "421 4.3.2 busy", (451, 554, None)),
        ("banner", "554 5.7.1 not you", (451, 554, None)),
        ("banner", "garbage", (451, 554, None)),
        ("banner", "close", (451, 554, None)),
        ("banner", "stall", (451, 554, None)),
        ("xclient", "550 5.7.0 insufficient authorization", (451, 554, None)),
        ("xclient", "501 5.5.4 bad", (451, 554, None)),
        ("xclient", "554 5.7.1 blocked for good", (554, 554, None)),
        ("xclient", "450 4.7.1 come later", (450, 554, None)),
        ("xclient", "garbage", (451, 554, None)),
        ("xclient", "close", (451, 554, None)),
        ("xclient", "stall", (451, 554, None)),
        ("ehlo", "450 4.7.1 helo", (450, 554, None)),
        ("ehlo", "close", (451, 554, None)),
        ("mail", "450 4.7.1 greylisted", (450, 554, None)),
        ("mail", "553 5.1.8 bad sender", (553, 554, None)),
        ("mail", "stall", (451, 554, None)),
        ("rcpt", "450 4.2.0 later", (450, 554, None)),
        ("rcpt", "550 5.1.1 unknown", (550, 554, None)),
        ("rcpt", "close", (451, 554, None)),
        ("rcpt", "garbage", (451, 554, None)),
        ("data", "450 4.3.0 not now", (250, 354, 450)),
        ("data", "554 5.3.0 never", (250, 354, 554)),
        ("data", "close", (250, 354, 451)),
        ("dot", "451 4.3.0 disk", (250, 354, 451)),
        ("dot", "554 5.7.1 spam", (250, 354, 554)),
        ("dot", "garbage", (250, 354, 451)),
        ("dot", "stall", (250, 354, 451)),
    ]
    wrong = []
    for pipelining in (True, False):
        for step, text, expected in table:
            backend = world.backend({step: text}, pipelining)
            client = Client()
            client.hello()
            client.cmd("MAIL FROM:<s@sender.example>", 250)
            heard = [client.cmd("RCPT TO:<a@example.com>")[0], client.cmd("DATA")[0], None]
            if heard[1] == 354:
                client.send("x\r\n.\r\n")
                heard[2] = client.reply()[0]
            if tuple(heard) != expected:
                wrong.append((step, text, "pipelining" if pipelining else "lock-step", heard, expected))
            if backend.messages and step != "dot":
                wrong.append((step, text, "delivered", backend.messages))
            client.close()
            backend.close()
    assert not wrong, wrong


@scenario("backend down: 451 at RCPT, the session goes on; up again: delivered in the same session")
def backend_down(world):
    relay = world.relay(backend_port=2540)
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    code, text = client.cmd("RCPT TO:<a@example.com>")
    assert code == 451 and "4.4.1" in text, text
    client.cmd("RSET", 250)
    postfix = Postfix(world.bed, "late", f"{BACKEND}:2540", "smtpd_authorized_xclient_hosts = 10.0.0.2")
    try:
        time.sleep(0.2)
        assert send_one(client)[0] == 250
        postfix.wait_mail("a")
    finally:
        postfix.stop()
    assert re.search(rf"event=backend-unreachable .*backend={re.escape(BACKEND)}:2540 ", read(relay.log))


@scenario("a final 250 is given only after the backend's (stalled end of data)")
def no_early_250(world):
    backend = world.backend({"dot": "stall"})
    world.relay(backend_port=SCRIPTED_PORT, backend='reply_timeout = "2s";')
    client = Client()
    client.hello()
    client.envelope("a@example.com")
    client.cmd("DATA", 354)
    client.send("x\r\n.\r\n")
    client.sock.settimeout(1)
    try:
        client.reply()
        raise AssertionError("a reply came before the backend's")
    except TimeoutError:
        pass
    assert len(backend.messages) == 1


def swaks(*arguments):
    return subprocess.run(["swaks", "--server", RELAY4, "--from", "s@sender.example",
                           "--to", "a@example.com", *arguments], capture_output=True, text=True, timeout=60)


@scenario("client: swaks delivers, plain and by STARTTLS")
def by_swaks(world):
    world.relay()
    for arguments in (["--local-interface", CLIENT4], ["--local-interface", CLIENT4, "--tls"],
                      ["--local-interface", CLIENT4, "--pipeline"]):
        result = swaks(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
    world.postfix.wait_mail("a", 3)


@scenario("client: openssl s_client -starttls smtp delivers")
def by_openssl(world):
    world.relay()
    process = subprocess.Popen(["openssl", "s_client", "-starttls", "smtp", "-crlf", "-quiet", "-bind",
                                f"{CLIENT4}:0", "-connect", f"{RELAY4}:25"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for line in ("EHLO o.example", "MAIL FROM:<s@sender.example>", "RCPT TO:<a@example.com>", "DATA",
                     "Subject: x\n\nby openssl\n.", "QUIT"):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            time.sleep(0.3)
        world.postfix.wait_mail("a")
    finally:
        process.kill()
        process.communicate()


@scenario("client: Python's smtplib delivers by STARTTLS")
def by_smtplib(world):
    world.relay()
    with smtplib.SMTP(RELAY4, 25, source_address=(CLIENT4, 0), timeout=20) as server:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        server.starttls(context=context)
        refused = server.sendmail("s@sender.example", ["a@example.com", "no@example.com"], "Subject: x\r\n\r\nx\r\n")
        assert list(refused) == ["no@example.com"], refused
    world.postfix.wait_mail("a")


@scenario("client: Postfix delivers, several recipients and messages, by STARTTLS")
def by_postfix(world):
    world.relay()
    sender = Postfix(world.bed, "sender", "10.0.0.1:2550", f"""
relayhost = [{RELAY4}]:25
virtual_mailbox_domains =
smtp_bind_address = {OTHER4}
smtp_tls_security_level = encrypt
mynetworks = 10.0.0.9/32""")
    try:
        client = Client("10.0.0.9", "10.0.0.1", 2550)
        client.hello()
        for _ in range(3):
            assert client.envelope("a@example.com", "b@example.com") == [250, 250]
            assert client.data("Subject: x\r\n\r\nby Postfix\r\n")[0] == 250
        mail = world.postfix.wait_mail("a", 3)
        world.postfix.wait_mail("b", 3)
        assert f"[{OTHER4}]".encode() in mail
    finally:
        sender.stop()


@scenario("1000 idle clients, 4 workers: a fresh client is served within a second")
def idle_clients(world):
    world.relay(inner="workers = 4;", limits="connections = 3000; connections_per_client = 3000;")
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    silent = [Client() for _ in range(500)]
    talked = [Client() for _ in range(500)]
    for client in talked:
        client.reply()
        client.send("EHLO idle.example\r\n")
    for client in talked:
        client.reply()
    fresh = Client(OTHER4)
    began = time.monotonic()
    fresh.hello()
    assert send_one(fresh)[0] == 250
    took = time.monotonic() - began
    print(f"# served in {took * 1000:.0f} ms beside 1000 idle clients")
    assert took < (5 if world.sanitized else 1), took
    # and idle clients are still served
    talked[0].cmd("NOOP", 250)
    silent[0].hello()
    for client in silent + talked + [fresh]:
        client.close()


RELAY_FORMS = """
u@other.example "u@other.example" u%other.example u%other.example@relay.example u%other.example@example.com
"u%other.example" "u%other.example"@example.com @relay.example:u@other.example @example.com:u@other.example
"u@other.example"@example.com "u@other.example"@relay.example u@other.example@example.com other.example!u
other.example!u@example.com other.example!u@relay.example u@[203.0.113.5] u@[127.0.0.1] u@[10.0.0.2]
u%other.example@[203.0.113.5] "u@other.example"@[203.0.113.5] u@[IPv6:::1] u@ u u@localhost
a@example.com@other.example a@sub.example.com a@.example.com a@xexample.com root%example.com@
u\\@other.example u\\@other.example@example.com u@"other.example@example.com" u..%other.example@example.com
@other.example@example.com "@other.example:u"@example.com
"""


@scenario("open relay forms: all refused, none reaches the backend; postmaster is taken")
def open_relay(world):
    world.relay(limits="errors = 1000;")
    client = Client()
    client.hello()
    seen = len(read(world.postfix.log))
    for form in RELAY_FORMS.split():
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        for leniency in LENIENCIES:
            code, text = client.cmd("RCPT TO:" + leniency.format(form))
            assert code in (550, 501), (leniency.format(form), text)
        client.cmd("RSET", 250)
    for leniency in LENIENCIES[:11]:
        client.cmd("MAIL FROM:" + leniency.format("s..@sender.example"), 250)
        client.cmd("RCPT TO:" + leniency.format("a@example.com"), 250)
        client.cmd("RSET", 250)
    assert "u@other" not in read(world.postfix.log)[seen:] and "RCPT" not in read(world.postfix.log)[seen:]
    assert send_one(client, "Postmaster")[0] == 250
    world.postfix.wait_mail("p")


@scenario("starttls: text behind the command is refused; TLS forgets what was said before")
def starttls_injection(world):
    relay = world.relay()
    client = Client()
    client.hello()
    client.send("STARTTLS\r\nRSET\r\n")
    code, _ = client.reply()
    assert code == 554 and client.gone()
    assert "STARTTLS from unknown[198.51.100.7]: 554 5.5.0" in read(relay.log)
    client = Client()
    client.hello()
    client.cmd("STARTTLS x", 501)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("STARTTLS", 503)
    client.cmd("RSET", 250)
    assert "STARTTLS" not in client.starttls()
    client.cmd("STARTTLS", 503)
    client = Client()
    client.hello()
    client.cmd("STARTTLS", 220)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.sock = context.wrap_socket(client.sock)
    client.file = client.sock.makefile("rb")
    client.cmd("MAIL FROM:<s@sender.example>", 503)


@scenario("smuggling: no false end of data becomes a second message at Postfix")
def smuggling(world):
    world.relay()
    for end in ("\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n\0.\r\n", "\r\n.\r\r\n"):
        client = Client()
        client.hello()
        client.envelope("a@example.com")
        client.cmd("DATA", 354)
        client.send("Subject: x\r\n\r\ntext" + end + "MAIL FROM:<evil@sender.example>\r\n"
                    "RCPT TO:<b@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n")
        code, text = client.reply()
        assert code == 250, (end, text)
        client.cmd("NOOP", 250)
        client.close()
    world.postfix.wait_mail("a", 8)
    time.sleep(0.3)
    assert len(world.postfix.mails("a")) == 8 and world.postfix.mails("b") == []


@scenario("bare newlines are refused under bare_newlines = \"reject\"")
def bare_newlines(world):
    world.relay(inner='bare_newlines = "reject";')
    client = Client()
    client.hello()
    client.envelope("a@example.com")
    assert client.data("Subject: x\n\r\nx\r\n")[0] == 550
    assert send_one(client)[0] == 250
    world.postfix.wait_mail("a")
    assert len(world.postfix.mails("a")) == 1


@scenario("reload: a bad file changes nothing and says why; a good one is taken; SIGHUP under a session")
def reload(world):
    relay = world.relay()
    client = Client()
    client.hello()
    relay.write_conf(inner="wrokers = 3;")
    relay.process.send_signal(1)
    wait_for("the error", lambda: "event=reload status=failed" in read(relay.log))
    assert re.search(r"relay-\d+\.conf:\d+: in\.wrokers: no such option; did you mean in\.workers", read(relay.log))
    assert send_one(client)[0] == 250
    relay.write_conf(inner='domains_file = "more";')
    with open(f"{world.bed.dir}/more", "w") as file:
        file.write("# ours too\nmore.example\n")
    relay.process.send_signal(1)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<x@more.example>", 550)  # an old session keeps the old rules
    fresh = Client()
    fresh.hello()
    fresh.cmd("MAIL FROM:<s@sender.example>", 250)
    code, text = fresh.cmd("RCPT TO:<x@more.example>")
    assert "Relay access denied" not in text or code == 554, text  # Postfix judges it now


def certificate_of(client):
    return hashlib.sha256(client.sock.getpeercert(True)).hexdigest()


@scenario("certificates: renewed files are seen without a restart, running sessions untouched")
def renewed(world):
    relay = world.relay()
    old = Client()
    old.hello()
    old.starttls()
    world.bed.make_certificate("relay", "ec")
    wait_for("the reread", lambda: "event=certificates status=reread" in read(relay.log), 15)
    fresh = Client()
    fresh.hello()
    fresh.starttls()
    assert certificate_of(old) != certificate_of(fresh)
    assert send_one(old)[0] == 250
    with open(world.bed.cert, "w") as file:
        file.write("-----BEGIN half\n")
    wait_for("the complaint", lambda: "event=certificates status=failed" in read(relay.log), 15)
    again = Client()
    again.hello()
    again.starttls()
    assert certificate_of(again) == certificate_of(fresh)
    world.bed.make_certificate("relay", "ec")


@scenario("certificates: RSA and ECDSA side by side, each for the client that wants it")
def two_certificates(world):
    cert, key = world.bed.make_certificate("rsa", "rsa")
    relay = world.relay()
    relay.stop()
    text = read(relay.conf).replace("( {", f'( {{ cert = "{cert}"; key = "{key}"; }}, {{', 1)
    with open(relay.conf, "w") as file:
        file.write(text)
    process = subprocess.Popen([f"{testbed.BUILD}/relay-in", "-c", relay.conf], stderr=subprocess.DEVNULL)
    try:
        wait_for("relay-in", lambda: can_connect(RELAY4, 25))
        for wanted, name in (("ECDSA+SHA256", "id-ecPublicKey"), ("RSA-PSS+SHA256", "rsaEncryption")):
            out = subprocess.run(f"openssl s_client -starttls smtp -bind {CLIENT4}:0 -connect {RELAY4}:25 "
                                 f"-sigalgs {wanted} </dev/null | openssl x509 -noout -text", shell=True,
                                 capture_output=True, text=True, timeout=20).stdout
            assert name in out, (wanted, out[:300])
    finally:
        process.terminate()
        assert process.wait(15) == 0


@scenario("shutdown: an open message is finished, idle clients are told, exit 0")
def shutdown(world):
    relay = world.relay()
    idle = Client(OTHER4)
    idle.hello()
    client = Client()
    client.hello()
    client.envelope("a@example.com")
    client.cmd("DATA", 354)
    client.send("Subject: x\r\n\r\nfirst half\r\n")
    time.sleep(0.5)
    relay.process.terminate()
    assert idle.reply()[0] == 421
    client.send("second half\r\n.\r\n")
    assert client.reply()[0] == 250
    relay.stop()
    assert b"second half" in world.postfix.wait_mail("a")


@scenario("gate: private clients, connections per client, all connections")
def limits(world):
    relay = world.relay(limits="connections = 4; connections_per_client = 2;",
                        inner='private_clients = [ "10.0.0.1" ];')
    for source in ("127.0.0.1", "10.0.0.9"):
        code, text = Client(source, "127.0.0.1" if source[0] == "1" and source[1] == "2" else "10.0.0.2").reply()
        assert code == 554 and "5.7.1" in text, text
    assert "reject: CONNECT from unknown[10.0.0.9]" in read(relay.log)
    listed = Client("10.0.0.1", "10.0.0.2")
    listed.hello()
    held = [Client(), Client()]
    for client in held:
        client.hello()
    assert Client().reply()[0] == 421
    other = Client(OTHER4)
    other.hello()
    code, text = Client(CLIENT6).reply()
    assert code == 421 and "4.3.2" in text, text
    held[0].cmd("QUIT", 221)
    wait_for("a free place", lambda: Client().reply()[0] == 220)


@scenario("gate: early talkers are refused under a greet delay, others greeted after it")
def greet_delay(world):
    relay = world.relay(inner='greet_delay = "500ms";')
    early = Client()
    early.send("EHLO early.example\r\n")
    assert early.reply()[0] == 554 and early.gone()
    assert re.search(r"PREGREET 20 after 0\.\d\d from 198\.51\.100\.7:\d+: EHLO early", read(relay.log))
    began = time.monotonic()
    Client().hello()
    assert time.monotonic() - began >= 0.45


@scenario("log: rejects fit fail2ban's own filter for Postfix, and the summary has its keys")
def log_lines(world):
    relay = world.relay()
    client = Client()
    client.hello()
    assert send_one(client)[0] == 250
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<x@other.example>", 550)
    client.cmd("QUIT", 221)
    wait_for("the lines", lambda: "event=disconnect" in read(relay.log))
    summary = re.search(r"event=message .*", read(relay.log)).group()
    for key in ("status=delivered", "session=", "client=198.51.100.7:", "id=", "helo=client.example",
                "from=<s@sender.example>", "to=<a@example.com>", "accepted=1", "refused=0", "size=", "tls=none",
                'reply="250 2.0.0 Ok: queued as', "ms="):
        assert key in summary, (key, summary)
    line = re.search(r"NOQUEUE: reject: RCPT.*", read(relay.log)).group()
    path = f"{world.bed.dir}/mail.log"
    with open(path, "w") as file:
        file.write(time.strftime("%b %d %H:%M:%S ") + "host postfix/smtpd[123]: " + line + "\n")
    out = subprocess.run(["fail2ban-regex", path, "postfix[mode=aggressive]"], capture_output=True, text=True,
                         timeout=60).stdout
    assert re.search(r"1 matched", out), (line, out[-800:])


@scenario("injected controls in HELO, addresses and backend replies stay out of log and headers")
def log_injection(world):
    backend = world.backend({"rcpt": "550 5.1.1 no\x07\x1b[31m\xffway"})
    relay = world.relay(backend_port=SCRIPTED_PORT)
    client = Client()
    client.reply()
    client.cmd("EHLO a\tb", 250)
    client.cmd("EHLO a\x1b[2Jb> to=<x", 250)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<x@other.example>", 550)
    assert "helo=<a?[2Jb??to=?x>" in read(relay.log)
    client.cmd("EHLO good.example", 250)
    client.cmd("MAIL FROM:<s\x01@sender.example>", 500)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    code, text = client.cmd("RCPT TO:<a@example.com>")
    assert code == 550 and all(32 <= ord(c) < 127 for c in text), text
    raw = open(relay.log, "rb").read()
    assert b"\x1b" not in raw and b"\x01" not in raw and b"\x07" not in raw
    assert backend.messages == []


@scenario("latency: a message on a warm session takes under 20 ms")
def latency(world):
    world.backend()
    world.relay(backend_port=SCRIPTED_PORT)
    client = Client()
    client.hello()
    times = []
    for _ in range(20):
        began = time.monotonic()
        assert send_one(client)[0] == 250
        times.append(time.monotonic() - began)
    median = statistics.median(times) * 1000
    print(f"# median {median:.1f} ms")
    assert median < (200 if world.sanitized else 20), median


@scenario("a session's messages share one backend connection, each client has its own")
def reuse(world):
    backend = world.backend()
    world.relay(backend_port=SCRIPTED_PORT)
    client = Client()
    client.hello()
    for _ in range(3):
        assert send_one(client)[0] == 250
    other = Client(OTHER4)
    other.hello()
    assert send_one(other)[0] == 250
    xclients = [line for line in backend.commands if line.startswith(b"XCLIENT")]
    assert len(xclients) == 2, xclients
    assert b"ADDR=198.51.100.7 " in xclients[0] and b"ADDR=198.51.100.8 " in xclients[1], xclients
    assert all(b"NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]" in x and b"DESTADDR=203.0.113.5 DESTPORT=25" in x
               and b"LOGIN" not in x and b"HELO" not in x and b"PROTO" not in x and len(x) <= 512
               for x in xclients), xclients


@scenario("relayctl sink: shows identity, stores the message, plays faults")
def sink(world):
    ready, store = f"{world.bed.dir}/ready", f"{world.bed.dir}/store"
    os.mkdir(store)
    process = subprocess.Popen([f"{testbed.BUILD}/relayctl", "sink", "--listen", f"{BACKEND}:2601", "--ready-file", ready,
                                "--store", store, "--tls", f"{world.bed.cert}:{world.bed.key}",
                                "--reply", "rcpt:no@example.com=550 5.1.1 not here"], stderr=subprocess.PIPE)
    try:
        wait_for("the sink", lambda: read(ready))
        world.relay(backend_port=2601)
        client = Client()
        client.hello()
        client.starttls("sink.example")
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        assert "not here" in client.cmd("RCPT TO:<no@example.com>", 550)[1]
        client.cmd("RCPT TO:<a@example.com>", 250)
        assert client.data("Subject: x\r\n\r\n..dot\r\nx\r\n")[0] == 250
        told = wait_for("the report", lambda: read(f"{store}/000001.json"))
        for part in ('"ADDR": "198.51.100.7"', '"NAME": "[UNAVAILABLE]"', '"helo": "sink.example"', '"tls": "TLSv1.3"',
                     '"to": ["a@example.com"]', '"violation": false'):
            assert part in told, (part, told)
        assert read(glob.glob(f"{store}/*.eml")[0]).endswith("\n.dot\nx\n")
    finally:
        process.terminate()
        process.wait(10)


@scenario("relayctl sink: takes PROXY headers of both versions from swaks")
def sink_proxy(world):
    for version, more in (("1", ["--proxy-family", "TCP4"]),
                          ("2", ["--proxy-family", "AF_INET", "--proxy-protocol", "STREAM", "--proxy-command", "PROXY"])):
        ready, out = f"{world.bed.dir}/proxy-ready-{version}", f"{world.bed.dir}/proxy-out-{version}"
        process = subprocess.Popen([f"{testbed.BUILD}/relayctl", "sink", "--proxy", "--json", "--listen", f"{BACKEND}:0",
                                    "--ready-file", ready], stdout=open(out, "w"), stderr=subprocess.DEVNULL)
        try:
            host, port = wait_for("the sink", lambda: read(ready)).strip().split(":")
            result = swaks("--server", host, "--port", port, "--proxy-version", version, "--proxy-source", CLIENT4,
                           "--proxy-source-port", "4711", "--proxy-dest", RELAY4, "--proxy-dest-port", "25", *more)
            assert result.returncode == 0, result.stdout
            assert f'"proxy": "{CLIENT4}:4711"' in wait_for("the report", lambda: read(out))
        finally:
            process.terminate()
            process.wait(10)


@scenario("systemd: sockets handed over, READY, RELOADING, STOPPING told, privileges dropped")
def systemd(world):
    notify = f"{world.bed.dir}/notify"
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(notify)
    os.chmod(notify, 0o777)
    told.settimeout(10)
    relay = world.relay()
    relay.stop()
    listener = socket.create_server(("::", 25), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)

    def pass_listener():
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)

    log = f"{world.bed.dir}/systemd.log"
    process = subprocess.Popen(["sh", "-c", f"LISTEN_PID=$$ exec {testbed.BUILD}/relay-in -c {relay.conf}"],
                               env=dict(os.environ, LISTEN_FDS="1", NOTIFY_SOCKET=notify, WATCHDOG_USEC="2000000",
                                        ASAN_OPTIONS="detect_leaks=0"),
                               stderr=open(log, "w"), close_fds=False, preexec_fn=pass_listener)
    try:
        assert told.recv(200) == b"READY=1"
        uid = re.search(r"Uid:\s+(\d+)\s+(\d+)", read(f"/proc/{process.pid}/status"))
        assert uid.group(1) != "0" and uid.group(2) != "0", uid.group()
        client = Client()
        client.hello()
        assert send_one(client)[0] == 250
        process.send_signal(1)
        seen = [told.recv(200) for _ in range(2)]
        while b"READY=1" not in seen:
            seen.append(told.recv(200))
        assert any(s.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for s in seen), seen
        while b"WATCHDOG=1" not in seen:
            seen.append(told.recv(200))
        process.terminate()
        while b"STOPPING=1" not in seen:
            seen.append(told.recv(200))
        assert process.wait(15) == 0, read(log)
    finally:
        process.kill()
        listener.close()
        told.close()


@scenario("check: the example configuration is valid once certificates exist; errors exit 78")
def check_example(world):
    folder = f"{world.bed.dir}/etc"
    os.makedirs(f"{folder}/tls", exist_ok=True)
    source = os.environ.get("POSTERN_SRCDIR") or os.path.dirname(os.path.abspath(__file__)) + "/../.."
    with open(f"{folder}/relay.conf", "w") as file:
        file.write(read(f"{source}/data/relay.conf"))

    def run(*command):
        return subprocess.run(command, capture_output=True, text=True, timeout=20)

    relay_in, relayctl = f"{testbed.BUILD}/relay-in", f"{testbed.BUILD}/relayctl"
    missing = run(relay_in, "-c", f"{folder}/relay.conf", "--check")
    line = next(n for n, text in enumerate(read(f"{folder}/relay.conf").splitlines(), 1) if "fullchain.pem" in text)
    assert missing.returncode == 78 and f"relay.conf:{line}: tls.certificates" in missing.stderr, missing.stderr
    for name, path in (("fullchain.pem", world.bed.cert), ("privkey.pem", world.bed.key)):
        with open(f"{folder}/tls/{name}", "w") as file:
            file.write(read(path))
    for command in ((relay_in, "-c", f"{folder}/relay.conf", "--check"), (relayctl, "check", "-c", f"{folder}/relay.conf")):
        result = run(*command)
        assert result.returncode == 0 and "the configuration is valid" in result.stdout, result
    printed = run(relay_in, "-c", f"{folder}/relay.conf", "--print-config").stdout
    with open(f"{folder}/printed.conf", "w") as file:
        file.write(printed)
    assert run(relay_in, "-c", f"{folder}/printed.conf", "--print-config").stdout == printed
    assert run(relayctl, "check", "-c", f"{folder}/none.conf").returncode == 78
    assert run(relay_in, "--no-such-option").returncode == 64
    with open(f"{folder}/tls/privkey.pem", "w") as file:
        file.write(read(world.bed.make_certificate("unfit")[1]))
    unfit = run(relay_in, "-c", f"{folder}/relay.conf", "--check")
    assert unfit.returncode == 78 and "privkey.pem" in unfit.stderr, unfit.stderr


@scenario("tls: tickets resume sessions, also after the certificates were renewed")
def tickets(world):
    relay = world.relay()
    saved = f"{world.bed.dir}/session.pem"

    def connect(*more):
        return subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-bind", f"{CLIENT4}:0", "-connect",
                               f"{RELAY4}:25", "-ign_eof", *more], input="QUIT\r\n", capture_output=True, text=True,
                              timeout=20).stdout

    assert "New, TLSv1.3" in connect("-sess_out", saved)
    assert "Reused, TLSv1.3" in connect("-sess_in", saved)
    world.bed.make_certificate("relay", "ec")
    relay.process.send_signal(1)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    assert "Reused, TLSv1.3" in connect("-sess_in", saved)


@scenario("tls: openssl's own key share is taken without a HelloRetryRequest, P-256 alone too")
def key_shares(world):
    world.relay()

    def connect(*more):
        result = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-bind", f"{CLIENT4}:0", "-connect",
                                 f"{RELAY4}:25", "-ign_eof", "-msg", *more], input="QUIT\r\n", capture_output=True,
                                text=True, timeout=20).stdout
        assert "221 2.0.0" in result, result[-500:]
        return result

    # a HelloRetryRequest is a ServerHello too, and causes a second ClientHello
    for groups, key in ([], "X25519"), (["-groups", "P-256"], "ECDH, prime256v1"), (["-tls1_2"], "X25519"):
        out = connect(*groups)
        hellos = [line for line in out.splitlines() if re.search(r"Handshake.*(ClientHello|ServerHello)\b", line)]
        assert len(hellos) == 2, hellos
        assert re.search(rf"(Server|Peer) Temp Key: {key}", out), out[-3000:]
    # no share for our first choice, but X25519 is supported: the retry leads there
    out = connect("-groups", "P-384:X25519", "-tls1_3")
    assert re.search("(Server|Peer) Temp Key: X25519", out), out[-3000:]


@scenario("tls: DH parameters as openssl writes them, with -dsaparam too; check names a certificate for another host")
def dh_parameters(world):
    bed, kept = world.bed, (world.bed.cert, world.bed.key)
    files = {"dh.pem": ["genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"],
             "dsa.pem": ["dhparam", "-dsaparam", "2048"]}
    bed.cert, bed.key = bed.make_certificate("dh-relay", "rsa")
    try:
        for name, command in files.items():
            subprocess.run(["openssl", command[0], "-out", f"{bed.dir}/{name}", *command[1:]], check=True, capture_output=True, timeout=60)
            relay = world.relay(tls=f'dh_params = "{bed.dir}/{name}";')
            result = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-bind", f"{CLIENT4}:0", "-connect",
                                     f"{RELAY4}:25", "-ign_eof", "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
                                    input="QUIT\r\n", capture_output=True, text=True, timeout=20).stdout
            assert "221 2.0.0" in result and re.search("(Server|Peer) Temp Key: DH, 2048 bits", result), result[-1500:]
            relay.stop()
        said = subprocess.run([f"{testbed.BUILD}/relayctl", "check", "-c", relay.conf], capture_output=True, text=True)
        assert said.returncode == 0 and f"{relay.conf}:4: tls.certificates: no certificate is for relay.example" in said.stderr
        bed.cert, bed.key = kept
        relay.write_conf()
        said = subprocess.run([f"{testbed.BUILD}/relayctl", "check", "-c", relay.conf], capture_output=True, text=True)
        assert said.returncode == 0 and said.stderr == "", said.stderr
    finally:
        bed.cert, bed.key = kept


@scenario("tls: implicit on a port marked so, not offered to no_tls_hosts, old versions refused")
def tls_options(world):
    world.relay(inner=f'no_tls_hosts = [ "{OTHER4}" ];')
    assert "STARTTLS" in Client().hello() and "STARTTLS" not in Client(OTHER4).hello()
    out = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-bind", f"{CLIENT4}:0", "-connect", f"{RELAY4}:25",
                          "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], input="", capture_output=True, text=True, timeout=20)
    assert "Cipher is (NONE)" in out.stdout, out.stdout[-500:]
    relay = world.relays[0]
    relay.stop()
    with open(relay.conf) as file:
        text = file.read().replace('listen = [ "[::]:25" ]', 'listen = [ "[::]:25", "[::]:465 tls" ]')
    with open(relay.conf, "w") as file:
        file.write(text)
    relay.process = subprocess.Popen([f"{testbed.BUILD}/relay-in", "-c", relay.conf], stderr=open(relay.log, "w"),
                                     env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    wait_for("relay-in", lambda: "event=start" in read(relay.log))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP_SSL(RELAY4, 465, source_address=(CLIENT4, 0), context=context, timeout=20) as server:
        server.sendmail("s@sender.example", ["a@example.com"], "Subject: x\r\n\r\nx\r\n")
    world.postfix.wait_mail("a")


@scenario("tls: a client certificate is required and checked against the CA")
def client_certificate(world):
    cert, key = world.bed.make_certificate("partner")
    other_cert, other_key = world.bed.make_certificate("stranger")
    relay = world.relay()
    relay.stop()
    text = read(relay.conf).replace("tls = { ", f'tls = {{ client_certificates = "require"; ca_file = "{cert}"; ', 1)
    with open(relay.conf, "w") as file:
        file.write(text)
    relay.process = subprocess.Popen([f"{testbed.BUILD}/relay-in", "-c", relay.conf], stderr=open(relay.log, "w"),
                                     env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    wait_for("relay-in", lambda: "event=start" in read(relay.log))
    good = swaks("--local-interface", CLIENT4, "--tls", "--tls-cert", cert, "--tls-key", key)
    assert good.returncode == 0, good.stdout
    wait_for("the summary", lambda: "cert=CN=partner.example cert_verified=yes" in read(relay.log).replace('"', ""))
    for arguments in ([], ["--tls-cert", other_cert, "--tls-key", other_key]):
        bad = swaks("--local-interface", CLIENT4, "--tls", *arguments)
        assert bad.returncode != 0, bad.stdout
    assert read(relay.log).count("event=tls-failed") == 2
    assert len(world.postfix.mails("a")) <= 1


@scenario("size: announced and real size over the limit are refused, the session goes on")
def size_limit(world):
    world.relay(limits='message_size = "10K";')
    client = Client()
    assert "SIZE 10240" in client.hello()
    client.cmd("MAIL FROM:<s@sender.example> SIZE=10241", 552)
    client.envelope("a@example.com")
    assert client.data(("x" * 70 + "\r\n") * 200)[0] == 552
    assert send_one(client)[0] == 250
    world.postfix.wait_mail("a")
    assert len(world.postfix.mails("a")) == 1


sys.exit(tap.main())
