"""VPSes in their own network namespaces, with both daemons on each, and one home behind them.

The home is a Postfix with mailcow's settings, or two VPSes share one as in "Growing past one machine". This
namespace is the internet and home. A pair of interfaces connects home and a VPS; when the tunnel is cut, packets
vanish because no neighbour answers. Speaks TAP.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time

import tap
from bed import BACKEND, BUILD, CLIENT4, OTHER4, Client, Postfix, read, wait_for
from servers import HAProxy
from tap import scenario

FAR, FAR_PORT = "203.0.113.99", 2599      # for every domain that is not ours
BALANCER, BALANCED = "203.0.113.20", 25   # HAProxy's public address
INNER_BALANCER = "10.1.0.9"               # the address that the relays see
SUBMIT = "127.0.0.1:2590"                 # where home's users submit mail
NOBODYS = "02:00:00:00:00:01"


def ip(command, enter=()):
    subprocess.run([*enter, "ip", *command.split()], check=True, capture_output=True)


class Site:
    """VPS number 1 or 2. `public`, `tunnel` and `inner` are its addresses towards the internet, home and
    HAProxy; `daemons` are its programs, run as systemd would: one that dies is restarted when needed."""

    def __init__(self, bed, number):
        bed.count += 1
        self.bed, self.number, self.count, self.daemons = bed, number, bed.count, {}
        self.public, self.inner = f"203.0.113.{10 + number}", f"10.1.0.{number}"
        self.tunnel = "10.0.0.1" if number == 1 else "10.0.0.3"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"], stdout=subprocess.DEVNULL)
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        self.enter = ["nsenter", "-t", str(self.holder.pid), "-n", "--"]
        here, there = f"vps{number}", "eth0"
        ip(f"link add {here} type veth peer name {there} netns {self.holder.pid}")
        ip(f"link set {here} up")
        ip("link set lo up", self.enter)
        ip(f"link set {there} up", self.enter)
        for address in (self.public, self.tunnel, self.inner):
            ip(f"address add {address}/32 dev {there}", self.enter)
        ip(f"route add default dev {there} src {self.public}", self.enter)
        ip(f"route add {BACKEND} dev {there} src {self.tunnel}", self.enter)
        ip(f"route add {INNER_BALANCER} dev {there} src {self.inner}", self.enter)
        ip(f"route add {self.public} dev {here} src {CLIENT4}")
        ip(f"route add {self.tunnel} dev {here} src {BACKEND}")
        ip(f"route add {self.inner} dev {here} src {INNER_BALANCER}")
        self.spool = f"{bed.dir}/spool-{self.count}"
        os.mkdir(self.spool)
        os.chown(self.spool, pwd.getpwnam("nobody").pw_uid, -1)

    def configure(self, identity="xclient", port=25):
        self.conf = f"{self.bed.dir}/vps-{self.count}.conf"
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "mail{self.number}.example.com";
user = "nobody";
tls = {{ certificates = ( {{ cert = "{self.bed.cert}"; key = "{self.bed.key}"; }} ); }};
in = {{
  listen = [ "{self.public}:25", "{self.inner}:2525 proxy" ];
  proxy_hosts = [ "{INNER_BALANCER}" ];
  private_clients = [ "{INNER_BALANCER}" ];
  domains = [ "example.com" ];
  reverse_dns = false;
  backend = {{ hosts = [ "{BACKEND}:{port}" ]; identity = "{identity}"; max_sessions = 20; retry_after = "1s";
              connect_timeout = "2s"; command_timeout = "15s"; reply_timeout = "20s"; }};
  limits = {{ connections_per_client = 100; rate_per_client = 0; }};
}};
out = {{
  listen = [ "{self.tunnel}:2526" ];
  allow = [ "{BACKEND}" ];
  spool = "{self.spool}"; spool_reserve = 0; retry = [ "1s" ];
  routes = ( {{ domain = "*"; next_hop = "{FAR}:{FAR_PORT}"; }} );
}};
log = {{ level = "info"; }};
""")
        return self

    def log(self, program):
        return f"{self.bed.dir}/{program}-{self.count}.log"

    def start(self, *programs):
        for program in programs or ("relay-in", "relay-out"):
            before = read(self.log(program)).count("event=start")
            with open(self.log(program), "a") as log:
                process = subprocess.Popen([*self.enter, f"{BUILD}/{program}", "-c", self.conf], stderr=log,
                                           stdin=subprocess.DEVNULL, env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ})
            wait_for(program, lambda: read(self.log(program)).count("event=start") > before or process.poll() is not None)
            assert process.poll() is None, read(self.log(program))[-600:]
            self.daemons[program] = process
        return self

    def kill(self, program):
        self.daemons[program].kill()
        self.daemons.pop(program).wait(10)

    def tunnel_is(self, state):
        """Cuts or restores the tunnel, by giving the other end of the cable away."""
        ways = ((f"neigh replace {BACKEND} lladdr {NOBODYS} dev eth0 nud permanent", f"neigh del {BACKEND} dev eth0", self.enter),
                (f"neigh replace {self.tunnel} lladdr {NOBODYS} dev vps{self.number} nud permanent",
                 f"neigh del {self.tunnel} dev vps{self.number}", ()))
        for cut, heal, enter in ways:
            ip(cut if state == "cut" else heal, enter)

    def stop(self):
        try:
            for process in self.daemons.values():
                process.send_signal(signal.SIGTERM)
            for program, process in self.daemons.items():
                assert process.wait(40) == 0, f"{program} ended with {process.returncode}"
                assert not re.search("Sanitizer|runtime error", read(self.log(program))), "a sanitizer has complained"
        finally:
            self.holder.kill()
            self.holder.wait(10)


class FarSide:
    """The mail server of all outgoing recipients: it accepts everything, unless told to reply otherwise."""

    def __init__(self, bed, *options):
        bed.count += 1
        self.mail, ready = f"{bed.dir}/far-{bed.count}", f"{bed.dir}/far-{bed.count}.ready"
        os.mkdir(self.mail)
        with open(f"{bed.dir}/far-{bed.count}.log", "w") as log:
            self.process = subprocess.Popen(
                [f"{BUILD}/relayctl", "sink", "--listen", f"{FAR}:{FAR_PORT}", "--store", self.mail, "--connections", "200",
                 "--tls", f"{bed.cert}:{bed.key}", "--ready-file", ready, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the far side", lambda: os.path.exists(ready))

    def subjects(self):
        return [subject for name in os.listdir(self.mail) if name.endswith(".eml")
                for subject in re.findall(r"^Subject: (\S+)", read(f"{self.mail}/{name}"), re.M)]

    def close(self):
        self.process.kill()
        self.process.wait(10)


def subjects_at(postfix, user):
    return [subject for path in postfix.mails(user) for subject in re.findall(r"^Subject: (\S+)", read(path), re.M)]


def listed(bed, *addresses):
    path = f"{bed.dir}/postscreen_whitelist.cidr"
    with open(path, "w") as file:
        file.write("".join(f"{address}/32 permit\n" for address in addresses))
    return path


def table(bed, name, text):
    path = f"{bed.dir}/{name}"
    with open(path, "w") as file:
        file.write(text)
    return f"texthash:{path}"


POSTSCREENS = f"""{BACKEND}:25 inet n - n - 1 postscreen
{BACKEND}:10025 inet n - n - 1 postscreen -o postscreen_upstream_proxy_protocol=haproxy -o syslog_name=postfix/haproxy
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
"""


def home(world, name, tunnels=("10.0.0.1",), extra=""):
    """mailcow's Postfix with its main.cf and master.cf, and the README's lines for it."""
    users = table(world.bed, f"{name}-users", "".join(f"{u}@example.com {u}/\n" for u in ("a", "b", "postmaster")))
    domains = table(world.bed, f"{name}-domains", "example.com OK\n")
    postfix = Postfix(world.bed, name, SUBMIT, f"""
inet_interfaces = {BACKEND}, 127.0.0.1
mynetworks_style = subnet
message_size_limit = 104857600
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = {users}
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination
smtpd_data_restrictions = reject_unauth_pipelining, permit
smtpd_discard_ehlo_keywords = chunking, silent-discard, smtputf8
smtpd_error_sleep_time = 10s
smtpd_soft_error_limit = 3
smtpd_hard_error_limit = ${{stress?{{1}}:{{5}}}}
smtpd_helo_required = yes
disable_vrfy_command = yes
strict_rfc821_envelopes = yes
postscreen_greet_action = enforce
postscreen_bare_newline_enable = no
postscreen_access_list = permit_mynetworks, cidr:{listed(world.bed, *tunnels)}
smtp_tls_security_level = dane
smtp_dns_support_level = dnssec
smtp_tls_CAfile = {world.bed.cert}
smtpd_authorized_xclient_hosts = {", ".join(tunnels)}
smtpd_client_connection_count_limit = 200
smtp_destination_recipient_limit = 1
smtp_enforced_tls_destination_recipient_limit = 1
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
{extra}""", POSTSCREENS, without=("mynetworks", "smtpd_peername_lookup"))
    world.homes.append(postfix)
    return postfix


def site(world, number, **settings):
    world.sites.append(Site(world.bed, number))
    return world.sites[-1].configure(**settings).start()


def far(world, *options):
    world.backends.append(FarSide(world.bed, *options))
    return world.backends[-1]


def deliver(host, subject, recipients=("a@example.com",), source=CLIENT4, port=25, tls=True, timeout=60):
    """Sends a message; returns the reply to each recipient and to the end of data."""
    client = Client(source, host, port, timeout)
    client.hello("mx.sender.example")
    if tls:
        client.starttls("mx.sender.example")
    replies = client.envelope(*recipients, sender=f"{subject}@sender.example")
    if 250 in replies:
        replies.append(client.data(f"Subject: {subject}\r\n\r\nhello\r\n")[0])
    client.close()
    return replies


def hand_in(subject, recipient="x@far.example"):
    client = Client("127.0.0.1", "127.0.0.1", int(SUBMIT.split(":")[1]))
    client.hello("laptop.example")
    client.envelope(recipient, sender=f"{subject}@example.com")
    assert client.data(f"Subject: {subject}\r\n\r\nhello\r\n")[0] == 250
    client.close()


def inbound(vps, postfix):
    """What must hold towards mailcow, however the client is introduced."""
    assert deliver(vps.public, "plain", tls=False) == [250, 250] and deliver(vps.public, "tls") == [250, 250]
    wait_for("both", lambda: sorted(subjects_at(postfix, "a")) == ["plain", "tls"])
    mail = read(postfix.mails("a")[0])
    assert "from mx.sender.example (" in mail and f"[{CLIENT4}])" in mail and "10.0.0.1" not in mail, mail
    # Each recipient gets its own reply; mailcow itself refuses unknown ones and relaying.
    assert deliver(vps.public, "some", ("a@example.com", "no@example.com", "b@example.com")) == [250, 550, 250, 250]
    assert deliver(vps.public, "foreign", ("x@elsewhere.example", "a%elsewhere.example@example.com",
                                           "@example.com:x@elsewhere.example")) == [550, 550, 550]
    # Dozens of unknown recipients: mailcow slows such sessions down and ends them; others continue.
    began = time.monotonic()
    assert set(deliver(vps.public, "guesses", [f"no{i}@example.com" for i in range(12)], OTHER4)) <= {421, 450, 451, 550}
    assert deliver(vps.public, "after", source=CLIENT4) == [250, 250]
    print(f"# a guesser and a message: {time.monotonic() - began:.1f} s")
    client = Client(CLIENT4, vps.public)
    offer = client.hello()
    wait_for("the offer", lambda: "SIZE 104857600" in offer or "SIZE 104857600" in client.cmd("EHLO mx.sender.example")[1])
    offer = client.cmd("EHLO mx.sender.example")[1]
    assert "CHUNKING" not in offer and "SMTPUTF8" not in offer and "PIPELINING" in offer, offer
    client.send("MAIL FROM:<pipelined@sender.example>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n")
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 354]
    client.send("Subject: pipelined\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(2)] == [250, 221]
    for bad in ("PREGREET", "improper command pipelining", "synchronization", "HANGUP"):
        assert bad not in read(postfix.log), bad


def outbound(postfix, sink):
    hand_in("outgoing")
    wait_for("the outgoing mail", lambda: sink.subjects() == ["outgoing"], 30)
    wait_for("Postfix's word on it", lambda: "relay=10.0.0.1[10.0.0.1]:2526" in read(postfix.log))
    assert "Verified TLS" not in read(postfix.log)


def tunnel_cut(vps, postfix, sink):
    """Clients are told to try later and home keeps its mail; then all of it arrives, once."""
    vps.tunnel_is("cut")
    try:
        assert deliver(vps.public, "meanwhile")[-1] // 100 == 4
        hand_in("waiting")
        wait_for("home to see it", lambda: re.search("status=deferred", read(postfix.log)), 60)
    finally:
        vps.tunnel_is("healed")
    wait_for("the way in", lambda: deliver(vps.public, "again")[-1] == 250, 60)
    wait_for("what waited at home", lambda: sorted(sink.subjects()) == ["outgoing", "waiting"], 90)
    assert subjects_at(postfix, "a").count("again") == 1


@scenario("mailcow: both directions, XCLIENT by port 25 and postscreen's list; the tunnel is cut")
def mailcow_xclient(world):
    postfix, sink = home(world, "mailcow", extra="relayhost = [10.0.0.1]:2526\nsmtp_connect_timeout = 3s\n"), far(world)
    vps = site(world, 1)
    inbound(vps, postfix)
    assert "CONNECT from [10.0.0.1]" in read(postfix.log) and ("ALLOWLISTED" in read(postfix.log) or "WHITELISTED" in read(postfix.log))
    outbound(postfix, sink)
    tunnel_cut(vps, postfix, sink)


@scenario("mailcow: the same by PROXY and port 10025, where postscreen itself judges the client")
def mailcow_proxy(world):
    postfix, sink = home(world, "haproxy", extra="relayhost = [10.0.0.1]:2526\nsmtp_connect_timeout = 3s\n"), far(world)
    vps = site(world, 1, identity="proxy-v2", port=10025)
    inbound(vps, postfix)
    wait_for("postscreen's word on the client", lambda: f"CONNECT from [{CLIENT4}]" in read(postfix.log))
    outbound(postfix, sink)
    tunnel_cut(vps, postfix, sink)


class Sender(threading.Thread):
    """A mail server on the internet: each message goes to the first MX host that accepts it, and is retried until
    one does. `unheard` lists those that may have been accepted without a reply."""

    def __init__(self, number, hosts, count):
        super().__init__()
        self.number, self.hosts, self.count = number, hosts, count
        self.acknowledged, self.unheard, self.refused, self.failed = [], set(), 0, None

    def run(self):
        for i in range(self.count):
            subject = f"in-{self.number}-{i}"
            end = time.monotonic() + 60
            while not any(self.attempt(host, port, subject) for host, port in self.hosts):
                if time.monotonic() > end:
                    self.failed = subject
                    return
                time.sleep(0.1)

    def attempt(self, host, port, subject):
        client, ended = None, False
        try:
            client = Client(CLIENT4, host, port, 20)
            client.hello("mx.sender.example")
            if client.envelope("a@example.com", sender=f"{subject}@sender.example") != [250]:
                return False
            client.cmd("DATA", 354)
            client.send(f"Subject: {subject}\r\n\r\nhello\r\n")
            ended = True
            client.send(".\r\n")
            if client.reply()[0] == 250:
                self.acknowledged.append(subject)
                return True
            return False
        except (OSError, AssertionError):
            self.refused += 1
            if ended:
                self.unheard.add(subject)
            return False
        finally:
            if client is not None:
                client.close()


def once(what, expected, found, unheard):
    """Everything has arrived, and only messages that their sender had to repeat for lack of a reply came twice."""
    lost = set(expected) - set(found)
    twice = {subject for subject in found if found.count(subject) > 1}
    assert not lost, f"{what}: lost {sorted(lost)[:5]}"
    assert twice <= set(unheard), f"{what}: doubled {sorted(twice - set(unheard))[:5]}"
    print(f"# {what}: {len(set(found))} messages, {len(twice)} twice of {len(set(unheard))} whose reply was lost")


def under_load(world, hosts, kill):
    """Mail both ways, with 4 senders and 120 outgoing messages; kills `kill` in the middle."""
    postfix, sink = world.homes[0], world.backends[0]
    senders = [Sender(i, hosts, 60) for i in range(4)]
    for sender in senders:
        sender.start()
    outgoing = [f"out-{i}" for i in range(120)]
    for i, subject in enumerate(outgoing):
        hand_in(subject)
        if i == 40:
            kill()
    for sender in senders:
        sender.join()
        assert sender.failed is None, f"{sender.failed} found no way"
    incoming = [s for sender in senders for s in sender.acknowledged]
    wait_for("the incoming mail", lambda: set(incoming) <= set(subjects_at(postfix, "a")), 30)
    wait_for("the outgoing mail", lambda: set(outgoing) <= set(sink.subjects()), 90)
    once("in", incoming, subjects_at(postfix, "a"), {s for sender in senders for s in sender.unheard})
    log = read(postfix.log)
    ids = dict(re.findall(r"qmgr\[\d+\]: (\w+): from=<(out-\d+)@", log))
    unheard = {ids.get(i) for i in re.findall(r": (\w+): to=<.*status=deferred \((?:lost connection|conversation)", log)}
    once("out", outgoing, sink.subjects(), unheard | {ids.get(i) for i in re.findall(
        r"smtp\[\d+\]: (\w+): (?:lost connection|conversation|host \S+ said: 4)", log)})
    return senders


def two_vps(world, name):
    """As the README says: 10.0.0.3 is on both of home's lists, and home sends through both VPSes."""
    home(world, name, ("10.0.0.1", "10.0.0.3"), "relayhost = [10.0.0.1]:2526, [10.0.0.3]:2526\nsmtp_connect_timeout = 3s\n")
    far(world)
    return site(world, 1), site(world, 2)


@scenario("two VPSes, one home: the first one's daemons are killed under load both ways, nothing is lost or doubled")
def killed_under_load(world):
    first, second = two_vps(world, "shared")

    def kill():
        for program in ("relay-in", "relay-out"):
            first.kill(program)
        time.sleep(2)
        first.start()

    under_load(world, [(first.public, 25), (second.public, 25)], kill)
    assert "status=delivered" in read(second.log("relay-in")) and "status=sent" in read(second.log("relay-out"))


def haproxy(world, sites):
    return HAProxy(world.bed, [(BALANCER, BALANCED)], INNER_BALANCER,
                   ["balance leastconn", "option smtpchk EHLO haproxy.example.com",
                    *(f"server relay{s.number} {s.inner}:2525 send-proxy-v2 check inter 300ms" for s in sites)])


@scenario("two VPSes, one home: HAProxy in front; one relay is killed and one drained under load")
def behind_haproxy(world):
    first, second = two_vps(world, "balanced")
    balancer = haproxy(world, (first, second))
    world.backends.append(balancer)
    wait_for("the greeting", lambda: deliver(BALANCER, "first")[-1] == 250, 20)

    def kill():
        first.kill("relay-in")
        time.sleep(1.5)
        first.start("relay-in")
        wait_for("HAProxy to see it again", lambda: read(balancer.log).count("relays/relay1 is UP") > 0, 20)
        process = second.daemons.pop("relay-in")
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        second.start("relay-in")

    under_load(world, [(BALANCER, BALANCED)], kill)
    for vps in (first, second):
        assert f"client={CLIENT4}:" in read(vps.log("relay-in")), "the client's own address"


class World(tap.World):
    def __init__(self, _):
        super().__init__(False)
        self.homes, self.sites = [], []
        for address in ("10.0.0.1", "203.0.113.5"):  # the VPS's own
            ip(f"address del {address}/32 dev lo")
        for address in (FAR, BALANCER, INNER_BALANCER):
            ip(f"address add {address}/32 dev lo")

    def tidy(self):
        things, self.homes, self.sites = [*self.sites, *self.homes], [], []
        troubles = []
        for thing in things:
            try:
                thing.stop()
            except (AssertionError, subprocess.TimeoutExpired) as trouble:
                troubles.append(trouble)
        super().tidy()
        assert not troubles, troubles


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
