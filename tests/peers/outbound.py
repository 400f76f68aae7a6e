"""relay-out against a small internet of real mail servers. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import base64
import json
import os
import pwd
import re
import signal
import ssl
import subprocess
import sys
import threading
import time

import haraka  # runs its scenarios here too
import nexthops
import tap
from bed import BACKEND, BUILD, CLIENT4, LENIENCIES, Client, Postfix, Relay, fail2ban_finds, read, wait_for
from fakes import Listener, MailServer
from internet import DNS, HOSTS, Authority, EximHosts, Names, OpenSMTPDHost, Receivers, Remote, Vps
from tap import scenario

OUT, PORT = "10.0.0.1", 2526
BODY = "From: s@sender.example\r\nSubject: a test\r\n\r\n.. a dot, and text\r\n"


class RelayOut(Relay):
    """relay-out under test; `inner` goes into its group, `top` beside it."""

    def __init__(self, bed, vps, inner="", top="", tls="", dns="", wait=True):
        bed.count += 1
        self.bed, self.inner, self.top, self.tls, self.dns = bed, inner, top, tls, dns
        self.conf = f"{bed.dir}/out-{bed.count}.conf"
        self.log = f"{bed.dir}/out-{bed.count}.log"
        self.spool = f"{bed.dir}/spool-{bed.count}"
        os.mkdir(self.spool)
        os.chown(self.spool, pwd.getpwnam("nobody").pw_uid, -1)
        self.write_conf()
        environment = {"ASAN_OPTIONS": "detect_leaks=0", **os.environ}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*vps.enter, f"{BUILD}/relay-out", "-c", self.conf],
                                            stderr=log, stdin=subprocess.DEVNULL, env=environment)
        if wait:
            wait_for("relay-out", lambda: "event=start" in read(self.log) or
                     self.process.poll() is not None)
            assert self.process.poll() is None, "relay-out did not start"

    def write_conf(self):
        allow = "" if "allow" in self.inner or "open_relay" in self.inner else f'allow = [ "{BACKEND}" ];'
        spool = "" if "spool = " in self.inner else f'spool = "{self.spool}";'
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "relay.example";
user = "nobody";
tls = {{ certificates = ( {{ cert = "{self.bed.cert}"; key = "{self.bed.key}"; }} ); }};
dns = {{ servers = [ "{DNS}" ]; trust_anchor_file = "{self.bed.dir}/root.key"; {self.dns} }};
out = {{ listen = [ "{OUT}:{PORT}" ]; {allow} tls = {{ ca_file = "{self.bed.dir}/ca.crt"; {self.tls} }};
  own_addresses = [ "203.0.113.6" ]; {spool}
  {self.inner}
}};
log = {{ level = "debug"; }};
{self.top}
""")


def out(world, **settings):
    relay = RelayOut(world.bed, world.vps, **settings)
    world.relays.append(relay)
    return relay


def open_session(source=BACKEND, tls=False, timeout=100):
    client = Client(source, OUT, PORT, timeout)
    client.hello("home.example")
    if tls:
        client.starttls("home.example")
    return client


def send(*recipients, body=BODY, tls=False, sender="s@sender.example"):
    """Returns the replies to RCPT and, if any was accepted, the final reply."""
    client = open_session(tls=tls)
    client.cmd(f"MAIL FROM:<{sender}>", 250)
    replies = [client.cmd(f"RCPT TO:<{r}>") for r in recipients]
    if any(code == 250 for code, _ in replies):
        replies.append(client.data(body))
    client.cmd("QUIT", 221)
    client.close()
    return [text for _, text in replies]


def control_folder(world):
    folder = f"{world.bed.dir}/control"
    os.makedirs(folder, exist_ok=True)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    return folder


def samples(relay):
    """What relay-out has counted."""
    text = subprocess.run([f"{BUILD}/relayctl", "status", "--json", "-c", relay.conf], capture_output=True, text=True,
                          timeout=20).stdout
    return json.loads(text)["relay-out"]["sample"]


def delivered(world, domain, count=1):
    return world.internet.wait_mail(domain, count).decode()


@scenario("out: MX, plain text; one Received line, the body as sent")
def plain(world):
    relay = out(world)
    assert send("x@plain.test", tls=True)[-1].startswith("250 2.0.0 Ok: queued as")
    mail = delivered(world, "plain.test")
    assert "Received: from home.example (unknown [10.0.0.2])" in mail or \
        "Received: from home.example" in mail, mail
    assert mail.count("relay.example (Postern) with ESMTPS") == 1, mail
    assert mail.endswith(BODY.replace("\r\n", "\n").replace("..", ".", 1)), mail
    assert re.search(r"to=<x@plain.test>, relay=mx-plain.test\[198.51.100.21\]:25, delay=\d+\.\d+, "
                     r"dsn=2.0.0, status=sent \(250 2.0.0 Ok: queued as \w+\)", read(relay.log))


@scenario("out: a listener with TLS settings of its own, and a route with a CA of its own")
def own_tls(world):
    cert, key = world.authority.issue("listener", "mailrelay.example")
    relay = out(world, top=with_control(world), inner=f"""
      listen_tls = {{ certificates = ( {{ cert = "{cert}"; key = "{key}"; }} ); client_certificates = "request"; }};
      routes = ( {{ domain = "self.test"; next_hop = "{HOSTS["self"]}:25"; tls = "verify"; tls_name = "self.example";
                    ca_file = "{world.bed.dir}/self.crt"; }},
                 {{ domain = "valid.test"; next_hop = "{HOSTS["self"]}:25"; tls = "verify"; tls_name = "self.example"; }} );""")
    client = open_session()
    client.cmd("STARTTLS", 220)
    context = ssl.create_default_context(cafile=world.authority.cert)
    context.load_cert_chain(*world.bed.make_certificate("somebody"))  # from a CA that nobody trusts
    client.sock = context.wrap_socket(client.sock, server_hostname="mailrelay.example")
    client.file = client.sock.makefile("rb")
    client.cmd("EHLO home.example", 250)
    client.close()
    assert send("x@self.test")[-1].startswith("250 2.0.0 Ok"), "the route's CA knows it"
    delivered(world, "self.test")
    assert send("x@valid.test")[0].startswith("4"), "the others' CA does not"
    assert "Verified TLS connection" in read(relay.log)
    for result in "ok", "failed":
        assert samples(relay)[f'postern_out_tls_sessions_total{{policy="verify",result="{result}"}}'] == 1, result
    for domain, finds in (("self.test", "valid"), ("valid.test", "issuer is unknown")):
        shown = subprocess.run([f"{BUILD}/relayctl", "tls", "--connect", "-c", relay.conf, domain], capture_output=True,
                               text=True, timeout=30).stdout
        assert re.search(f"connected to: .*{finds}", shown), (domain, shown)


@scenario("out: the client's address is hidden where that is wanted")
def hidden(world):
    out(world, inner="received_client = false;")
    send("x@plain.test")
    mail = delivered(world, "plain.test")
    assert "10.0.0.2" not in mail and "home.example" not in mail
    assert "Received: by relay.example (Postern) with ESMTP id" in mail, mail


NAMES = [("null MX", "x@null.test", "556 5.1.10"),
         ("no such domain", "x@missing.test", "550 5.1.2"),
         ("nothing there", "x@exists.test", "550 5.4.4"),
         ("MX without an address", "x@nohost.test", "550 5.4.4"),
         ("private address", "x@private.test", "550 5.4.4"),
         ("MX is our name", "x@loop.test", "554 5.4.6"),
         ("MX is our address", "x@ownaddress.test", "554 5.4.6"),
         ("MX is our address behind NAT", "x@natted.test", "554 5.4.6"),
         ("forged", "x@bogus", "451 4.4.3"),
         ("no answer", "x@bad", "451 4.4.3"),
         ("literal", "x@[198.51.100.21]", "550 5.7.1"),
         ("our own name", "x@relay.example", "554 5.4.6"),
         ("implicit MX", "x@implicit.test", "250"),
         ("CNAME", "x@cname.test", "250"),
         ("we are the backup", "x@backup.test", "250"),
         ("IDN in A-labels", "x@xn--bcher-kva.test", "250"),
         ("first MX refuses connections", "x@dead.test", "250"),
         ("IPv6 only", "x@six.test", "250")]


@scenario("out: every way in which the DNS answers")
def names(world):
    relay = out(world, top=f'control = "{control_folder(world)}";')
    client = open_session()
    for what, recipient, expected in NAMES:
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        _, text = client.cmd(f"RCPT TO:<{recipient}>")
        assert text.startswith(expected), f"{what}: expected {expected}, got {text}"
        client.cmd("RSET", 250)
    failures = {kind: samples(relay)[f'postern_out_dns_failures_total{{type="{kind}"}}'] for kind in ("bogus", "timeout", "servfail")}
    assert failures == {"bogus": 1, "timeout": 0, "servfail": 1}, failures


@scenario("out: mail to an internationalized domain")
def idn(world):
    out(world)
    client = open_session()
    client.cmd("MAIL FROM:<s@sender.example> SMTPUTF8", 250)
    client.send("RCPT TO:<x@bücher.test>\r\n".encode())
    code, text = client.reply()
    assert code == 250, text


@scenario("out: equal preference is shared out")
def equal(world):
    relay = out(world, inner="reuse_for = 0;")
    for _ in range(16):
        send("x@equal.test")
    hosts = set(re.findall(r"relay=(mx-\w+)\.test\[.*status=sent", read(relay.log)))
    assert hosts == {"mx-plain", "mx-valid"}, hosts


@scenario("out: a host where packets vanish costs its time once")
def hole(world):
    out(world, inner='timeouts = { connect = "4s"; };')
    began = time.monotonic()
    assert send("x@hole.test")[0].startswith("250")
    first = time.monotonic() - began
    assert 3.5 < first < 7.5, first
    began = time.monotonic()
    assert send("y@hole.test")[0].startswith("250")
    assert time.monotonic() - began < 3.5


@scenario("out: more hosts that do not answer than there is time for: the good one behind them is come to")
def holes(world):
    out(world, inner='dead_for = "2s"; timeouts = { dial = "5s"; connect = "2s"; };')
    assert send("x@holes.test")[0].startswith("451 4.4.1 connect to 198.51.101.32:25")
    # Otherwise hosts that were tried would count as alive again and delay the next message.
    time.sleep(2.5)
    assert send("x@holes.test")[0].startswith("250")


@scenario("out: 20 s before the greeting are borne")
def tarpit(world):
    remote = world.remote(HOSTS["tarpit"], "later:20")
    out(world)
    began = time.monotonic()
    assert send("x@tarpit.test")[-1] == "250 2.0.0 kept"
    assert 19 < time.monotonic() - began < 30
    assert len(remote.messages) == 1


@scenario("out: the dial budget ends in 451, not in silence")
def budget(world):
    world.remote(HOSTS["tarpit"], "later:60")
    out(world, inner='timeouts = { dial = "3s"; };')
    began = time.monotonic()
    assert send("x@tarpit.test")[0].startswith("451 4.4")
    assert 2.5 < time.monotonic() - began < 6


TLS = [  # host, level, the reply begins with, TLS was used
    ("valid", "may", "250", True), ("self", "may", "250", True), ("expired", "may", "250", True),
    ("wrong", "may", "250", True), ("plain", "may", "250", False),
    ("valid", "none", "250", False),
    ("valid", "encrypt", "250", True), ("self", "encrypt", "250", True),
    ("plain", "encrypt", "451 4.7.4", None),
    ("valid", "verify", "250", True), ("six", "verify", "250", True),
    ("self", "verify", "451 4.7.5", None), ("expired", "verify", "451 4.7.5", None),
    ("wrong", "verify", "451 4.7.5", None), ("plain", "verify", "451 4.7.4", None)]


@scenario("out: TLS levels against certificates of all kinds")
def tls_levels(world):
    for level in ("may", "none", "encrypt", "verify"):
        relay = out(world, tls=f'level = "{level}";')
        for host, _, expected, used in [t for t in TLS if t[1] == level]:
            texts = send(f"x@{host}.test")
            assert texts[-1].startswith(expected), f"{level}, {host}: {texts}"
            if used is not None:
                mail = delivered(world, f"{host}.test")
                assert ("using TLSv1.3" in mail.split("by relay.example")[0]) == used, \
                    f"{level}, {host}: {mail}"
            world.internet.clear()
        log = read(relay.log)
        if level == "verify":
            assert "Verified TLS connection established to mx-valid.test" in log
            for reason in ("expired", "does not match the expected", "NOT trusted"):
                assert reason in log, reason
        relay.stop()


@scenario("out: STARTTLS announced and broken: plain text for that message, on a connection of its own")
def tls_broken(world):
    for manner in ("tls-garbage", "tls-closes"):
        remote = world.remote(HOSTS["broken"], manner)
        relay = out(world)
        for _ in range(2):
            assert send("x@broken.test")[-1] == "250 2.0.0 kept"
        # A connection in plain text because TLS failed is not kept for the next message.
        assert remote.connections == 4, remote.connections
        assert read(relay.log).count("TLS with mx-broken.test[198.51.100.26]:25 failed") == 2
        relay.stop()
        strict = out(world, tls='level = "encrypt";')
        assert send("x@broken.test")[0].startswith("451 4.7.5")
        strict.stop()
        excepted = out(world, tls='no_tls = [ "mx-broken.test" ];')
        assert send("x@broken.test")[-1] == "250 2.0.0 kept"
        assert "failed" not in read(excepted.log)
        excepted.stop()
        remote.close()
        world.remotes.remove(remote)


def remembered(relay):
    """What relayctl hosts shows about it."""
    return subprocess.run([f"{BUILD}/relayctl", "hosts", "-c", relay.conf], capture_output=True, text=True,
                          check=True, timeout=20).stdout


def with_control(world):
    world.bed.count += 1
    folder = f"{world.bed.dir}/control-{world.bed.count}"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    return f'control = "{folder}";'


@scenario("out: a server that refuses us behind a TLS 1.3 handshake has refused the handshake")
def tls_late(world):
    before = len(world.exim.mails())
    relay = out(world, top=with_control(world))
    assert send("x@strict.test")[-1].startswith("250")
    wait_for("Exim's mail", lambda: len(world.exim.mails()) == before + 1)
    assert re.search(r"TLS with mx-strict.test\[.*failed: .*[Cc]ertificate.*; trying plain text",
                     read(relay.log)), read(relay.log)
    assert re.match(r"strict.test: mx-strict.test\[198.51.100.33:25\] TLS failed, for another \d+ s: ",
                    remembered(relay)), remembered(relay)
    relay.stop()
    out(world, tls='level = "encrypt";')
    assert send("x@strict.test")[0].startswith("451 4.7.5")


@scenario("out: silence in a TLS handshake is nobody's plain text")
def tls_silent(world):
    remote = world.remote(HOSTS["broken"], "tls-silent")
    relay = out(world, inner='timeouts = { handshake = "1s"; };', top=with_control(world))
    assert send("x@broken.test")[0].startswith("451 4.7.5")
    assert remote.connections == 1 and remembered(relay) == ""


@scenario("out: what a stranger's zone makes of a host says nothing of that host for others")
def stranger(world):
    world.remote(HOSTS["tarpit"], "never:2")
    relay = out(world, inner='timeouts = { dial = "4s"; connect = "3s"; };', top=with_control(world))
    assert send("x@stranger.test")[0].startswith("451 4.4.1 connect to 198.51.101.30:25: Connection timed out")
    # It had only the rest of the time.
    assert remembered(relay) == "", remembered(relay)
    relay.inner = 'timeouts = { dial = "6s"; connect = "3s"; };'
    relay.write_conf()
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    assert send("x@stranger.test")[0].startswith("451 4.4.1 connect to 198.51.101.30:25: Connection timed out")
    assert remembered(relay).startswith("stranger.test: hole-host.test[198.51.101.30:25] not reached, for another 2"), \
        remembered(relay)
    began = time.monotonic()
    assert send("x@hole.test")[0].startswith("250")
    assert time.monotonic() - began > 2.5, "the host was not tried for another destination"


@scenario("out: Exim and OpenSMTPD take mail")
def others(world):
    relay = out(world)
    before = len(world.exim.mails())
    assert send("x@exim.test", "y@opensmtpd.test", "z@valid.test")[-1].startswith("250")
    wait_for("Exim's mail", lambda: len(world.exim.mails()) == before + 1)
    wait_for("OpenSMTPD's mail", lambda: len(world.opensmtpd.mails()) == 1)
    for mail in (world.exim.mails()[-1], world.opensmtpd.mails()[0]):
        assert ". a dot, and text" in mail and "Subject: a test" in mail, mail
    assert "Untrusted TLS connection established to mx-exim.test" in read(relay.log)


@scenario("out: Postfix, Exim and OpenSMTPD take bursts, with refusals in between, live and stored")
def bursts(world):
    burst = (("first", "x"), ("none", "no"), ("second", "x"), ("SPAM for all", "x"), ("third", "x", "no"), ("fourth", "x", "y"))
    mails = {"exim.test": world.exim.mails, "opensmtpd.test": world.opensmtpd.mails,
             "valid.test": lambda: [read(file) for file in world.internet.mails("valid.test")]}
    for delivery in ("live", "spool"):
        relay = out(world, inner=f'delivery = "{delivery}";')
        refused = 550 if delivery == "live" else 250
        for domain in mails:
            client = open_session()
            for subject, *names in burst:
                if subject == "SPAM for all" and domain == "opensmtpd.test":
                    continue
                client.cmd("MAIL FROM:<>", 250)  # nobody hears of what stored mail comes to
                codes = [client.cmd(f"RCPT TO:<{name}@{domain}>")[0] for name in names]
                assert codes == [refused if name == "no" else 250 for name in names], (domain, subject, codes)
                if 250 not in codes:
                    client.cmd("RSET", 250)
                    continue
                code, text = client.data(BODY.replace("a test", f"{subject} {delivery}"))
                assert code == (refused if subject == "SPAM for all" else 250), (domain, subject, text)
            client.close()
        wait_for("an empty spool", lambda: not os.listdir(f"{relay.spool}/queue"))
        for domain, read_mails in mails.items():
            def subjects():
                found = [re.search(r"^Subject: (.*)$", mail, re.M).group(1) for mail in read_mails()]
                return sorted(subject for subject in found if subject.endswith(delivery))
            copies = ["first", "fourth", "fourth", "second", "third"]  # one for each recipient
            wait_for(f"the mail for {domain}", lambda: len(subjects()) >= len(copies))
            assert subjects() == sorted(f"{subject} {delivery}" for subject in copies), (domain, subjects())
        relay.stop()


@scenario("out: each recipient has its own next hop's answer")
def answers(world):
    relay = out(world)
    texts = send("x@plain.test", "no@valid.test", "later@self.test", "y@self.test", "x@null.test")
    assert [t[:9] for t in texts] == ["250 2.1.5", "550 5.1.1", "450 4.2.0", "250 2.1.5", "556 5.1.1",
                                      "250 2.0.0"], texts
    assert "No such user here" in texts[1] and "Greylisted" in texts[2]
    delivered(world, "plain.test")
    delivered(world, "self.test")
    log = read(relay.log)
    for status in (r"to=<no@valid.test>.*dsn=5.1.1, status=bounced \(550 5.1.1",
                   r"to=<later@self.test>.*dsn=4.2.0, status=deferred \(450 4.2.0",
                   r"to=<x@null.test>, relay=none,.*dsn=5.1.10, status=bounced"):
        assert re.search(status, log), status


@scenario("out: a refusal of the message itself is passed on where all agree")
def refused_at_end(world):
    out(world)
    spam = BODY.replace("a test", "SPAM")
    assert send("x@plain.test", body=spam)[-1].startswith("550 5.7.1 smells of spam")
    assert send("x@plain.test", "y@valid.test", body=spam)[-1].startswith("550 5.7.1 smells")


@scenario("out: what next hops do not agree on is delivered in part and stored in part")
def disagreement(world):
    relay = out(world)
    before = len(world.exim.mails())
    assert send("x@plain.test", "y@exim.test", body=BODY.replace("a test", "SPAM"))[-1].startswith("250")
    wait_for("Exim's mail", lambda: len(world.exim.mails()) == before + 1)
    assert re.search(r"to=<x@plain.test>.*status=bounced \(550 5.7.1 smells of spam", read(relay.log))
    assert world.internet.mails("plain.test") == []
    # one line joins the session to what is in the spool, and the summary says where the message is
    stored = re.search(r"event=stored session=(\S+) id=(\S+) spool=([0-9a-f]{16}) .*recipients=2 left=0", read(relay.log))
    assert stored and stored[2].startswith(stored[1] + "."), read(relay.log)[-2000:]
    assert re.search(rf"event=message status=stored session={stored[1]} .*id={re.escape(stored[2])} ", read(relay.log))


@scenario("out: without a spool a message has one next hop")
def one_next_hop(world):
    out(world, inner='spool = "";')
    texts = send("x@plain.test", "y@plain.test", "z@valid.test")
    assert [t[:3] for t in texts] == ["250", "250", "452", "250"], texts


@scenario("out: our own certificate is shown to who asks")
def client_certificate(world):
    out(world, tls=f'cert = "{world.bed.dir}/six.crt"; key = "{world.bed.dir}/six.key";')
    send("x@valid.test")
    assert 'Client CN "mx-six.test"' in delivered(world, "valid.test")


@scenario("out: later messages take the connection of the first, also of another client session")
def reuse(world):
    relay = out(world)
    for _ in range(4):
        send("x@valid.test")
    assert read(relay.log).count("TLS connection established") == 1
    time.sleep(6)
    send("x@valid.test")
    assert read(relay.log).count("TLS connection established") == 2


@scenario("out: relayctl top shows the next hops that are spoken with: host, phase, since when; and those that are kept")
def looked_at(world):
    world.remote(HOSTS["tarpit"], "later:12")
    relay = out(world, top=f'control = "{control_folder(world)}";')

    def top(*more):
        done = subprocess.run([f"{BUILD}/relayctl", "top", "-c", relay.conf, "--count", "1", *more], capture_output=True,
                              text=True, timeout=20)
        assert done.returncode == 0 and not done.stderr, done
        return done.stdout

    def hops():
        return [line.split() for line in top().partition("next hops of relay-out:\n")[2].splitlines()]

    assert "next hops" not in top() and "relay-out: 0 connected" in top()
    slow, live = open_session(timeout=60), open_session()
    slow.cmd("MAIL FROM:<s@sender.example>", 250)
    slow.send("RCPT TO:<x@tarpit.test>\r\n")
    wait_for("the greeting", lambda: [row[:2] for row in hops()] == [["tarpit.test", "greeting"]])
    live.cmd("MAIL FROM:<s@sender.example> SIZE=2000000", 250)  # so large that the next hops' 354 is waited for
    for domain in "valid.test", "exim.test":
        live.cmd(f"RCPT TO:<x@{domain}>", 250)
    rows = {row[0]: row for row in hops()}
    assert set(rows) == {"tarpit.test", "valid.test", "exim.test"}, rows
    assert rows["valid.test"][1] == "envelope" and rows["valid.test"][4] == f"mx-valid.test[{HOSTS['valid']}]:25", rows
    live.cmd("DATA", 354)
    phases = {row[0]: row[1] for row in hops()}
    assert phases == {"tarpit.test": "greeting", "valid.test": "data", "exim.test": "data"}, phases
    live.send(BODY + ".\r\n")
    assert live.reply()[0] == 250
    live.cmd("QUIT", 221)
    live.close()
    assert [row[1] for row in hops()] == ["greeting", "kept", "kept"], "those in use first"
    assert samples(relay)['postern_out_delivery_duration_seconds_count{stage="final"}'] == 2
    assert float(hops()[0][2]) > 0 and "clients of relay-out:" in top()
    assert slow.reply()[0] == 250  # after its 12 s
    assert ["tarpit.test", "envelope"] in [row[:2] for row in hops()]
    slow.close()
    wait_for("nobody", lambda: not hops())  # kept connections live for 5 s
    assert read(relay.log).count("request=talks") > 5 and 'event=control uid=0 request=talks' in read(relay.log)


@scenario("out: outside the ACL nothing but 554, whatever is tried")
def outside(world):
    relay = out(world)
    stranger = Client(CLIENT4, OUT, PORT)
    assert stranger.reply()[1].startswith("554 5.7.1")
    assert stranger.gone()
    forms = nmap()
    assert f"{PORT}/tcp open" in forms and "is an open relay" not in forms, forms
    assert read(relay.log).count("NOQUEUE: reject: CONNECT from unknown[198.51.100.7]") >= 2


def nmap():
    """From CLIENT4."""
    return subprocess.run(
        ["nmap", "-Pn", "-n", "-sT", "-p", str(PORT), "--script", "+smtp-open-relay", "--script-args",
         "smtp-open-relay.domain=denied.test", "--script-timeout", "60s", OUT],
        capture_output=True, text=True, timeout=120).stdout


@scenario("out: nmap's open relay forms, from inside towards a denied domain")
def nmap_inside(world):
    relay = out(world, inner=f'''allow = [ "{CLIENT4}" ];
        routes = ( {{ domain = [ "denied.test" ]; action = "deny"; }} );''')
    forms = nmap()
    assert "all tests failed" in forms, forms
    assert read(relay.log).count("NOQUEUE: reject: RCPT") >= 10


# The forms of nmap's smtp-open-relay: ways to make a relay at `us` send to `victim`.
FORMS = ["{user}@{victim}", "{user}@[{ip}]", "{user}@{us}", "{user}%{victim}@{us}",
         "\"{user}@{victim}\"", "\"{user}%{victim}\"", "{user}@{victim}@{us}",
         "{user}@{victim}@[{ip}]", "\"{user}@{victim}\"@{us}", "\"{user}@{victim}\"@[{ip}]",
         "@{us}:{user}@{victim}", "@[{ip}]:{user}@{victim}", "{victim}!{user}",
         "{victim}!{user}@{us}", "{victim}!{user}@[{ip}]", "{user}%{victim}", "{user}@{victim}.",
         "{user}@", "@{victim}", ""]


@scenario("out: the relay tricks from inside towards denied domains: all refused")
def tricks(world):
    out(world, inner='routes = ( { domain = [ "plain.test", ".plain.test" ]; action = "deny"; } );')
    client = open_session()
    for sender in ("s@plain.test", "", "s@relay.example", "s@[10.0.0.1]"):
        for form in FORMS:
            to = form.format(user="relaytest", victim="plain.test", us="relay.example", ip=OUT)
            client.cmd(f"MAIL FROM:<{sender}>", 250)
            for leniency in LENIENCIES if sender else LENIENCIES[:1]:
                code, text = client.cmd("RCPT TO:" + leniency.replace("{}", to))
                assert 500 <= code < 600, f"{leniency.format(to)}: {text}"
            client.cmd("RSET", 250)
    assert world.internet.mails("plain.test") == []


@scenario("out: only these domains, by \"*\" with deny")
def only_these(world):
    out(world, inner='routes = ( { domain = [ "valid.test" ]; action = "accept"; },'
                     ' { domain = [ "*" ]; action = "deny"; } );')
    texts = send("x@valid.test", "x@plain.test", "x@[198.51.100.21]")
    assert [t[:3] for t in texts] == ["250", "550", "550", "250"], texts


@scenario("out: forced routes, the backend's own domains, a next hop that is ourselves")
def routes(world):
    out(world, inner=f"""routes = (
      {{ domain = [ "forced.example" ]; next_hop = [ "{HOSTS['dead']}", "mx-valid.test" ]; }},
      {{ domain = [ "self.example" ]; next_hop = [ "{OUT}:{PORT}" ]; }},
      {{ domain = [ "name.example" ]; next_hop = [ "missing.test" ]; }} );""",
        top=f"""in = {{ domains = [ "plain.test" ]; backend = {{ hosts = [ "{HOSTS['self']}" ];
             identity = "none"; }}; }};""")
    client = open_session()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    # Postfix there relays for .test only; what counts is who answered.
    assert "Relay access denied" in client.cmd("RCPT TO:<x@forced.example>")[1]
    assert client.cmd("RCPT TO:<x@self.example>")[1].startswith("554 5.4.6")
    assert client.cmd("RCPT TO:<x@name.example>")[1].startswith("451 4.3.5")
    client.cmd("RCPT TO:<x@plain.test>", 250)
    client.data(BODY)
    log = read(world.relays[0].log)
    assert "relay=mx-valid.test[198.51.100.22]:25" in log
    assert re.search(r"to=<x@plain.test>, relay=198.51.100.23\[198.51.100.23\]:25,.*status=sent", log)


@scenario("out: a host that does not answer is left alone for a while; one that we have no way to is tried again")
def dead_or_not(world):
    out(world, inner=f"""dead_for = "1h"; routes = (
      {{ domain = [ "dead.example" ]; next_hop = [ "{HOSTS['dead']}" ]; }},
      {{ domain = [ "far.example" ]; next_hop = [ "[2001:db8:99::1]" ]; }} );""")
    for _ in range(2):
        assert "connect to [2001:db8:99::1]:25: Network is unreachable" in send("x@far.example")[0]
    assert "Connection refused" in send("x@dead.example")[0]
    assert "Connection refused; not tried again for a while" in send("x@dead.example")[0]


@scenario("out: log-in of users outside the ACL, under TLS only; their senders; too many failures")
def users(world):
    file = f"{world.bed.dir}/users"
    for user, password, *senders in (("ann", "secret one", "ann@a.example", "@b.example"),
                                     ("bob", "secret two")):
        subprocess.run([f"{BUILD}/relayctl", "password", file, user, *senders], check=True,
                       input=password + "\n", text=True, timeout=20)
    os.chmod(file, 0o644)
    # A file that cannot be read completely is not replaced by the part that could be read.
    unreadable = f"{world.bed.dir}/unreadable"
    os.symlink("/proc/self/mem", unreadable)
    done = subprocess.run([f"{BUILD}/relayctl", "password", unreadable, "ann"], capture_output=True,
                          input="secret\n", text=True, timeout=20)
    assert done.returncode == 73 and os.path.islink(unreadable), done
    assert not os.path.exists(unreadable + ".new")
    with open(file + ".new", "w"):
        pass
    done = subprocess.run([f"{BUILD}/relayctl", "password", file, "eve"], capture_output=True,
                          input="secret\n", text=True, timeout=20)
    assert done.returncode == 73 and "interrupted, remove the file" in done.stderr, done
    os.unlink(file + ".new")
    relay = out(world, inner=f'users_file = "{file}"; limits = {{ auth_failures = 3; }};')

    def plain(user, password):
        return base64.b64encode(f"\0{user}\0{password}".encode()).decode()

    client = Client(CLIENT4, OUT, PORT)
    assert "AUTH" not in client.hello()
    client.cmd(f"AUTH PLAIN {plain('ann', 'secret one')}", 530)
    client.cmd("MAIL FROM:<ann@a.example>", 530)
    assert "AUTH PLAIN LOGIN" in client.starttls()
    client.cmd("MAIL FROM:<ann@a.example>", 530)
    client.cmd("AUTH PLAIN *", 501)
    client.cmd("AUTH CRAM-MD5", 504)
    began = time.monotonic()
    client.cmd(f"AUTH PLAIN {plain('ann', 'wrong')}", 535)
    client.cmd(f"AUTH PLAIN {plain('nobody', 'secret one')}", 535)
    assert time.monotonic() - began > 1.9
    client.cmd(f"AUTH PLAIN {plain('ann', 'secret one')}", 235)
    client.cmd("AUTH LOGIN", 503)
    client.cmd("MAIL FROM:<eve@a.example>", 553)
    client.cmd("MAIL FROM:<>", 250)
    client.cmd("RSET", 250)
    client.cmd("MAIL FROM:<any@B.example>", 250)
    client.cmd("RCPT TO:<x@plain.test>", 250)
    assert client.data(BODY)[0] == 250
    assert "with ESMTPSA" in delivered(world, "plain.test")

    other = Client(CLIENT4, OUT, PORT)
    other.hello()
    other.starttls()
    other.cmd("AUTH LOGIN", 334)
    other.cmd(base64.b64encode(b"bob").decode(), 334)
    other.cmd(base64.b64encode(b"secret two").decode(), 235)
    other.cmd("MAIL FROM:<anything@anywhere.example>", 250)

    third = Client(CLIENT4, OUT, PORT)
    third.hello()
    third.starttls()
    third.cmd(f"AUTH PLAIN {plain('bob', 'wrong')}", 535)
    third.cmd(f"AUTH PLAIN {plain('bob', 'secret two')}", 454)
    log = read(relay.log)
    assert "SASL PLAIN authentication failed" in log and "secret" not in log
    assert fail2ban_finds(world.bed, log, "relay-out") == [CLIENT4] * 4, log
    # The mail server needs no login.
    assert send("y@plain.test")[-1].startswith("250")


@scenario("out: an open relay must be asked for, and is warned of")
def open_relay(world):
    relay = out(world, inner="i_know_this_is_an_open_relay = true;")
    assert "event=config-warning" in read(relay.log)
    client = open_session(CLIENT4)
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<x@plain.test>", 250)
    check = subprocess.run([f"{BUILD}/relayctl", "check", "-c", relay.conf], capture_output=True,
                           text=True)
    assert check.returncode == 0 and "i_know_this_is_an_open_relay" in check.stderr
    relay.inner = 'allow = [ ];'
    relay.write_conf()
    check = subprocess.run([f"{BUILD}/relay-out", "--check", "-c", relay.conf], capture_output=True,
                           text=True)
    assert check.returncode == 78 and "nobody may send" in check.stderr, check.stderr


@scenario("out: a smarthost with log-in over verified TLS")
def smarthost(world):
    password = f"{world.bed.dir}/password"
    with open(password, "w") as file:
        file.write("pass word\n")
    for mechanism in ("PLAIN", "LOGIN"):
        host = world.smarthost(mechanism)
        relay = out(world, inner=f"""default_route = {{ next_hop = [ "mx-valid.test:2587" ];
            tls = "verify"; user = "me@x"; password_file = "{password}"; }};""")
        assert send("x@anywhere.example")[-1] == "250 2.0.0 kept"
        assert host.secrets == [("me@x", "pass word")], host.secrets
        assert "pass word" not in read(relay.log)
        relay.stop()
        host.close()
        world.remotes.remove(host)


@scenario("out: Exim as the smarthost, with passwords of all lengths")
def smarthost_exim(world):
    password = f"{world.bed.dir}/password-exim"
    for text in (*world.exim.passwords, "wrong"):
        with open(password, "w") as file:
            file.write("\ufeff" + text + "\r\n")
        before = len(world.exim.mails())
        relay = out(world, inner=f"""default_route = {{ next_hop = [ "mx-exim.test:587" ];
            tls = "verify"; user = "me"; password_file = "{password}"; }};""")
        reply = send("x@anywhere.example")[-1]
        if text == "wrong":
            assert reply.startswith("451 4.7.8") and "does not accept our log-in: 535" in reply, reply
        else:
            assert reply.startswith("250"), reply
            wait_for("Exim's mail", lambda: len(world.exim.mails()) == before + 1)
        relay.stop()


@scenario("out: a smarthost that refuses the password is not asked again with each message, until a reload")
def smarthost_refuses(world):
    password = f"{world.bed.dir}/password-refused"
    with open(password, "w") as file:
        file.write("wrong")
    relay = out(world, top=f'control = "{control_folder(world)}";', inner=f"""default_route = {{
        next_hop = [ "mx-exim.test:587" ]; tls = "verify"; user = "me"; password_file = "{password}"; }};""")
    status = [f"{BUILD}/relayctl", "status", "-c", relay.conf]

    def ask():
        return subprocess.run(status, capture_output=True, text=True, timeout=20)
    assert ask().returncode == 0
    before = len(world.exim.mails())
    replies = [send(f"x{i}@anywhere.example")[0] for i in range(3)]
    assert "does not accept our log-in: 535" in replies[0], replies
    for reply in replies[1:]:
        assert reply.startswith("451 4.7.8 535") and "no log-in is tried again for a while" in reply, replies
    log = read(relay.log)
    assert log.count("event=login-refused") == 1 and log.count("TLS connection established to mx-exim.test") == 1
    done = ask()
    assert done.returncode == 2 and "mx-exim.test refuses our log-in (535" in done.stdout, done.stdout
    # Another password is tried at once, also while a session goes on that has the old one.
    old = open_session()
    with open(password, "w") as file:
        file.write(world.exim.passwords[0])
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    old.cmd("MAIL FROM:<s@sender.example>", 250)
    old.cmd("RCPT TO:<x@anywhere.example>", 451)
    assert send("x@anywhere.example")[-1].startswith("250")
    wait_for("Exim's mail", lambda: len(world.exim.mails()) == before + 1)
    assert ask().returncode == 0
    old.close()


@scenario("out: on port 465 TLS begins at once, with and without a log-in, and never falls back")
def smarthost_465(world):
    password = f"{world.bed.dir}/password-465"
    with open(password, "w") as file:
        file.write(world.exim.passwords[0])
    for recipient, settings, trust in (("x@anywhere.example", f'tls = "verify"; user = "me"; password_file = "{password}";', "Verified"),
                                       ("x@exim.test", "", "Untrusted")):
        before = len(world.exim.mails())
        relay = out(world, inner=f'default_route = {{ next_hop = [ "mx-exim.test:465" ]; {settings} }};')
        assert send(recipient)[-1].startswith("250")
        wait_for("Exim's mail", lambda count=before + 1: len(world.exim.mails()) == count)
        assert f"{trust} TLS connection established to mx-exim.test" in read(relay.log)
        relay.stop()
    relay = out(world, inner='default_route = { next_hop = [ "mx-exim.test:465" ]; tls = "verify"; tls_name = "other.test"; };')
    assert send("x@exim.test")[0].startswith("451 4.7.5"), "accepted under another name"


class Submissions(MailServer):
    """TLS at once; `greets` says when the greeting comes."""

    def __init__(self, address, cert, key):
        self.greets = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        super().__init__(address, 465, context)

    def serve(self, sock):
        super().serve(self.context.wrap_socket(sock, server_side=True))

    def offers(self, talk):
        return []

    def reply(self, talk, step, line):
        if step == "banner":
            self.greets.wait(60)
        return super().reply(talk, step, line)


class Silent(Listener):
    def serve(self, sock):
        self.ended.wait()


@scenario("out: on port 465 a silent host is left alone, the greeting is waited for as one, and a late refusal of TLS is told")
def submissions(world):
    silent = Silent(HOSTS["tarpit"], 465)
    server = Submissions(HOSTS["broken"], f"{world.bed.dir}/valid.crt", f"{world.bed.dir}/valid.key")
    world.remotes += [silent, server]
    relay = out(world, top=with_control(world), inner=f"""timeouts = {{ handshake = "1s"; }};
        default_route = {{ next_hop = [ "{HOSTS["tarpit"]}:465", "{HOSTS["broken"]}:465" ]; }};""")
    first = open_session()
    first.cmd("MAIL FROM:<s@sender.example>", 250)
    first.send("RCPT TO:<x@anywhere.example>\r\n")

    def phases():
        return subprocess.run([f"{BUILD}/relayctl", "top", "-c", relay.conf, "--count", "1"], capture_output=True, text=True,
                              check=True, timeout=20).stdout.partition("next hops of relay-out:\n")[2].split()[1:2]

    wait_for("the wait for the greeting", lambda: server.connections == 1 and phases() == ["greeting"])
    server.greets.set()
    assert first.reply()[0] == 250
    first.close()
    assert "not reached" in remembered(relay) and "no TLS" in remembered(relay), remembered(relay)
    assert send("y@anywhere.example")[-1].startswith("250")
    assert silent.connections == 1, "a host known to be silent was tried again"
    relay.stop()
    relay = out(world, inner='default_route = { next_hop = [ "mx-strict.test:465" ]; };')
    assert send("x@strict.test")[0].startswith("451 4.7.5")
    assert re.search(r"TLS with mx-strict.test\[.*failed: .*[Cc]ertificate", read(relay.log)), read(relay.log)


@scenario("out: under \"verify\" a host that only the DNS names does not stand for the domain")
def verify_unproven(world):
    relay = out(world, tls='level = "verify";', dns="validate = false;")
    assert send("x@valid.test")[0].startswith("451 4.7.5")
    assert "does not match the expected" in read(relay.log)
    check = subprocess.run([f"{BUILD}/relayctl", "check", "-c", relay.conf], capture_output=True, text=True)
    assert check.returncode == 0 and "must be for the recipient's domain" in check.stderr, check.stderr
    relay.stop()
    out(world, tls='level = "verify";', dns="validate = false;",
        inner='routes = ( { domain = [ "valid.test" ]; tls = "verify"; tls_name = "mx-valid.test"; } );')
    assert send("x@valid.test")[-1].startswith("250")


@scenario("out: the fallback is asked where no MX host could be, and not behind a refusal for good")
def fallback(world):
    relay = out(world, inner="""fallback_route = { next_hop = [ "mx-valid.test" ]; tls = "verify"; };""")
    for _ in range(2):
        assert send("x@onlydead.test")[-1].startswith("250")
    delivered(world, "onlydead.test", 2)
    log = read(relay.log)
    # It is only a fallback, so the next message starts with the MX hosts again.
    assert log.count("Verified TLS connection established to mx-valid.test") == 2, log
    assert log.count("connect to 198.51.100.29:25: Connection refused") == 1, log
    assert send("x@null.test")[0].startswith("556 5.1.10")
    assert send("no@plain.test")[0].startswith("550 5.1.1")
    # If the DNS has no answer now, the fallback may know the host.
    assert "550 5.1.1" in send("x@bad")[0] or "Relay access denied" in send("x@bad")[0]


@scenario("out: soft_bounce: what is refused for good out there is refused for now")
def soft_bounce(world):
    out(world, inner="""soft_bounce = true;
        routes = ( { domain = [ "denied.test" ]; action = "deny"; } );""")
    for recipient, expected in (("no@plain.test", "450 4.1.1"), ("x@missing.test", "450 4.1.2"),
                                ("x@null.test", "456 4.1.10"), ("x@denied.test", "550 5.7.1")):
        text = send(recipient)[0]
        assert text.startswith(expected), text
    assert send("x@plain.test", body=BODY.replace("a test", "SPAM"))[-1].startswith("450 4.7.1 smells of spam")


@scenario("out: a route has its own family, connections and rate")
def route_limits(world):
    relay = out(world, inner="""routes = ( { domain = [ "six.test" ]; family = "ipv4-only"; },
        { domain = [ "plain.test" ]; rate = 30; }, { domain = [ "self.test" ]; connections = 1; } );""")
    assert send("x@six.test")[0].startswith("550 5.4.4")
    began = time.monotonic()
    for _ in range(3):
        assert send("x@plain.test")[-1].startswith("250")
    assert time.monotonic() - began > 3.9
    assert send("x@valid.test")[-1].startswith("250")
    holder = open_session()
    assert holder.envelope("x@self.test") == [250]
    assert send("y@self.test")[0].startswith("451 4.3.2")
    assert "event=busy reason=connections" in read(relay.log)


def mail_server(world, extra):
    """The Postfix at home, with relay-out as its relayhost."""
    world.bed.count += 1
    postfix = Postfix(world.bed, f"home{world.bed.count}", f"{BACKEND}:2525", f"""
inet_interfaces = {BACKEND}
smtp_bind_address = {BACKEND}
mynetworks = {BACKEND}
relayhost = [{OUT}]:{PORT}
smtp_tls_security_level = may
virtual_mailbox_domains = sender.example
virtual_mailbox_maps = static:sender/
{extra}
""")
    world.homes.append(postfix)
    return postfix


def three_domains(world, extra):
    relay = out(world)
    home = mail_server(world, extra)
    client = Client(BACKEND, BACKEND, 2525)
    client.hello()
    assert client.envelope("x@plain.test", "no@valid.test", "y@self.test") == [250] * 3
    assert client.data(BODY)[0] == 250
    for domain in ("plain.test", "self.test"):
        delivered(world, domain)
    bounce = home.wait_mail("sender").decode()
    assert "no@valid.test" in bounce and "No such user here" in bounce, bounce
    assert "550 5.1.1" in bounce and "x@plain.test" not in bounce.split("Original")[0], bounce
    wait_for("an empty queue", lambda: not queued(home))
    for domain in ("plain.test", "self.test"):
        assert len(world.internet.mails(domain)) == 1
    log = read(home.log)
    assert len(re.findall(r"status=sent .*250 2\.0\.0", log)) >= 2
    assert "status=deferred" not in log
    return relay


def queued(postfix):
    text = subprocess.run(["postqueue", "-c", postfix.config, "-j"], capture_output=True,
                          text=True).stdout
    return [line for line in text.splitlines() if line]


@scenario("out: whatever a next hop says, mail ends as with Postfix")
def beside_postfix(world):
    every = nexthops.rows()
    hops = nexthops.Hops(every)
    try:
        expected = nexthops.ask_postfix(world, every, hops)
        world.homes.pop().stop()
        relay = out(world, inner=nexthops.routes_for(every))
        wrong = nexthops.compare("live", every, expected, nexthops.ask_live(every, "l", hops, open_session))
        second = nexthops.ask_live(nexthops.again(every), "a", hops, open_session)
        wrong += [f"{row.name}, once more: {got}" for row, got in second.items() if got != ("sent, host 2",)]
        relay.stop()
        relay = out(world, inner=nexthops.routes_for(every))
        wrong += nexthops.compare("pipelined", every, expected,
                                  nexthops.ask_live(every, "b", hops, open_session, pipelined=True))
        relay.stop()
        relay = out(world, inner=nexthops.routes_for(every) + 'delivery = "spool"; deliveries = 32;')
        wrong += nexthops.compare("stored", every, expected, nexthops.ask_stored(every, hops, relay, open_session))
    finally:
        hops.close()
    print(f"# {len(every)} next hops")
    assert not wrong, "\n".join(wrong)


@scenario("out: Postfix sends to three domains at once, one of which refuses")
def postfix_at_once(world):
    relay = three_domains(world, "")
    assert "accepted=2 refused=1" in read(relay.log)


@scenario("out: the same, one recipient at a time")
def postfix_singly(world):
    three_domains(world, "smtp_destination_recipient_limit = 1")


@scenario("out: a burst of Postfix meets no 421")
def burst(world):
    relay = out(world, inner="workers = 4;")
    home = mail_server(world, "")
    subprocess.run(["smtp-source", "-s", "10", "-m", "100", "-f", "s@sender.example", "-t",
                    "x@plain.test", f"{BACKEND}:2525"], check=True, timeout=60)
    wait_for("100 mails", lambda: len(world.internet.mails("plain.test")) == 100, 60)
    assert "status=deferred" not in read(home.log)
    assert " 421 " not in read(relay.log)


@scenario("out: a client that goes away in mid-data leaves no message anywhere")
def vanished(world):
    relay = out(world)
    client = open_session()
    assert client.envelope("x@plain.test", "y@valid.test") == [250, 250]
    client.cmd("DATA", 354)
    client.send(BODY * 200)
    client.kill()
    wait_for("the abort", lambda: "status=aborted" in read(relay.log))
    time.sleep(0.5)
    assert world.internet.mails("plain.test") == world.internet.mails("valid.test") == []


@scenario("out: every false end of data arrives as text")
def smuggling(world):
    out(world)
    for end in ("\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"):
        world.internet.clear()
        trick = "MAIL FROM:<evil@x.example>\r\nRCPT TO:<x@plain.test>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n"
        texts = send("x@plain.test", body=f"Subject: good\r\n\r\ntext{end}{trick}")
        assert texts[-1].startswith("250"), texts
        time.sleep(0.1)
        assert len(world.internet.mails("plain.test")) == 1, repr(end)


@scenario("out: a reload changes routes, and a bad file changes nothing")
def reload(world):
    relay = out(world)
    assert send("x@plain.test")[-1].startswith("250")
    relay.inner = 'routes = ( { domain = [ "plain.test" ]; action = "deny"; } );'
    relay.write_conf()
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    assert send("x@plain.test")[0].startswith("550 5.7.1")
    relay.inner = 'routes = ( { domain = [ "plain.test" ]; action = "maybe"; } );'
    relay.write_conf()
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the refusal", lambda: "event=reload status=failed" in read(relay.log))
    assert send("x@plain.test")[0].startswith("550 5.7.1")


class Smarthost(MailServer):
    """Accepts mail from clients that have logged in."""

    def __init__(self, address, port, mechanism, cert, key):
        self.mechanism, self.secrets = mechanism, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        super().__init__(address, port, context)

    def offers(self, talk):
        return [f"AUTH {self.mechanism}"] if talk.secure else super().offers(talk)

    def reply(self, talk, step, line):
        if step == "auth":
            self.secrets.append(self.log_in(talk, line.decode().strip()))
            talk.known = True
            return "235 2.7.0 welcome"
        if step not in ("banner", "ehlo", "starttls", "quit") and not hasattr(talk, "known"):
            return "530 5.7.0 who are you"
        return super().reply(talk, step, line)

    @staticmethod
    def log_in(talk, line):
        if line.startswith("AUTH PLAIN "):
            return tuple(base64.b64decode(line[11:]).decode().split("\0")[1:])
        said = []
        for question in (b"Username:", b"Password:"):
            talk.say("334 " + base64.b64encode(question).decode())
            said.append(base64.b64decode(talk.file.readline()).decode())
        return tuple(said)


class World(tap.World):
    def __init__(self, _):
        self.vps = Vps()
        super().__init__(False)
        self.remotes, self.homes, self.servers = [], [], []
        self.authority = Authority(self.bed)
        try:
            self.start_servers()
        except BaseException:
            self.close()
            raise

    def start_servers(self):
        def start(kind, *arguments):
            self.servers.append(kind(self.bed, *arguments))
            return self.servers[-1]
        issue = self.authority.issue
        self.names = start(Names)
        self.internet = start(Receivers, self.authority)
        self.exim = start(EximHosts, *issue("exim", "mx-exim.test"))
        self.opensmtpd = start(OpenSMTPDHost)

    def remote(self, address, manner):
        self.remotes.append(Remote(address, manner))
        return self.remotes[-1]

    def smarthost(self, mechanism):
        self.remotes.append(Smarthost(HOSTS["valid"], 2587, mechanism, f"{self.bed.dir}/valid.crt",
                                      f"{self.bed.dir}/valid.key"))
        return self.remotes[-1]

    def tidy(self):
        try:
            super().tidy()
        finally:
            for home in self.homes:
                home.stop()
            for remote in self.remotes:
                remote.close()
            self.homes, self.remotes = [], []
            self.internet.clear()

    def close(self):
        for server in reversed(self.servers):
            server.stop()
        self.vps.stop()
        super().close()


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
