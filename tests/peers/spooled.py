"""relay-out's spool: what is stored, what is delivered later, and what senders and operators are told.

Next hops are scripted servers on loopback, reached by routes. Postfix is the client and, as the backend, accepts
the notices to senders. Speaks TAP. SPDX-License-Identifier: GPL-3.0-or-later
"""
import collections
import email
import email.policy
import glob
import json
import os
import pwd
import random
import re
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time

import tap
from bed import BACKEND, BUILD, POSTFIX_PORT, Client, Postfix, Relay, read, wait_for
from fakes import HangUp, MailServer, NameServer
from tap import scenario

OUT, PORT = "10.0.0.1", 2526
HOP_PORT = 2700
BODY = "From: a@example.com\r\nSubject: {}\r\n\r\n.. a dot\r\ntext\r\n"

PLAIN = f'hosts = [ "{BACKEND}:{POSTFIX_PORT}" ]; identity = "xclient";'
PROXY = 'hosts = [ "{}:{}" ]; identity = "proxy-v{}"; spares = 0;'
PROXY_PORT = 2528
LIMITED_PORT = 2529  # takes ten recipients a transaction

ENVELOPE = """postern-envelope 1
id {name}
size {size}
arrived {arrived}
expires {expires}
sender <a@example.com>
recipient <{recipient}>
 state queued
 next-try {expires}
end
"""


class NextHop(MailServer):
    """A mail server that accepts everything, unless `dots` has replies for the next messages, or `all` one for
    all. `dsn`: offers DSN; `pause`: seconds before each reply to a message, after those before the first in `pauses`;
    `moody`: the share that it answers with 4xx."""

    def __init__(self, port, dsn=False):
        self.dsn, self.all, self.pause = dsn, None, 0
        self.bodies, self.moody = 0, 0
        self.dots, self.pauses, self.lock = [], [], threading.Lock()
        super().__init__(BACKEND, port)

    def offers(self, talk):
        return ["DSN", "8BITMIME"] if self.dsn else ["8BITMIME"]

    def verdict(self):
        with self.lock:
            if random.random() < self.moody:
                return "451 4.3.0 not in the mood"
            return self.dots.pop(0) if self.dots else self.all or "250 2.0.0 taken"

    def keep(self, talk):
        self.bodies += 1

    def reply(self, talk, step, line):
        if step != "dot":
            return super().reply(talk, step, line)
        time.sleep(self.pauses.pop(0) if self.pauses else self.pause)
        reply = self.verdict()
        if reply.startswith("250"):
            with self.lock:  # sender line, recipient lines, octets
                self.messages.append((talk.envelope[0], talk.envelope[1:], talk.body))
        return reply

    def subjects(self):
        with self.lock:
            found = [re.search(rb"^Subject: (.*)\r$", body, re.M) for _, _, body in self.messages]
        return [match.group(1).decode() for match in found]


class RelayOut(Relay):
    """relay-out under test, with routes DOMAIN -> port on BACKEND."""

    def __init__(self, bed, routes, inner="", spool=None, wait=True, port=PORT, backend=PLAIN, route=""):
        bed.count += 1
        nobody = pwd.getpwnam("nobody")
        self.conf, self.log = f"{bed.dir}/out-{bed.count}.conf", f"{bed.dir}/out-{bed.count}.log"
        self.spool, self.control = spool or f"{bed.dir}/spool-{bed.count}", f"{bed.dir}/run"
        for folder in (self.spool, self.control):
            os.makedirs(folder, exist_ok=True)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        listed = ", ".join(f'{{ domain = "{d}"; next_hop = "{BACKEND}:{p}"; {route} }}' for d, p in routes.items())
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "relay.example";
user = "nobody";
control = "{self.control}";
dns = {{ servers = [ "127.0.0.1:5300" ]; validate = false; }};
in = {{ listen = [ "127.0.0.1:2599" ]; domains = [ "example.com" ];
       backend = {{ {backend} }}; }};
out = {{
  listen = [ "{OUT}:{port}" ];
  allow = [ "{BACKEND}/32", "{OUT}/32" ];
  spool = "{self.spool}";
  spool_reserve = 0;
  {"" if "dead_for" in inner else 'dead_for = "1s";'}
  routes = ( {listed} );
  {inner}
}};
""")
        self.start(wait)

    def start(self, wait=True):
        environment = {"ASAN_OPTIONS": "detect_leaks=0", **os.environ}
        self.offset = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([f"{BUILD}/relay-out", "-c", self.conf], stderr=log,
                                            stdin=subprocess.DEVNULL, env=environment)
        if wait:
            wait_for("relay-out", lambda: "event=start" in read(self.log)[self.offset:] or
                     self.process.poll() is not None, 60)
            assert self.process.poll() is None, "relay-out did not start"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def ctl(self, *arguments, status=0, seconds=60):
        done = subprocess.run([f"{BUILD}/relayctl", "queue", "-c", self.conf, *arguments],
                              capture_output=True, text=True, timeout=seconds)
        assert done.returncode == status, (arguments, done)
        return done.stdout + done.stderr

    def queued(self):
        lines = self.ctl("list", "--json").splitlines()
        return [json.loads(line) for line in lines]

    def reload(self, text):
        """Gives it this configuration."""
        before = read(self.log).count("event=reload status=done")
        with open(self.conf, "w") as file:
            file.write(text)
        self.process.send_signal(signal.SIGHUP)
        wait_for("the reload", lambda: read(self.log).count("event=reload status=done") > before)

    def wait_tried(self, times=1):
        """Waits until the first recipient of the first message has been tried this often."""
        wait_for("an attempt", lambda: self.queued()[0]["recipients"][0]["attempts"] >= times)

    def wait_empty(self, seconds=20):
        wait_for("an empty queue", lambda: not glob.glob(f"{self.spool}/*/*.env"), seconds)


def hello(name="client.example"):
    client = Client(OUT, OUT, PORT)
    client.hello(name)
    return client


def send(subject, *recipients, sender="a@example.com", mail="", rcpt=""):
    client = hello()
    client.cmd(f"MAIL FROM:<{sender}>{mail}", 250)
    for recipient in recipients:
        client.cmd(f"RCPT TO:<{recipient}>{rcpt}", 250)
    reply = client.data(BODY.format(subject))
    client.cmd("QUIT")
    client.close()
    return reply


def report_of(world, count=1):
    """The newest notice in the sender's mailbox, parsed."""
    world.postfix.wait_mail("a", count)
    with open(world.postfix.mails("a")[-1], "rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report", message
    assert message.get_param("report-type") == "delivery-status"
    assert message["Return-Path"] == "<>" or message["Return-Path"] is None, message["Return-Path"]
    assert message["Auto-Submitted"] == "auto-replied", message["Auto-Submitted"]
    parts = list(message.iter_parts())
    return message, [dict(block) for block in parts[1].get_payload()], parts[2]


@scenario("one of three domains says 4xx behind the data: two have it at once, the third later, once")
def disagreement(world):
    hops = world.hops(3)
    hops[2].dots = ["451 4.7.1 not now", "451 4.7.1 not now"]
    relay = world.out(hops, 'retry = [ "1s" ];')
    world.inject("three", "x@d0.test", "y@d1.test", "z@d2.test")
    wait_for("two deliveries", lambda: hops[0].subjects() == hops[1].subjects() == ["three"])
    wait_for("Postfix", lambda: len(re.findall(r"to=<[xyz]@d\d\.test>.*status=sent",
                                               read(world.postfix.log))) == 3)
    assert hops[2].subjects() == [], "delivered where 451 was said"
    left = relay.queued()
    assert len(left) == 1 and left[0]["recipients_left"] == 1, left
    assert {r["address"]: r["state"] for r in left[0]["recipients"]} == {
        "x@d0.test": "delivered", "y@d1.test": "delivered", "z@d2.test": "queued"}
    wait_for("the third", lambda: hops[2].subjects() == ["three"])
    relay.wait_empty()
    time.sleep(1)
    assert [len(hop.messages) for hop in hops] == [1, 1, 1], "duplicates"
    assert hops[2].messages[0][2] == hops[0].messages[0][2], "the stored message is not the one sent"


@scenario("5xx behind the data from one of two: the sender's mailbox has a notice, through the backend")
def refusal(world):
    hops = world.hops(2)
    hops[1].dots = ["550-5.7.1 smells\r\n550 5.7.1 of spam"]
    relay = world.out(hops)
    world.inject("two", "x@d0.test", "y@d1.test")
    message, blocks, original = report_of(world)
    assert blocks[0]["Reporting-MTA"] == "dns; relay.example"
    assert blocks[1]["Final-Recipient"] == "rfc822; y@d1.test", blocks
    assert blocks[1]["Action"] == "failed" and blocks[1]["Status"] == "5.7.1", blocks
    assert "550 5.7.1 smells" in blocks[1]["Diagnostic-Code"], blocks
    assert BACKEND in blocks[1]["Remote-MTA"], blocks
    assert len(blocks) == 2 and "x@d0.test" not in str(message)
    assert "Subject: two" in original.as_string()
    relay.wait_empty()
    assert len(hops[0].messages) == 1 and not hops[1].messages


@scenario("smtputf8, stored: ASCII of who always asks for it is delivered where there is none, UTF-8 is reported")
def smtputf8_stored(world):
    hops = world.hops(2)
    hops[1].dots = ["451 4.7.1 not now"]
    # stored at once, and stored because one of two did not accept it
    for inner, recipients in (('delivery = "spool";', ["x@d0.test"]), ("", ["x@d0.test", "y@d1.test"])):
        relay = world.out(hops, inner + ' retry = [ "1s" ];')
        assert send("plain", *recipients, mail=" SMTPUTF8")[0] == 250
        relay.wait_empty()
        assert "plain" in hops[len(recipients) - 1].subjects()
        assert hops[len(recipients) - 1].messages[-1][0] == "MAIL FROM:<a@example.com>"
        relay.stop()
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1s" ];')
    client = hello()
    client.cmd("MAIL FROM:<a@example.com> SMTPUTF8", 250)
    client.cmd("RCPT TO:<z@d0.test>", 250)
    assert client.data("Subject: hällo\r\n\r\nx\r\n".encode())[0] == 250
    notice = world.postfix.wait_mail("a").decode()
    assert "report-type=global-delivery-status" in notice and "Status: 5.6.7" in notice and "z@d0.test" in notice, notice
    relay.wait_empty()


@scenario("a single next hop's 4xx is the client's 4xx, and nothing is stored")
def single(world):
    hops = world.hops(1)
    hops[0].dots = ["451 4.7.1 greylisted"]
    relay = world.out(hops)
    assert send("one", "x@d0.test") == (451, "451 4.7.1 greylisted")
    assert relay.queued() == []


@scenario("delivery = \"spool\": the 250 comes before the delivery, refusals at once only for what is certain")
def stored(world):
    hops = world.hops(2)
    hops[0].all = "451 4.3.0 not yet"
    relay = world.out(hops, 'delivery = "spool"; retry = [ "500ms" ];')
    client = hello()
    client.cmd("MAIL FROM:<a@example.com>", 250)
    assert client.cmd("RCPT TO:<x@nowhere.test>")[1].startswith("550 5.1.2")
    client.close()
    code, text = send("kept", "x@d0.test", "y@d1.test")
    ident = re.fullmatch(r"250 2\.0\.0 Ok: queued as ([0-9a-f]{16})", text).group(1)
    assert code == 250
    wait_for("a delivery", lambda: hops[1].subjects() == ["kept"])
    relay.wait_tried(2)
    assert relay.queued()[0]["id"] == ident
    hops[0].all = None
    wait_for("the other", lambda: hops[0].subjects() == ["kept"])
    relay.wait_empty()
    assert hops[0].messages[0][2].endswith(b".. a dot\r\ntext\r\n")


@scenario("NOTIFY=SUCCESS is passed on where there is DSN, and answered by a notice where there is none")
def success(world):
    hops = [world.hop(0, dsn=True), world.hop(1)]
    relay = world.out(hops, 'delivery = "spool";')
    send("told", "x@d0.test", "y@d1.test", mail=" RET=HDRS ENVID=e+3D1",
         rcpt=" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@orig.test")
    _, blocks, _ = report_of(world)
    assert blocks[0]["Original-Envelope-Id"] == "e=1", blocks
    assert blocks[1]["Action"] == "relayed" and blocks[1]["Final-Recipient"] == "rfc822; y@d1.test", blocks
    assert blocks[1]["Original-Recipient"] == "rfc822; o@orig.test", blocks
    relay.wait_empty()
    sender, recipients, _ = hops[0].messages[0]
    assert "RET=HDRS" in sender and "ENVID=e+3D1" in sender, sender
    assert "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@orig.test" in recipients[0], recipients
    assert "NOTIFY" not in hops[1].messages[0][1][0]


@scenario("a delay notice after the time set, then the message after all")
def delay(world):
    hops = world.hops(1)
    hops[0].all = "451 4.3.0 not yet"
    relay = world.out(hops, 'delivery = "spool"; retry = [ "300ms" ]; delay_notice = "1s";')
    send("slow", "x@d0.test")
    _, blocks, _ = report_of(world)
    assert blocks[1]["Action"] == "delayed" and blocks[1]["Will-Retry-Until"], blocks
    hops[0].all = None
    wait_for("the message", lambda: hops[0].subjects() == ["slow"])
    relay.wait_empty()
    assert len(world.postfix.mails("a")) == 1, "more than one notice"
    status = json.loads(subprocess.run([f"{BUILD}/relayctl", "status", "--json", "-c", relay.conf], capture_output=True,
                                       text=True, timeout=20).stdout)["relay-out"]["sample"]
    assert [status[f'postern_dsn_total{{kind="{kind}"}}'] for kind in ("failure", "delay", "relayed")] == [0, 1, 0], status


@scenario("a backend that takes PROXY headers gets one of ours, of either version")
def proxied(world):
    for version in (1, 2):
        relay = world.out(world.hops(0), backend=PROXY.format(BACKEND, PROXY_PORT, version))
        assert send(f"version {version}", "b@example.com")[0] == 250
        relay.stop()
    world.postfix.wait_mail("b", 2)


@scenario("its time is over: the notice says so; a notice that cannot be delivered makes no other")
def expiry(world):
    hops = world.hops(1)
    hops[0].all = "451 4.3.0 never"
    relay = world.out(hops, 'delivery = "spool"; retry = [ "300ms" ]; lifetime = "1s";')
    send("late", "x@d0.test")
    _, blocks, _ = report_of(world)
    assert blocks[1]["Action"] == "failed" and blocks[1]["Status"] == "5.4.7", blocks
    send("null", "x@d0.test", sender="")
    send("stranger", "x@d0.test", sender="nobody-here@example.com")
    relay.wait_empty()
    assert len(world.postfix.mails("a")) == 1
    assert read(relay.log).count("event=dsn ") == 2, read(relay.log)


@scenario("relayctl queue asks the daemon that runs, and reads and changes the files when none does")
def control(world):
    hops = world.hops(2)
    hops[0].all = hops[1].all = "451 4.3.0 not yet"
    relay = world.out(hops, 'delivery = "spool";')
    for subject in ("one", "two"):
        send(subject, "x@d0.test")
    send("three", "y@d1.test")
    wait_for("attempts", lambda: all(r["attempts"] for m in relay.queued() for r in m["recipients"]))
    socket_file = f"{relay.control}/relay-out.socket"
    assert os.stat(socket_file).st_mode & 0o777 == 0o660
    first, second, third = (m["id"] for m in relay.queued())
    assert "3 messages (0 held), 3 recipients left" in relay.ctl("count")
    assert "451 4.3.0 not yet" in relay.ctl("list")
    assert "Subject: two" in relay.ctl("show", second)
    assert "\n. a dot\ntext" in relay.ctl("show", second, "--body")
    assert "1 messages changed" in relay.ctl("hold", third)
    assert "there is no message" in relay.ctl("hold", "0" * 16, status=65)
    hops[0].all = hops[1].all = None
    assert "2 messages changed" in relay.ctl("retry", "D0.test")
    wait_for("two deliveries", lambda: sorted(hops[0].subjects()) == ["one", "two"])
    wait_for("one left", lambda: [m["id"] for m in relay.queued()] == [third])
    assert "held" in relay.ctl("list") and not hops[1].messages
    # The daemon ends; the same orders then work on the files.
    relay.stop()
    assert not os.path.exists(socket_file)
    assert "1 messages (1 held)" in relay.ctl("count")
    assert "needs a running relay-out" in relay.ctl("remove", third, "--bounce", status=69)
    assert "1 messages changed" in relay.ctl("retry", third)
    assert "1 messages changed" in relay.ctl("release", "all")
    relay.start()
    wait_for("the third", lambda: hops[1].subjects() == ["three"])
    relay.wait_empty()
    # Removed by hand, with a notice to the sender.
    hops[0].all = "451 4.3.0 not yet"
    send("four", "x@d0.test")
    relay.wait_tried()
    assert "1 messages changed" in relay.ctl("remove", relay.queued()[0]["id"], "--bounce")
    assert report_of(world)[1][1]["Action"] == "failed"
    relay.wait_empty()


@scenario("relayctl queue takes out what is of a sender or for a domain, and the other recipients stay")
def taken_out(world):
    hops = world.hops(2)
    hops[0].all = hops[1].all = "451 4.3.0 not yet"
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ];')
    for sender, recipients in (("spam@example.com", ["x@d0.test"]), ("spam@example.com", ["y@d1.test"]),
                               ("a@example.com", ["x@d0.test", "y@d1.test"]), ("bob@b.test", ["y@d1.test"])):
        client = hello()
        client.envelope(*recipients, sender=sender)
        assert client.data(BODY.format(sender))[0] == 250
        client.close()
    wait_for("attempts", lambda: all(r["attempts"] for m in relay.queued() for r in m["recipients"]))
    by_domain = [json.loads(line) for line in relay.ctl("count", "--by-domain", "--json").splitlines()]
    assert [(row["name"], row["messages"], row["reply"]) for row in by_domain] == [
        ("d1.test", 3, "451 4.3.0 not yet"), ("d0.test", 2, "451 4.3.0 not yet")], by_domain
    assert "spam@example.com: 451 4.3.0 not yet" in relay.ctl("count", "--by-sender").splitlines()[1]
    assert "2 messages changed" in relay.ctl("remove", "--sender", "spam@EXAMPLE.com")
    assert {m["sender"] for m in relay.queued()} == {"a@example.com", "bob@b.test"}
    assert "1 messages changed" in relay.ctl("hold", "--sender", "@b.test")
    assert "1 messages changed" in relay.ctl("remove", "d0.test", "--bounce")
    assert report_of(world)[1][1]["Final-Recipient"] == "rfc822; x@d0.test"
    hops[0].all = hops[1].all = None
    assert "2 messages changed" in relay.ctl("retry", "all")
    wait_for("what is left and not held", lambda: hops[1].subjects() == ["a@example.com"])
    assert not hops[0].messages
    assert "1 messages changed" in relay.ctl("release", "--sender", "bob@b.test")
    relay.wait_empty()


@scenario("notices to strangers go where their mail goes; the loss of one is logged and told of")
def strangers(world):
    hops = world.hops(2)
    hops[0].all = "550 5.1.1 nobody here"
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ];')
    for _ in range(2):
        client = hello()
        client.envelope("x@d0.test", sender="friend@d1.test")
        assert client.data(BODY.format("one"))[0] == 250
        client.close()
        relay.wait_empty()
        hops[1].all = "554 5.7.1 no notices"
    assert len(hops[1].messages) == 1 and "550 5.1.1 nobody here" in str(hops[1].messages)
    lost = re.search("event=notice-lost .*", read(relay.log))
    assert lost and "to=friend@d1.test" in lost[0] and "554 5.7.1 no notices" in lost[0], lost
    assert "1 notices to senders could not be delivered" in relay.ctl("list")


@scenario("relayctl queue retry tries hosts that were dead a moment ago")
def dead(world):
    relay = RelayOut(world.bed, {"d0.test": HOP_PORT}, 'delivery = "spool"; dead_for = "1h"; retry = [ "1h" ];')
    world.relays.append(relay)
    send("patient", "x@d0.test")
    relay.wait_tried()
    assert "refused" in relay.ctl("list")
    hop = world.hop(0)
    assert "1 messages changed" in relay.ctl("retry", relay.queued()[0]["id"])
    wait_for("the message", lambda: hop.subjects() == ["patient"])
    relay.wait_empty()


@scenario("slower than the live deadline: stored for the slow one, and the others' is not held up")
def slow(world):
    hops = world.hops(2)
    hops[1].pause = 3
    relay = world.out(hops, 'live_deadline = "1s"; retry = [ "200ms" ];')
    assert send("patience", "x@d0.test", "y@d1.test") == (250, "250 2.0.0 Ok, delivered in part; the rest is stored")
    assert not hops[1].messages, "the slow one has answered first"
    hops[1].pause = 0
    wait_for("the slow one", lambda: "patience" in hops[1].subjects())
    relay.wait_empty()
    assert len(hops[0].messages) == 1


@scenario("next hops slower than the live deadline: one copy at each, whatever they answer in the end")
def all_slow(world):
    hops = world.hops(4)
    for hop, said in zip(hops, ("250 2.0.0 taken", "250 2.0.0 taken", "550 5.7.1 no", "451 4.7.1 later")):
        hop.pause, hop.dots = 3, [said]
    relay = world.out(hops, 'live_deadline = "1s"; retry = [ "200ms" ];')
    assert send("slow", *(f"x@d{i}.test" for i in range(4)))[0] == 250
    for hop in hops:
        hop.pause = 0
    _, blocks, _ = report_of(world)
    assert [b["Final-Recipient"] for b in blocks[1:]] == ["rfc822; x@d2.test"], blocks
    relay.wait_empty()
    assert [len(hop.messages) for hop in hops] == [1, 1, 0, 1], [len(hop.messages) for hop in hops]
    # Only the one that replied "later" got it again.
    assert [hop.bodies for hop in hops] == [1, 1, 1, 2], [hop.bodies for hop in hops]


@scenario("SIGTERM waits for next hops that have not answered a message that was stored meanwhile")
def ended_pending(world):
    hops = world.hops(2)
    hops[0].pause = hops[1].pause = 3
    relay = world.out(hops, 'live_deadline = "1s"; retry = [ "200ms" ];')
    assert send("pending", "x@d0.test", "y@d1.test")[0] == 250
    relay.stop()
    assert [len(hop.messages) for hop in hops] == [1, 1] and not glob.glob(f"{relay.spool}/*/*.env")


def end_while_sending(world, relay, *recipients):
    """A message whose end all next hops have when SIGTERM comes; what its client hears."""
    replies = []
    sender = threading.Thread(target=lambda: replies.append(send("ended", *recipients)))
    sender.start()
    wait_for("the end of data everywhere", lambda: all(hop.bodies == 1 for hop in world.hop_list))
    relay.stop()
    sender.join()
    return replies[0]


@scenario("SIGTERM before the live deadline: who answers while the relay ends has one copy, and all is recorded")
def ended_live(world):
    hops = world.hops(2)
    hops[0].pause = hops[1].pause = 4
    relay = world.out(hops, 'live_deadline = "2s"; timeouts = { drain = "20s"; };')
    code, text = end_while_sending(world, relay, "x@d0.test", "y@d1.test")
    assert (code, "the rest is stored" in text) == (250, True), text
    assert not glob.glob(f"{relay.spool}/*/*.env"), relay.queued()
    relay.start()
    relay.stop()
    assert [hop.bodies for hop in hops] == [1, 1], [hop.bodies for hop in hops]


@scenario("SIGTERM, and one next hop does not answer in time: only that one may get a second copy")
def ended_silent(world):
    hops = world.hops(4)
    hops[0].pause, hops[1].pause, hops[2].pause = 30, 6, 6
    relay = world.out(hops, """deliveries = 1; retry = [ "1s", "1h" ]; timeouts = { drain = "10s"; };
limits = { deliveries_per_destination = 1; };""")
    assert end_while_sending(world, relay, *(f"x@d{i}.test" for i in range(4)))[0] == 250
    left = relay.queued()
    assert [(r["address"], r["state"]) for m in left for r in m["recipients"]] == [
        ("x@d0.test", "queued"), *((f"x@d{i}.test", "delivered") for i in (1, 2, 3))], left
    hops[0].pause = 0
    relay.start()
    relay.ctl("retry", "all")
    relay.wait_empty()
    assert [hop.bodies for hop in hops] == [2, 1, 1, 1], [hop.bodies for hop in hops]


@scenario("SIGTERM, and every delivery waits for a next hop: other answers are recorded all the same")
def ended_busy(world):
    hops = world.hops(3)
    hops[2].dots, hops[2].pauses, hops[2].pause = ["451 4.3.0 not yet"], [0.1], 30
    relay = world.out(hops, """deliveries = 1; retry = [ "1s", "1h" ]; live_deadline = "1s";
timeouts = { drain = "9s"; }; limits = { deliveries_per_destination = 1; };""")
    assert send("holds", "x@d2.test", "y@d0.test")[0] == 250
    hops[0].pause = hops[1].pause = 5
    wait_for("the delivery", lambda: hops[2].bodies == 2)
    assert send("ended", "x@d0.test", "y@d1.test")[0] == 250
    relay.stop()
    assert [(r["address"], r["state"]) for m in relay.queued() for r in m["recipients"]] == [
        ("x@d2.test", "queued"), ("y@d0.test", "delivered")], relay.queued()
    assert [hop.bodies for hop in hops] == [2, 1, 2], [hop.bodies for hop in hops]


@scenario("SIGTERM: an answer that cannot be recorded at first, because files cannot be read, is recorded later")
def ended_unreadable(world):
    hops = world.hops(2)
    hops[0].pause = hops[1].pause = 3
    relay = world.out(hops, 'live_deadline = "1s"; timeouts = { drain = "30s"; };')
    assert send("unread", "x@d0.test", "y@d1.test")[0] == 250
    files = glob.glob(f"{relay.spool}/queue/*")
    for path in files:
        os.chmod(path, 0)
    ender = threading.Thread(target=relay.stop)
    ender.start()
    try:
        wait_for("the failure", lambda: read(relay.log).count("event=delivery-problem") >= 2)
    finally:
        for path in files:
            os.chmod(path, 0o600)
        ender.join()
    assert not glob.glob(f"{relay.spool}/*/*.env"), relay.queued()
    assert [hop.bodies for hop in hops] == [1, 1], [hop.bodies for hop in hops]


def send_at_once(subject, count):
    """Messages for d0.test, each by a thread of its own: the threads, and the replies as they come."""
    replies = []
    senders = [threading.Thread(target=lambda i=i: replies.append(send(f"{subject} {i}", f"x{i}@d0.test")))
               for i in range(count)]
    for sender in senders:
        sender.start()
    return senders, replies


@scenario("who waits for a connection to a busy destination holds no worker, and is served in time")
def busy_destination(world):
    hops = world.hops(2)
    hops[0].pause = 3
    relay = world.out(hops, "workers = 2; limits = { sessions_per_destination = 1; };")
    senders, replies = send_at_once("busy", 5)
    wait_for("the first", lambda: hops[0].bodies == 1)
    assert send("quick", "y@d1.test")[0] == 250
    assert not hops[0].messages, "the busy one has answered first"
    for sender in senders:
        sender.join()
    assert [code for code, _ in replies] == [250] * 5, replies
    assert len(hops[0].messages) == 5 and relay.process.poll() is None


@scenario("who waits for a turn at a destination with a rate holds no worker, and is served in time")
def rated_destination(world):
    hops = world.hops(2)
    relay = world.out(hops, "workers = 2;", route="rate = 12;")
    began = time.monotonic()
    senders, replies = send_at_once("rated", 3)
    wait_for("the first", lambda: hops[0].bodies == 1)
    assert send("quick", "y@d1.test")[0] == 250
    assert hops[0].bodies == 1, "the next turn has come first"
    for sender in senders:
        sender.join()
    assert [code for code, _ in replies] == [250] * 3, replies
    assert len(hops[0].messages) == 3 and time.monotonic() - began >= 10, time.monotonic() - began


@scenario("stored mail that waits for a destination's turn or place holds no delivery, and counts no attempts")
def postponed(world):
    for limit in ("rate = 12;", "connections = 1;"):
        hops = world.hops(2)
        hops[0].pause = 2 if "connections" in limit else 0
        relay = world.out(hops, 'delivery = "spool"; deliveries = 2; reuse_for = 0;', route=limit)
        for i in range(3):
            send(f"waits {i}", f"x{i}@d0.test")
        wait_for("the first", lambda: hops[0].bodies == 1)
        send("quick", "y@d1.test")
        wait_for("the other", lambda: hops[1].subjects() == ["quick"])
        assert hops[0].bodies == 1, "the next turn has come first"
        relay.wait_empty()
        assert sorted(hops[0].subjects()) == [f"waits {i}" for i in range(3)]
        assert set(re.findall(r"event=delivery .*attempt=(\d+)", read(relay.log))) == {"1"}
        world.tidy()


@scenario("stored for more recipients than fit in a transaction: the later ones' turns hold no delivery either")
def later_parts(world):
    hops = world.hops(2)
    relay = world.out(hops, 'delivery = "spool"; deliveries = 1;', route="rate = 20;")
    send("parts", *(f"x{i}@d0.test" for i in range(70)))
    wait_for("the first part", lambda: hops[0].bodies == 1)
    send("quick", "y@d1.test")
    wait_for("the other", lambda: hops[1].subjects() == ["quick"])
    assert hops[0].bodies == 1, "the next turn has come first"
    relay.wait_empty()
    assert [len(recipients) for _, recipients, _ in hops[0].messages] == [32, 32, 6]
    assert set(re.findall(r"event=delivery .*attempt=(\d+)", read(relay.log))) == {"1"}


@scenario("kill -9 while a later transaction for the same message waits: who has it, does not get it again")
def recorded_parts(world):
    hop, = world.hops(1)
    hop.pauses, hop.pause = [0], 30
    relay = world.out([hop], 'delivery = "spool";')
    send("parts", *(f"x{i}@d0.test" for i in range(40)))
    wait_for("the second part", lambda: hop.bodies == 2)
    relay.kill()
    first = hop.messages[0][1]
    hop.pause = 0
    relay.start()
    relay.wait_empty()
    assert len(first) == 32 and [len(recipients) for _, recipients, _ in hop.messages[:2]] == [32, 8], hop.messages


def tries(relay):
    """The recipients sent to, put off and refused."""
    done = subprocess.run([f"{BUILD}/relayctl", "status", "--json", "-c", relay.conf], capture_output=True, text=True,
                          timeout=20)
    status = json.loads(done.stdout)["relay-out"]["sample"]
    return [status[f'postern_out_deliveries_total{{result="{result}"}}'] for result in ("sent", "deferred", "bounced")]


@scenario("stored for more recipients than a next hop takes in a transaction: it has the others at once, in further ones")
def few_recipients(world):
    relay = world.out([], 'delivery = "spool"; deliveries = 1;',
                      backend=f'hosts = [ "{BACKEND}:{LIMITED_PORT}" ]; identity = "none";')
    send("few", *(f"a+{i}@example.com" for i in range(45)))
    relay.wait_empty()
    world.postfix.wait_mail("a", 45)
    delivered = read(relay.log)
    assert len(set(re.findall(r"to=a\+(\d+)@.*attempt=1 ", delivered))) == 45, delivered
    assert delivered.count("event=delivery ") == 45 and tries(relay) == [45, 0, 0], (delivered, tries(relay))
    sizes = re.findall(r"nrcpt=(\d+) ", read(world.postfix.log))
    assert collections.Counter(sizes) == {"10": 4, "5": 1}, sizes


class Few(NextHop):
    """Takes five recipients a transaction, and none yet whose name begins with "grey" or "full"."""

    put_off = 0

    def reply(self, talk, step, line):
        if step == "mail":
            talk.taken = 0
        if step == "rcpt" and (b"<grey" in line or b"<full" in line):
            self.put_off += 1
            return "450 4.2.0 come back" if b"<grey" in line else "452 4.2.2 no room"
        if step == "rcpt":
            talk.taken += 1
            if talk.taken > 5:
                return "452 4.5.3 enough"
        return super().reply(talk, step, line)


@scenario("stored for more recipients than a next hop takes: who is put off for another reason is not asked for again")
def few_and_grey(world):
    world.hop_list.append(Few(HOP_PORT))
    relay = world.out(world.hop_list, 'delivery = "spool";')
    send("few", "grey@d0.test", *(f"x{i}@d0.test" for i in range(17)), "full@d0.test")
    wait_for("the deliveries", lambda: tries(relay) == [17, 2, 0])
    assert world.hop_list[0].bodies == 4 and world.hop_list[0].put_off == 2, vars(world.hop_list[0])
    left = [r["address"] for r in relay.queued()[0]["recipients"] if r["state"] == "queued"]
    assert left == ["grey@d0.test", "full@d0.test"], left
    assert world.hop_list[0].commands.count(b"EHLO relay.example\r\n") == 1, "not on the connection that was there"


@scenario("stored mail counts what its next hops accept, put off and refuse")
def counted(world):
    hops = world.hops(3)
    hops[1].dots, hops[2].dots = ["451 4.7.1 not now"], ["550 5.7.1 no"]
    relay = world.out(hops, 'delivery = "spool"; retry = [ "500ms" ];')
    send("counted", "x@d0.test", "y@d1.test", "z@d2.test", sender="")
    relay.wait_empty()
    assert tries(relay) == [2, 1, 1], tries(relay)


@scenario("stored mail has its turn at a destination whose only connection sessions always wait for")
def turns(world):
    hops = world.hops(2)
    hops[0].pause, hops[0].dots = 0.2, ["451 4.3.0 not yet"]
    relay = world.out(hops, 'workers = 8; retry = [ "2s" ];', route="connections = 1;")
    assert send("stored", "x@d0.test", "y@d1.test")[0] == 250
    replies, over = [], threading.Event()

    def keep_sending():
        while not over.is_set() and len(replies) < 1000:
            replies.append(send("live", "z@d0.test"))

    senders = [threading.Thread(target=keep_sending) for _ in range(4)]
    for sender in senders:
        sender.start()
    try:
        wait_for("the stored message", lambda: "stored" in hops[0].subjects())
    finally:
        over.set()
        for sender in senders:
            sender.join()
    assert {code for code, _ in replies} == {250}, replies
    relay.wait_empty()


class Picky(NextHop):
    """Refuses the recipients no@... Without others it refuses DATA too, or asks for the message all the same (`begins`).
    `broken` has the messages that were broken off, `gone` counts the clients that have left."""

    def __init__(self, port, begins, pipelining):
        self.begins, self.pipelining, self.broken, self.gone = begins, pipelining, [], 0
        super().__init__(port)

    def serve(self, sock):
        try:
            super().serve(sock)
        finally:
            self.gone += 1

    def break_off(self, lines):
        self.broken.append(b"".join(lines))

    def reply(self, talk, step, line):
        if step == "ehlo" and not self.pipelining:
            return "250 mx"
        if step == "mail":
            talk.accepted = 0
        if step == "rcpt" and b"<no@" in line:
            return "550 5.1.1 unknown"
        talk.accepted = getattr(talk, "accepted", 0) + (step == "rcpt")
        if step == "data" and talk.accepted == 0 and not self.begins:
            return "554 5.5.1 no valid recipients"
        return super().reply(talk, step, line)


@scenario("stored mail: DATA goes with the recipients; if all are refused, nothing is sent, and the connection is kept")
def pipelined_data(world):
    for begins, pipelining in ((False, True), (True, True), (False, False)):
        hop = Picky(HOP_PORT, begins, pipelining)
        world.hop_list.append(hop)
        relay = world.out([hop], 'delivery = "spool";')
        for subject, *names in (("none", "no"), ("both", "a", "b"), ("one", "a", "no")):
            recipients = [f"{name}@d0.test" for name in names]
            assert send(subject, *recipients, rcpt=" NOTIFY=NEVER")[0] == 250
            relay.wait_empty()
        assert hop.subjects() == ["both", "one"] and tries(relay) == [3, 0, 2], (hop.subjects(), tries(relay))
        verbs = [line[:4].strip() for line in hop.commands]
        assert verbs[:4] == [b"EHLO", b"MAIL", b"RCPT", b"DATA" if pipelining else b"RSET"], verbs
        # On a fresh connection the last one, since the kept one refused a recipient.
        assert hop.connections == 2 + begins, (hop.connections, verbs)
        wait_for("the end of the others", lambda: hop.gone >= hop.connections - 1)
        assert hop.commands.count(b"QUIT\r\n") == (not pipelining) and not any(hop.broken), (hop.commands, hop.broken)
        world.tidy()


class PutsOff(NextHop):
    """Puts all recipients off, and refuses DATA then, or asks for the message all the same (`begins`). It says so at
    once, when DATA has come."""

    def __init__(self, port, begins):
        self.begins = begins
        super().__init__(port)

    def answer(self, talk, line):
        waiting = getattr(talk, "waiting", [])
        if line.startswith(b"RCPT"):
            talk.waiting = waiting + ["450 4.2.0 greylisted"]
        elif line.startswith(b"DATA"):
            talk.say("\r\n".join(waiting + ["354 go" if self.begins else "554 5.5.1 no valid recipients"]))
            talk.waiting = []
            if self.begins:
                self.take(talk)
        else:
            return super().answer(talk, line)
        return True


@scenario("stored mail: a host that puts all recipients off holds no delivery, and the next host is asked")
def put_off(world):
    for begins in (False, True):
        hops = [PutsOff(HOP_PORT, begins), NextHop(HOP_PORT + 1)]
        world.hop_list.extend(hops)
        relay = world.out(hops[:1], 'delivery = "spool"; retry = [ "1h" ];')
        send("later", "x@d0.test", "y@d0.test")
        wait_for("the answer", lambda: read(relay.log).count('reply="450 4.2.0 greylisted"') == 2)
        relay.reload(read(relay.conf).replace(f'"{BACKEND}:{HOP_PORT}"',
                                              f'[ "{BACKEND}:{HOP_PORT}", "{BACKEND}:{HOP_PORT + 1}" ]'))
        relay.ctl("retry", "all")
        relay.wait_empty()
        assert hops[1].subjects() == ["later"] and hops[0].bodies == 0, (hops[1].subjects(), hops[0].bodies)
        world.tidy()


class OneEach(NextHop):
    """Takes one message on a connection. At the next MAIL it hangs up, after `said` if there is such a reply."""

    def __init__(self, port, said, pipelining):
        self.said, self.pipelining = said, pipelining
        super().__init__(port)

    def reply(self, talk, step, line):
        if step == "ehlo" and not self.pipelining:
            return "250 mx"
        if step == "mail" and talk.body:
            if self.said:
                talk.say(self.said)
            raise HangUp
        return super().reply(talk, step, line)


@scenario("a next hop that ends a kept connection at MAIL has the message over a fresh one at once, live and stored")
def ended_at_mail(world):
    for said in (None, "421 4.7.0 one message a connection"):
        for pipelining in (True, False):
            for delivery in ("live", "spool"):
                hop = OneEach(HOP_PORT, said, pipelining)
                world.hop_list.append(hop)
                relay = world.out([hop], f'delivery = "{delivery}"; retry = [ "1h" ];', route="connections = 1;")
                for i in range(4):
                    assert send(f"number {i}", "x@d0.test")[0] == 250
                relay.wait_empty()
                assert sorted(hop.subjects()) == [f"number {i}" for i in range(4)], (said, pipelining, delivery)
                mails = sum(line.startswith(b"MAIL") for line in hop.commands)
                assert mails == 7, "again on a fresh connection for all messages but the first"
                world.tidy()


@scenario("SIGHUP: what waits goes by the new routes")
def reloaded(world):
    hops = world.hops(2)
    hops[0].all = "451 4.3.0 not yet"
    relay = world.out(hops, 'delivery = "spool";')
    send("moved", "x@d0.test")
    relay.wait_tried()
    relay.reload(read(relay.conf).replace(f"{BACKEND}:{hops[0].port}", f"{BACKEND}:{hops[1].port}"))
    assert "1 messages changed" in relay.ctl("retry", "all")
    wait_for("the message", lambda: hops[1].subjects() == ["moved"])
    relay.wait_empty()


@scenario("a retry of all messages asks a destination that is down once")
def retried_together(world):
    hops = world.hops(1)
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ]; dead_for = "1h"; '
                            'limits = { deliveries_per_destination = 1; };')
    text = read(relay.conf)
    relay.stop()
    with open(relay.conf, "w") as file:
        file.write(text.replace(f"{BACKEND}:{hops[0].port}", f"{BACKEND}:{HOP_PORT + 50}"))
    relay.start()
    client = hello()
    for _ in range(500):
        client.cmd("MAIL FROM:<a@example.com>", 250)
        client.cmd("RCPT TO:<x@d0.test>", 250)
        assert client.data(BODY.format("together"))[0] == 250
    client.close()
    wait_for("the first try", lambda: "\nconnect to" in read(relay.log))
    assert "500 messages changed" in relay.ctl("retry", "all")
    wait_for("the next", lambda: read(relay.log).count("\nconnect to") > 1)
    relay.stop()
    assert read(relay.log).count("\nconnect to") == 2, read(relay.log)


@scenario("SIGHUP: a destination that could not be reached is tried at once")
def mended(world):
    hops = world.hops(1)
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ]; dead_for = "1h";')
    text = read(relay.conf)
    relay.reload(text.replace(f"{BACKEND}:{hops[0].port}", f"{BACKEND}:{HOP_PORT + 50}"))
    send("first", "x@d0.test")
    wait_for("a try", lambda: "Connection refused" in read(relay.log))
    send("second", "x@d0.test")
    relay.reload(text)
    wait_for("the second", lambda: hops[0].subjects() == ["second"])


@scenario("SIGHUP: what waits for a domain that is denied from now on goes back to its sender, and to nobody else")
def denied(world):
    hops = world.hops(2)
    hops[0].all = "451 4.3.0 not yet"
    relay = world.out(hops[:1], f'delivery = "spool"; default_route = {{ next_hop = "{BACKEND}:{hops[1].port}"; }};')
    send("stopped", "x@d0.test")
    relay.wait_tried()
    relay.reload(read(relay.conf).replace(f'next_hop = "{BACKEND}:{hops[0].port}"', 'action = "deny"', 1))
    relay.ctl("retry", "all")
    _, blocks, _ = report_of(world)
    assert blocks[1]["Action"] == "failed" and blocks[1]["Status"] == "5.7.1", blocks
    relay.wait_empty()
    assert hops[1].messages == [] and "denies mail for d0.test" in read(relay.log), read(relay.log)


@scenario("SIGHUP: a late answer is about the recipients that it was given for, whoever the new routes put to them")
def regrouped(world):
    hops = world.hops(2)
    hops[0].pause, hops[1].all = 4, "451 4.3.0 later"
    relay = world.out(hops, 'live_deadline = "1s"; retry = [ "3s", "1h" ];')
    apart = read(relay.conf)
    together = apart.replace('domain = "d0.test"', 'domain = [ "d0.test", "d1.test" ]')
    relay.reload(together)
    relay.stop()
    relay.start()
    relay.reload(apart)
    assert send("regrouped", "x@d0.test", "y@d1.test")[0] == 250
    relay.reload(together)
    hops[0].pause = 0
    relay.wait_empty()
    assert [to for _, to, _ in hops[0].messages] == [["RCPT TO:<x@d0.test>"], ["RCPT TO:<y@d1.test>"]], hops[0].messages


@scenario("SIGHUP: a late answer is recorded for all whom the new routes brought together")
def brought_together(world):
    hops = world.hops(3)
    hops[0].pause = 3
    relay = world.out(hops, 'live_deadline = "1s"; retry = [ "1h" ];')
    relay.reload(read(relay.conf).replace('domain = "d0.test"', 'domain = [ "d0.test", "d1.test" ]'))
    assert send("together", "x@d0.test", "y@d1.test", "z@d2.test")[0] == 250
    relay.wait_empty()
    assert [to for _, to, _ in hops[0].messages] == [["RCPT TO:<x@d0.test>", "RCPT TO:<y@d1.test>"]], hops[0].messages


@scenario("SIGHUP: domains that had a route together wait for each other no longer once they are parted")
def parted(world):
    hops = world.hops(2)
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ];')
    apart = read(relay.conf).replace("d0.test", "first").replace("d1.test", "d0.test").replace("first", "d1.test")
    relay.reload(read(relay.conf).replace('domain = "d0.test"', 'domain = [ "d0.test", "d1.test" ]'))
    relay.stop()
    relay.start()
    relay.reload(apart.replace(f"{BACKEND}:{hops[1].port}", f"{BACKEND}:{HOP_PORT + 50}"))
    send("down", "x@d0.test")
    relay.wait_tried()
    send("well", "x@d1.test")
    wait_for("the message", lambda: hops[0].subjects() == ["well"])


@scenario("SIGHUP: a next hop that is down holds all mail of a domain that has it for its route from now on")
def routed(world):
    hops = world.hops(1)
    relay = world.out(hops, 'delivery = "spool"; retry = [ "1h" ];')
    down = f'routes = ( {{ domain = "down.test"; next_hop = "{BACKEND}:{HOP_PORT + 50}"; }}, '
    relay.reload(read(relay.conf).replace("routes = ( ", down))
    send("probe", "x@down.test")
    relay.wait_tried()
    send("held", "x@down.test")
    send("well", "x@d0.test")
    wait_for("the message", lambda: hops[0].subjects() == ["well"])
    wait_for("its removal", lambda: len(relay.queued()) == 2)
    assert [message["recipients"][0]["attempts"] for message in relay.queued()] == [1, 0], relay.queued()


@scenario("SIGTERM waits for the answer to a message, and for nothing else")
def ended(world):
    hops = world.hops(1)
    hops[0].pause = 2
    relay = world.out(hops, 'delivery = "spool"; timeouts = { connect = "20s"; };')
    send("owed", "x@d0.test")
    wait_for("its data", lambda: hops[0].bodies == 1)
    began = time.monotonic()
    relay.stop()
    assert 1 < time.monotonic() - began < 4, time.monotonic() - began
    assert hops[0].subjects() == ["owed"] and not glob.glob(f"{relay.spool}/*/*.env")
    # For a host that never greets, the message stays as it was.
    silent = socket.create_server((BACKEND, HOP_PORT + 50))
    text = read(relay.conf)
    with open(relay.conf, "w") as file:
        file.write(text.replace(f"{BACKEND}:{hops[0].port}", f"{BACKEND}:{HOP_PORT + 50}"))
    relay.start()
    send("unsent", "x@d0.test")
    silent.settimeout(10)
    connection, _ = silent.accept()
    began = time.monotonic()
    relay.stop()
    assert time.monotonic() - began < 4, time.monotonic() - began
    connection.close()
    silent.close()
    assert '"attempts": 0' in relay.ctl("list", "--json")


@scenario("control connections that stall or talk nonsense hold up nobody")
def stalled(world):
    relay = world.out(world.hops(1), 'delivery = "spool";')
    path = f"{relay.control}/relay-out.socket"
    def dial(data=b""):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.settimeout(15)
        try:
            sock.sendall(data)
        except BrokenPipeError:
            pass  # it has heard enough
        return sock
    for nonsense in (b"\n", b"queue\n", b"queue dance\n", b"queue list \0\n", b"x" * 4000 + b"\n",
                     b"a b c d e f g h i j k\n", b"queue remove all\n", b"queue hold\n"):
        assert dial(nonsense).recv(1000).startswith(b"error "), nonsense
    # A slip of the hand must not send a notice that nobody intended.
    assert b"bonuce" in dial(b"queue remove 19b0f1a2c3d4e5f6 bonuce\n").recv(1000)
    idle = [dial() for _ in range(8)]
    wait_for("busy", lambda: dial().recv(1000) == b"error busy, try again\n")
    assert send("meanwhile", "x@d0.test")[0] == 250
    wait_for("the end of the idle", lambda: "ok" in str(dial(b"queue list\n").recv(1000)), 15)
    for sock in idle:
        end = sock.recv(1000)
        assert end == b"" or end.startswith(b"error "), end
    # A user without permission is told so.
    asked = subprocess.run(["setpriv", "--reuid=games", "--clear-groups", "--regid=games", sys.executable, "-c",
                            f"import socket; s=socket.socket(socket.AF_UNIX); s.connect({path!r})"],
                           capture_output=True, text=True)
    assert "PermissionError" in asked.stderr, asked


@scenario("two daemons never share a spool, and the second one says why")
def locked(world):
    relay = world.out(world.hops(1))
    second = RelayOut(world.bed, {}, spool=relay.spool, wait=False, port=PORT + 1)
    assert second.process.wait(20) == 69
    assert re.search(rf"in use by .*{relay.process.pid}|{relay.process.pid}", read(second.log)), read(second.log)


@scenario("a full disk: 452 and nothing lost; with room again everything goes on")
def full(world):
    folder = f"{world.bed.dir}/small"
    os.makedirs(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", folder], check=True)
    try:
        hops = world.hops(2)
        hops[0].all = "451 4.3.0 not yet"
        relay = world.out(hops, 'delivery = "spool"; retry = [ "500ms" ];', spool=f"{folder}/spool")
        bulk = "Subject: big\r\n\r\n" + "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 4000
        codes = []
        for _ in range(12):
            client = hello()
            client.envelope("x@d0.test", sender="a@example.com")
            code, text = client.cmd("DATA")
            if code == 354:
                client.send(bulk + ".\r\n")
                code, text = client.reply()
            assert code == 250 or text.startswith("452 4.3.1"), text
            codes.append(code)
            client.close()
        kept = codes.count(250)
        assert 452 in codes and kept >= 3, codes
        assert len(relay.queued()) == kept
        # Refused before the data if SIZE was given.
        client = hello()
        client.cmd("MAIL FROM:<a@example.com> SIZE=1500000", 250)
        client.cmd("RCPT TO:<x@d0.test>", 250)
        assert client.cmd("DATA")[1].startswith("452 4.3.1")
        client.close()
        hops[0].all = None
        wait_for("room", lambda: len(hops[0].messages) == kept, 20)
        relay.wait_empty()
        assert send("again", "y@d1.test")[0] == 250
        wait_for("the next", lambda: hops[1].subjects() == ["again"])
        relay.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def kill_under_load(world, inner, recipients):
    """Clients send each message to this many domains while relay-out is killed again and again. Every
    acknowledged message must reach each of its recipients."""
    rounds, senders = int(os.environ.get("POSTERN_KILL_ROUNDS", "6")), 6
    hops = world.hops(4)
    for hop in hops:
        hop.moody = 0.2
    relay = world.out(hops, inner + ' retry = [ "300ms" ]; deliveries = 8;')
    acknowledged, ended = [], threading.Event()

    def load(number):
        for i in range(1000000):
            if ended.is_set():
                return
            try:
                client = hello()
                for j in range(8):
                    subject, chosen = f"m{number}-{i}-{j}", random.sample(range(4), recipients)
                    client.envelope(*(f"x@d{n}.test" for n in chosen), sender="a@example.com")
                    if client.data(BODY.format(subject))[0] == 250:
                        acknowledged.extend((subject, n) for n in chosen)
                client.close()
            except (OSError, AssertionError):
                time.sleep(0.05)

    threads = [threading.Thread(target=load, args=(n,)) for n in range(senders)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        time.sleep(random.uniform(0.2, 0.7))
        relay.kill()
        relay.start()
    time.sleep(0.5)
    ended.set()
    for thread in threads:
        thread.join(30)
    relay.wait_empty(60)
    counts = collections.Counter((subject, n) for n, hop in enumerate(hops) for subject in hop.subjects())
    lost = [one for one in acknowledged if one not in counts]
    copies = sum(counts[one] - 1 for one in set(acknowledged))
    print(f"# {rounds} times kill -9: {len(acknowledged)} acknowledged, {len(counts)} delivered, "
          f"{len(lost)} lost, {copies} second copies")
    assert len(acknowledged) > 100, len(acknowledged)
    assert not lost, lost[:10]
    assert copies <= rounds * 8, "more second copies than deliveries that were under way"
    world.postfix.clear()


@scenario("kill -9 under load: nothing that was stored and acknowledged is lost")
def killed(world):
    kill_under_load(world, 'delivery = "spool";', 1)


@scenario("kill -9 under load, live: what next hops disagreed on is not lost either")
def killed_live(world):
    kill_under_load(world, "", 2)


def write_spool(folder, count, domains):
    """Writes `count` messages as in postern-spool(5), for d0.test ... in turn."""
    nobody = pwd.getpwnam("nobody")
    os.makedirs(f"{folder}/queue", exist_ok=True)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    for i in range(count):
        ident = f"{0x6000000000000 + i:016x}"
        name = f"{folder}/queue/{ident}"
        data = BODY.format(i)
        with open(name + ".data", "w", newline="") as file:
            file.write(data)
        with open(name + ".env", "w") as file:
            file.write(ENVELOPE.format(name=ident, arrived=now, expires=until, size=len(data),
                                       recipient=f"x@d{i % domains}.test"))
        for end in (".data", ".env"):
            os.chown(name + end, nobody.pw_uid, nobody.pw_gid)
    os.chown(f"{folder}/queue", nobody.pw_uid, nobody.pw_gid)


def pss_kib(pid):
    return int(re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.M).group(1))


@scenario("a large queue, half of its destinations dead: start, memory, rate")
def large(world):
    count = int(os.environ.get("POSTERN_SPOOL_MESSAGES", "400"))
    domains = max(count // 10, 2)
    hop = world.hop(0)
    empty = world.out([hop])
    small = pss_kib(empty.process.pid)
    empty.stop()
    # Odd ones go to a port where no server listens.
    routes = {f"d{i}.test": hop.port if i % 2 == 0 else 2799 for i in range(domains)}
    routes["fresh.test"] = hop.port
    # That many connections to one port use up the local ports.
    for name, value in (("tcp_tw_reuse", "1"), ("ip_local_port_range", "1024 65535")):
        with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
            file.write(value)
    folder = f"{world.bed.dir}/large"
    os.makedirs(folder)
    write_spool(folder, count, domains)
    began = time.monotonic()
    relay = RelayOut(world.bed, routes, 'delivery = "spool"; retry = [ "1d" ]; timeouts = { connect = "2s"; };',
                     spool=folder)
    world.relays.append(relay)
    start = time.monotonic() - began
    waiting = pss_kib(relay.process.pid)
    spans = {}
    for order in (("hold", "all"), ("count", "--by-domain"), ("retry", "all"), ("release", "all")):
        began = time.monotonic()
        said = relay.ctl(*order, seconds=600)
        spans[order[0]] = time.monotonic() - began
        assert order[0] == "count" or f"{count} messages changed" in said, said
    released = began
    began = time.monotonic()
    assert send("fresh", "x@fresh.test")[0] == 250
    wait_for("what comes meanwhile", lambda: "fresh" in hop.subjects(), 60)
    fresh = time.monotonic() - began
    wait_for("all that can be delivered", lambda: len(hop.messages) > count // 2, 600)
    rate = count / 2 / (time.monotonic() - released)
    print(f"# {count} messages, {domains} destinations: start {start:.2f} s, {rate:.0f} messages/s, PSS {small} "
          f"KiB empty, {waiting} KiB while all wait, {pss_kib(relay.process.pid)} KiB at the end")
    print("# orders for all: " + ", ".join(f"{name} {span:.1f} s" for name, span in spans.items()) +
          f"; a message that came meanwhile was delivered after {fresh:.2f} s")
    assert len(hop.messages) == count // 2 + 1
    assert fresh < 30, "good mail waits for dead destinations"
    assert start < 10 + count / 1000
    assert world.sanitized or waiting - small < 2000 + count / 2, "more than a few hundred octets a message"


class World(tap.World):
    def __init__(self, with_postfix):
        super().__init__(False)
        self.hop_list = []
        self.names = NameServer("127.0.0.1", 5300, {})  # no name exists
        self.postfix = Postfix(self.bed, "backend", f"{BACKEND}:{POSTFIX_PORT}",
                               f"""relayhost = [{OUT}]:{PORT}
smtp_bind_address = {BACKEND}
mynetworks = 127.0.0.1/32, 10.0.0.9/32
smtp_tls_security_level = none
notify_classes =
recipient_delimiter = +
""", f"""{BACKEND}:{PROXY_PORT} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
{BACKEND}:{LIMITED_PORT} inet n - n - - smtpd -o smtpd_recipient_limit=10
""")

    def hop(self, number, **settings):
        self.hop_list.append(NextHop(HOP_PORT + number, **settings))
        return self.hop_list[-1]

    def hops(self, count):
        return [self.hop(i) for i in range(count)]

    def out(self, hops, inner="", **settings):
        routes = {f"d{i}.test": hop.port for i, hop in enumerate(hops)}
        relay = RelayOut(self.bed, routes, inner, **settings)
        self.relays.append(relay)
        return relay

    def inject(self, subject, *recipients):
        """Gives one message to Postfix, which relays through us."""
        with smtplib.SMTP(BACKEND, POSTFIX_PORT, source_address=("10.0.0.9", 0)) as client:
            refused = client.sendmail("a@example.com", list(recipients), BODY.format(subject).replace("..", "."))
            assert not refused, refused

    def tidy(self):
        try:
            super().tidy()
        finally:
            for hop in self.hop_list:
                hop.close()
            self.hop_list = []
            with open(self.postfix.log, "w"):
                pass

    def close(self):
        self.names.close()
        super().close()


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
