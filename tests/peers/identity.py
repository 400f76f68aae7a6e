"""The client's identity as each kind of backend gets it: names, PROXY headers, XCLIENT from a relay in front.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import ipaddress
import re
import time

from bed import BACKEND, CLIENT4, CLIENT6, OTHER4, POSTFIX_PORT, RELAY4, RELAY6, Client, Postfix, read, wait_for
from fakes import NameServer
from mirror import PORT, introduced, learned, mirror
from servers import Exim, OpenSMTPD
from tap import scenario

DNS_PORT, POSTSCREEN_PORT, PROXIED_PORT, EXIM_PORT, SMTPD_PORT = 5300, 2614, 2615, 2611, 2612
MAIL = "Subject: x\r\nFrom: s@sender.example\r\nDate: Sat, 21 Nov 2026 00:00:00 +0000\r\n" \
       "Message-ID: <1@sender.example>\r\n\r\nhello\r\n"
# The listener, the client, and how a server shows it: IPv4, IPv6, and IPv4 on an IPv6 socket.
CLIENTS = (('"0.0.0.0:25"', CLIENT4, RELAY4, CLIENT4), ('"[2001:db8::1]:25"', CLIENT6, RELAY6, f"IPv6:{CLIENT6}"),
           ('"[::]:25"', CLIENT4, RELAY4, CLIENT4), ('"[::]:25"', CLIENT6, RELAY6, f"IPv6:{CLIENT6}"))


def send(source, host, name="mx1.sender.example"):
    client = Client(source, host)
    try:
        client.hello(name)
        assert client.envelope("a@example.com") == [250]
        code, text = client.data(MAIL)
        assert code == 250, text
    finally:
        client.close()


def flat(text):
    return re.sub(r"\s+", " ", text)


@scenario("identity: IPv4, IPv6 and v4-mapped clients as a recorder hears them, in each mode")
def every_mode(world):
    for identity in ("xclient", "proxy-v1", "proxy-v2", "none"):
        proxy = identity.startswith("proxy")
        for listen, source, host, _ in CLIENTS:
            backend = mirror(world, proxy=proxy)
            relay = world.relay(backend_port=PORT, identity=identity, listen=listen, backend="spares = 0;")
            send(source, host)
            message, = backend.accepted
            if identity == "xclient":
                assert message.client == (f"IPV6:{source}" if ":" in source else source), message.client
            elif proxy:
                assert [d.proxy for d in introduced(backend)] == [(int(identity[-1]), source)]
            else:
                assert message.client == "" and not any("XCLIENT" in c for c in backend.commands)
            assert message.helo == ("relay.example" if identity == "none" else "mx1.sender.example"), message.helo
            label = f"IPv6:{source}" if ":" in source else source
            assert f"from mx1.sender.example (unknown [{label}])" in flat(message.content.decode()), message.content
            assert backend.violations == [], backend.violations
            relay.stop()
            backend.close()


def proxied_postfix(bed, name="proxied"):
    """One Postfix with both of its ways to accept a PROXY header."""
    return Postfix(bed, name, f"{BACKEND}:2616", """
postscreen_greet_wait = 1s
postscreen_greet_action = enforce""", f"""{BACKEND}:{POSTSCREEN_PORT} inet n - n - 1 postscreen
  -o postscreen_upstream_proxy_protocol=haproxy
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
{BACKEND}:{PROXIED_PORT} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
""")


@scenario("proxy: Postfix by postscreen and by smtpd sees and logs the real client, versions 1 and 2")
def proxy_postfix(world):
    postfix = proxied_postfix(world.bed)
    try:
        for port in (PROXIED_PORT, POSTSCREEN_PORT):
            for identity in ("proxy-v1", "proxy-v2"):
                for listen, source, host, shown in CLIENTS:
                    relay = world.relay(backend_port=port, identity=identity, listen=listen)
                    send(source, host)
                    mail = flat(postfix.wait_mail("a").decode())
                    assert f"from mx1.sender.example (unknown [{shown}])" in mail.split("Received:")[1], (port, identity, mail)
                    postfix.clear()
                    relay.stop()
        log = read(postfix.log)
        assert f"client=unknown[{CLIENT4}]" in log and f"client=unknown[{CLIENT6}]" in log
        assert re.search(rf"postscreen\[\d+\]: CONNECT from \[{re.escape(CLIENT4)}\]:\d+ to \[203\.0\.113\.5\]:25", log)
        assert re.search(rf"postscreen\[\d+\]: CONNECT from \[{CLIENT6}\]:\d+ to \[2001:db8::1\]:25", log)
        assert re.search(rf"postscreen\[\d+\]: PASS NEW \[{re.escape(CLIENT4)}\]", log)
        # the keeper's probe does not look like a broken client
        for bad in ("PREGREET", "proxy protocol error", "read error", "timeout", "NON-SMTP", "COMMAND"):
            assert bad not in log, [line for line in log.splitlines() if bad in line]
    finally:
        postfix.stop()


class ProxiedExim(Exim):
    """Takes all mail into its queue and leaves it there."""

    def __init__(self, bed):
        super().__init__(bed, (BACKEND,), (EXIM_PORT,), """primary_hostname = exim.example
hosts_proxy = 10.0.0.0/8
acl_smtp_rcpt = accept
tls_advertise_hosts =
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
""")

    def mails(self):
        return [read(path) for path in sorted(glob.glob(f"{self.dir}/input/*-H"))]


@scenario("proxy: Exim sees the real client, versions 1 and 2")
def proxy_exim(world):
    exim = ProxiedExim(world.bed)
    try:
        for identity in ("proxy-v1", "proxy-v2"):
            for listen, source, host, _ in CLIENTS:
                count = len(exim.mails())
                relay = world.relay(backend_port=EXIM_PORT, identity=identity, listen=listen)
                learned(source)
                send(source, host)
                wait_for("the mail", lambda: len(exim.mails()) == count + 1)
                mail = [m for m in exim.mails()][-1]
                assert f"-host_address [{source}]:" in mail, mail
                assert f"Received: from [{source}] (helo=mx1.sender.example)" in mail.replace("ehlo", "helo"), mail
                relay.stop()
        log = read(f"{exim.dir}/mainlog")
        assert f"H=(mx1.sender.example) [{CLIENT4}]" in log and f"[{CLIENT6}]" in log, log
    finally:
        exim.stop()


@scenario("proxy: OpenSMTPD sees the real client, version 2")
def proxy_opensmtpd(world):
    final = mirror(world, PORT, extensions=("8BITMIME",))
    smtpd = OpenSMTPD(world.bed, BACKEND, SMTPD_PORT, "proxy-v2 hostname smtpd.example", f"""action "on" relay host smtp://{BACKEND}:{PORT}
match from any for domain "example.com" action "on"
""")
    try:
        for count, (listen, source, host, _) in enumerate(CLIENTS):
            relay = world.relay(backend_port=SMTPD_PORT, identity="proxy-v2", listen=listen)
            learned(source)
            send(source, host)
            wait_for("the mail", lambda: len(final.accepted) == count + 1, 20)
            mail = flat(final.accepted[-1].content.decode())
            assert re.search(rf"from mx1\.sender\.example \(\S+ \[{re.escape(source)}\]\) by smtpd\.example", mail), mail
            relay.stop()
        log = read(smtpd.log)
        assert f"smtp connected address={CLIENT4}" in log and re.search(rf"smtp connected address=\[?{CLIENT6}", log), log
    finally:
        smtpd.stop()


@scenario("proxy: a backend that expects no header: 451 4.3.5, an error that says so, nothing delivered")
def proxy_to_plain(world):
    for identity in ("proxy-v1", "proxy-v2"):
        for tls in ("none", "encrypt"):
            relay = world.relay(identity=identity, backend=f'tls = "{tls}"; command_timeout = "3s";')
            client = Client()
            client.hello()
            client.cmd("MAIL FROM:<s@sender.example>", 250)
            code, text = client.cmd("RCPT TO:<a@example.com>")
            assert code == 451 and "4.3.5" in text, (identity, tls, text)
            client.cmd("DATA", 554)
            assert re.search(r"event=backend-identity session=.*PROXY", read(relay.log)), read(relay.log)
            client.close()
            relay.stop()
    time.sleep(0.3)
    assert world.postfix.mails("a") == []


def reverse_of(address):
    return ipaddress.ip_address(address).reverse_pointer


# The rows of protocol 1.2: PTR; its A or AAAA; NAME and REVERSE_NAME in XCLIENT.
NAME, BAD, LATE = "mx1.sender.example", "[UNAVAILABLE]", "[TEMPUNAVAIL]"
ROWS = {
    "confirmed": ([NAME], "own", NAME, None),
    "forward is another address": ([NAME], "other", BAD, NAME),
    "forward does not exist": ([NAME], 3, BAD, NAME),
    "forward has no address": ([NAME], [], BAD, NAME),
    "no PTR": (3, 3, BAD, BAD),
    "PTR without data": ([], 3, BAD, BAD),
    "PTR is no host name": (["198.51.100.7"], 3, BAD, BAD),
    "PTR is nonsense": (["a b!c.example"], 3, BAD, BAD),
    "PTR fails": (2, 3, LATE, LATE),
    "PTR is refused": (5, 3, LATE, LATE),
    "PTR has no answer": ("silence", 3, LATE, LATE),
    "forward fails": ([NAME], 2, LATE, NAME),
    "forward has no answer": ([NAME], "silence", LATE, NAME),
    "the second of two PTR is confirmed": (["other.example", NAME], "own", NAME, None),
    "an answer for TCP": ([f"n{i}.{'x' * 40}.example" for i in range(12)], 3, None, None),
}


def records_of(address, pointers, forward):
    kind, other = ("AAAA", "2001:db8::99") if ":" in address else ("A", "192.0.2.99")
    values = {"own": [other, address], "other": [other]}.get(forward, forward) if isinstance(forward, str) else forward
    return {(reverse_of(address), "PTR"): pointers, (NAME, kind): values}


def with_names(server=BACKEND):
    return dict(reverse_dns="true", top=f'dns = {{ servers = [ "{server}:{DNS_PORT}" ]; validate = false; }};')


@scenario("names: each row of the table, at a recorder, in our Received line and in our log")
def names(world):
    wrong = []
    for source, host in ((CLIENT4, RELAY4), (CLIENT6, RELAY6)):
        for row, (pointers, forward, name, reverse) in ROWS.items():
            dns = NameServer(BACKEND, DNS_PORT, records_of(source, pointers, forward))
            backend = mirror(world)
            relay = world.relay(backend_port=PORT, **with_names())
            try:
                client = Client(source, host)
                began = time.monotonic()
                client.hello(NAME)
                greeted = time.monotonic() - began
                client.cmd("MAIL FROM:<s@sender.example>", 250)
                client.cmd("RCPT TO:<no@other.example>", 550)
                client.cmd("RCPT TO:<a@example.com>", 250)
                took = time.monotonic() - began
                client.cmd("RCPT TO:<no@other.example>", 550)
                assert client.data(MAIL)[0] == 250
                client.close()
                line, = [c for c in backend.commands if c.startswith("XCLIENT")]
                if name is None:  # too many for UDP, and only a few are checked
                    name, reverse = BAD, re.search(r"REVERSE_NAME=(n\d+\.x{40}\.example) ", line).group(1)
                want = f"XCLIENT NAME={name}" + (f" REVERSE_NAME={reverse}" if reverse else "") + " ADDR="
                shown = name if "[" not in name else "unknown"
                label = f"IPv6:{source}" if ":" in source else source
                received = flat(backend.accepted[0].content.decode())
                log = [entry for entry in read(relay.log).splitlines() if "NOQUEUE: reject: RCPT" in entry][-1]
                for what, good in (("line", line.startswith(want)),
                                   ("received", f"from {NAME} ({shown} [{label}]) by relay.example" in received),
                                   ("log", f"RCPT from {shown}[{source}]: 550" in log),
                                   ("banner", greeted < 1), ("delay", took < 5.8)):
                    if not good:
                        wrong.append((source, row, what, line, received[:120], f"{greeted:.1f} {took:.1f}"))
            finally:
                dns.close()
                relay.stop()
                backend.close()
    assert not wrong, "\n".join(map(str, wrong))


@scenario("names: Postfix has them in its log and Received line, and refuses by them")
def names_postfix(world):
    dns = NameServer(BACKEND, DNS_PORT, {**records_of(CLIENT4, [NAME], "own"),
                                         **records_of(OTHER4, [NAME], "other")})
    dns.records[(NAME, "A")] = [CLIENT4]
    postfix = Postfix(world.bed, "named", f"{BACKEND}:2617", f"""
smtpd_authorized_xclient_hosts = 10.0.0.1, {BACKEND}
smtpd_recipient_restrictions = reject_unknown_reverse_client_hostname""")
    try:
        world.relay(backend_port=2617, **with_names())
        send(CLIENT4, RELAY4)
        mail = flat(postfix.wait_mail("a").decode())
        assert mail.count(f"from {NAME} ({NAME} [{CLIENT4}])") == 2, mail
        wait_for("Postfix's word on the name", lambda: f"client={NAME}[{CLIENT4}]" in read(postfix.log))
        # the name does not have this address, but the PTR names it
        send(OTHER4, RELAY4)
        wait_for("Postfix's word on no name", lambda: f"client=unknown[{OTHER4}]" in read(postfix.log))
        # no PTR at all
        client = Client(CLIENT6)
        client.hello()
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        code, text = client.cmd("RCPT TO:<a@example.com>")
        assert code == 450 and "cannot find your reverse hostname" in text, text
    finally:
        postfix.stop()
        dns.close()


@scenario("names: a DNS that does not answer delays the first recipient by 5 s at most, the greeting never")
def names_silent(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, **with_names("10.0.0.9"))  # no server there
    dns = NameServer(BACKEND, DNS_PORT, {(reverse_of(CLIENT4), "PTR"): "silence"})
    for server in ("10.0.0.9", BACKEND):
        relay.stop()
        relay = world.relay(backend_port=PORT, **with_names(server))
        client = Client()
        began = time.monotonic()
        client.hello()
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        greeted = time.monotonic() - began
        client.cmd("RCPT TO:<a@example.com>", 250)
        took = time.monotonic() - began
        assert client.data(MAIL)[0] == 250
        again = time.monotonic()
        assert client.envelope("a@example.com") == [250]
        assert client.data(MAIL)[0] == 250
        again = time.monotonic() - again
        print(f"# {server}: greeted after {greeted * 1000:.0f} ms, first recipient {took:.1f} s, the next {again:.1f} s")
        assert greeted < 1 and took < 5.5 and again < 1, (greeted, took, again)
        assert "NAME=[TEMPUNAVAIL] REVERSE_NAME=[TEMPUNAVAIL]" in \
            [c for c in backend.commands if c.startswith("XCLIENT")][-1]
        client.close()
    dns.close()


@scenario("xclient: taken from listed hosts only, once, outside transactions, never a log-in")
def xclient_in(world):
    backend = mirror(world)
    world.relay(backend_port=PORT, inner='xclient_hosts = [ "198.51.100.8/32" ];', limits="errors = 100;")
    stranger = Client(CLIENT4)
    assert "XCLIENT" not in stranger.hello()
    stranger.cmd("XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.1", 500)
    stranger.cmd("XFORWARD ADDR=192.0.2.1", 500)
    for line, address in (("NAME=x.example ADDR=192.0.2.1 PORT=4711", "192.0.2.1"),
                          ("ADDR=IPV6:2001:db8::42 NAME=[UNAVAILABLE]", "IPV6:2001:db8::42"),
                          ("name=[tempunavail] addr=IPV6:::ffff:192.0.2.3 PROTO=ESMTP HELO=evil", "192.0.2.3")):
        client = Client(OTHER4)
        assert "XCLIENT NAME ADDR" in client.hello("relay2.example")
        code, text = client.cmd(f"XCLIENT {line}")
        assert code == 220, text
        client.cmd("MAIL FROM:<s@sender.example>", 503)
        assert "XCLIENT" not in client.cmd("EHLO mx1.sender.example", 250)[1]
        client.cmd("XCLIENT ADDR=192.0.2.9", 550)
        assert client.envelope("a@example.com") == [250]
        client.cmd("XCLIENT ADDR=192.0.2.9", 550)
        assert client.data(MAIL)[0] == 250
        assert backend.accepted[-1].client == address and backend.accepted[-1].helo == "mx1.sender.example"
        client.close()
    client = Client(OTHER4)
    client.hello()
    for bad in ("", "ADDR=", "ADDR=2001:db8::1", "ADDR=[192.0.2.1]", "NAME=x", "ADDR=192.0.2.1 LOGIN=bob", "FORWARD=1",
                "ADDR=192.0.2.1 PORT=99999", "ADDR=192.0.2.1 PORT=x"):
        assert client.cmd(f"XCLIENT {bad}".strip())[0] == 501, bad
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("XCLIENT ADDR=192.0.2.1", 503)
    client.cmd("RSET", 250)
    # the backend would trust a private address
    for private in ("127.0.0.1", "10.0.0.2", "IPV6:::1"):
        client = Client(OTHER4)
        client.hello()
        assert client.cmd(f"XCLIENT NAME=x.example ADDR={private}")[0] == 554 and client.gone()
    assert backend.violations == [] and not any("LOGIN" in c for c in backend.commands)


@scenario("xclient: a front that reports clients of the other family than its socket's: every backend sees them")
def other_family(world):
    cases = [(world.postfix, POSTFIX_PORT, "xclient")]
    postfix = proxied_postfix(world.bed, "proxied-again")
    exim = ProxiedExim(world.bed)
    try:
        cases += [(postfix, port, f"proxy-v{v}") for port in (PROXIED_PORT, POSTSCREEN_PORT) for v in (1, 2)]
        cases += [(exim, EXIM_PORT, f"proxy-v{v}") for v in (1, 2)]
        for server, port, identity in cases:
            relay = world.relay(backend_port=port, identity=identity, inner=f'xclient_hosts = [ "{OTHER4}", "{CLIENT6}" ];')
            for front, source in ((OTHER4, "2001:db8:9::7"), (CLIENT6, "192.0.2.7")):
                client = Client(front)
                client.hello("front.example")
                client.cmd(f"XCLIENT NAME=[UNAVAILABLE] ADDR={'IPV6:' * (':' in source)}{source} PORT=41234", 220)
                client.cmd("EHLO mx1.sender.example", 250)
                client.cmd("MAIL FROM:<s@sender.example>", 250)
                code, text = client.cmd("RCPT TO:<a@example.com>")
                assert code == 250, (identity, port, source, text)
                assert client.data(MAIL)[0] == 250
                client.close()
                log = server.log if isinstance(server, Postfix) else f"{exim.dir}/mainlog"
                wait_for(f"{source} at {port}", lambda: f"[{source}]" in read(log))
            if isinstance(server, Postfix):
                wait_for("mail", lambda: len(server.mails("a")) == 2)
                server.clear()
            relay.stop()
    finally:
        postfix.stop()
        exim.stop()


@scenario("xclient: a second relay-in in front: its client is the backend's client, through both")
def two_relays(world):
    backend = mirror(world)
    dns = NameServer(BACKEND, DNS_PORT, records_of(CLIENT4, [NAME], "own"))
    try:
        rear = world.relay(backend_port=PORT, listen='"10.0.0.9:25"', inner='xclient_hosts = [ "10.0.0.0/24" ]; private_clients = '
                           '[ "10.0.0.0/24" ];', **with_names())
        # a relay that asks before it knows the backend learns less, and asks again after 15 minutes
        wait_for("the rear one's offer", lambda: "event=backend-offer" in read(rear.log))
        world.relay(hosts='"10.0.0.9:25"', listen=f'"{RELAY4}:25"', backend='source = "10.0.0.1";', **with_names())
        wait_for("the offer", lambda: "CHUNKING" in Client(CLIENT4).hello())
        client = Client()
        client.hello("mx1.sender.example")
        client.starttls("mx1.sender.example")
        client.cmd("MAIL FROM:<s@sender.example> RET=HDRS", 250)
        client.cmd("RCPT TO:<a@example.com> NOTIFY=NEVER", 250)
        assert client.data(MAIL)[0] == 250
        message = backend.accepted[-1]
        assert message.client == CLIENT4 and message.helo == "mx1.sender.example", message
        assert any(c.startswith(f"XCLIENT NAME={NAME} ADDR={CLIENT4} ") for c in backend.commands), backend.commands
        assert message.mail.endswith("RET=HDRS") and message.rcpts[0].endswith("NOTIFY=NEVER")
        traces = flat(message.content.decode()).count(f"from mx1.sender.example ({NAME} [{CLIENT4}])")
        assert traces == 2, message.content
        assert backend.violations == [], backend.violations
    finally:
        dns.close()
