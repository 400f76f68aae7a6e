"""relayctl doctor on a healthy bed, and with one fault at a time: it names that fault and nothing else.

The bed is the small internet of internet.py with its own zone: relay-in and relay-out on the VPS, Postfix at
home, and a public DNS with all the records of a mail host. Speaks TAP.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import hashlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys

import tap
from bed import BACKEND, BUILD, Postfix, read, wait_for
from fakes import HangUp
from internet import BLACK_HOLES, DNS, HOSTS, Authority, Remote, Vps
from servers import Knot
from tap import scenario

FOUR, SIX = "203.0.113.5", "2001:db8::1"
MX = "mail.example.com"
# Checks that depend on the machine: whether its clock is synchronized, how much memory it has.
MACHINE = {"clock", "memory", "units"}


def arpa(address):
    if ":" in address:
        octets = socket.inet_pton(socket.AF_INET6, address).hex()
        return ".".join(reversed(octets)) + ".ip6.arpa."
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa."


def records():
    """Everything published for a healthy host: name and type -> values."""
    return {
        (".", "SOA"): ["ns. hostmaster. {serial} 3600 600 86400 60"], (".", "NS"): ["ns."], ("ns.", "A"): [DNS],
        ("example.com.", "MX"): [f"10 {MX}."], ("example.com.", "TXT"): ['"v=spf1 mx -all"'],
        ("_dmarc.example.com.", "TXT"): ['"v=DMARC1; p=quarantine"'],
        (f"{MX}.", "A"): [FOUR], (f"{MX}.", "AAAA"): [SIX], (f"{MX}.", "TXT"): ['"v=spf1 a -all"'],
        (arpa(FOUR), "PTR"): [f"{MX}."], (arpa(SIX), "PTR"): [f"{MX}."],
        ("gmail.com.", "MX"): ["10 mx.gmail.com."], ("mx.gmail.com.", "A"): [HOSTS["plain"]],
        ("mx.gmail.com.", "AAAA"): [HOSTS["six"]],
        ("outlook.com.", "MX"): ["10 mx.outlook.com."], ("mx.outlook.com.", "A"): [HOSTS["valid"]],
        ("listed.zen.spamhaus.org.", "A"): ["127.0.0.2"], ("other.bl.spamcop.net.", "A"): ["127.0.0.2"],
        ("2.0.0.127.list.example.", "A"): ["127.0.0.2"], ("other.b.barracudacentral.org.", "A"): ["127.0.0.2"],
    }


def root_zone(published, serial):
    lines = (f"{name} {kind} {value.format(serial=serial)}\n"
             for (name, kind), values in published.items() for value in values)
    return "$TTL 3600\n" + "".join(lines)


class Zone(Knot):
    """Knot with a signed root zone; publish() changes the records."""

    def __init__(self, bed):
        self.serial = 1
        super().__init__(bed, DNS, {"root": root_zone(records(), 1)}, """  - domain: .
    file: root.zone
    zonefile-load: difference-no-serial
    journal-content: all
    serial-policy: increment
    dnssec-signing: on
    dnssec-policy: plain
""")

    def publish(self, published):
        self.serial += 1
        self.write("root.zone", root_zone(published, self.serial))
        self.reload()


class Daemon:
    def __init__(self, world, program):
        self.log = f"{world.bed.dir}/{program}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*world.vps.enter, f"{BUILD}/{program}", "-c", world.conf], stderr=log,
                                            stdin=subprocess.DEVNULL,
                                            env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ})
        wait_for(program, lambda: "event=start" in read(self.log) or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, read(self.log)


class Turnaway(Remote):
    """Greets with 554."""

    def reply(self, talk, step, line):
        talk.say("554 5.7.1 203.0.113.5 is not welcome here")
        raise HangUp


class World(tap.World):
    def __init__(self, _):
        self.vps = Vps()
        super().__init__(False)
        self.remotes, self.home, self.daemons = [], None, []
        try:
            self.authority = Authority(self.bed)
            self.dig_tunnel()
            # A CA that everybody here trusts.
            self.mount(self.authority.cert, "/etc/ssl/certs/ca-certificates.crt")
            self.cert, self.key = self.issue("mail", MX)
            self.zone = Zone(self.bed)
            self.spool = f"{self.bed.dir}/spool"
            os.mkdir(self.spool, 0o700)
            os.chown(self.spool, pwd.getpwnam("nobody").pw_uid, -1)
        except BaseException:
            self.close()
            raise

    def dig_tunnel(self):
        """Puts home behind its own interface, as with WireGuard."""
        vps = self.vps
        vps.here(f"link add tunnel type veth peer name wg0 netns {vps.process.pid}")
        vps.here("link set tunnel up")
        vps.there("link set wg0 up")
        vps.there("route replace 10.0.0.2 dev wg0 src 10.0.0.1")
        vps.here("route replace 10.0.0.1 dev tunnel src 10.0.0.2")

    @staticmethod
    def mount(source, target):
        subprocess.run(["mount", "--bind", source, target], check=True)

    def issue(self, file, name, days=60):
        cert, key = self.authority.issue(file, name, days)
        os.chmod(key, 0o600)
        os.chown(key, pwd.getpwnam("nobody").pw_uid, -1)
        return cert, key

    def write_conf(self, hostname=MX, cert=None, key=None, tls=None, inner="", backend="", outer="", user="nobody",
                   domains="example.com", listen="10.0.0.1:2526"):
        self.conf = f"{self.bed.dir}/relay.conf"
        if tls is None:
            tls = f'tls = {{ certificates = ( {{ cert = "{cert or self.cert}"; key = "{key or self.key}"; }} ); }};'
        identity = "" if "identity" in backend else 'identity = "xclient";'
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "{hostname}"; user = "{user}"; control = "{self.bed.dir}";
{tls}
dns = {{ servers = [ "{DNS}" ]; trust_anchor_file = "{self.zone.anchor}"; }};
in = {{ listen = [ "[::]:25" ]; domains = [ "{domains}" ]; workers = 64;
  backend = {{ hosts = [ "{BACKEND}:25" ]; {identity} {backend} }}; {inner} }};
out = {{ listen = [ "{listen}" ]; allow = [ "{BACKEND}" ]; spool = "{self.spool}"; spool_reserve = 0;
  limits = {{ message_size = "1M"; }}; {outer} }};
""")

    def start(self, home="", daemons=("relay-in", "relay-out"), **conf):
        self.write_conf(**conf)
        if home is not None:
            self.home = Postfix(self.bed, "home", f"{BACKEND}:25", f"""inet_interfaces = {BACKEND}
smtpd_authorized_xclient_hosts = 10.0.0.1
virtual_mailbox_maps = inline:{{ {{a@example.com = a/}}, {{postmaster@example.com = p/}}, {{abuse@example.com = p/}} }}
{home}""")
        self.daemons = [Daemon(self, program) for program in daemons]

    def remote(self, address, kind=Remote, manner=""):
        self.remotes.append(kind(address, manner))

    def doctor(self, *arguments):
        done = subprocess.run([*self.vps.enter, f"{BUILD}/relayctl", "doctor", "-c", self.conf, "--json", *arguments],
                              capture_output=True, text=True, timeout=60, env=dict(os.environ, LC_ALL="C"))
        assert done.returncode in (0, 1, 2), done.stderr
        found = {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
        worst = {row["outcome"] for name, row in found.items()}
        # With --changes the status covers all checks that ran, not only those shown.
        assert "--changes" in arguments or done.returncode == (2 if "failed" in worst else 1 if "warning" in worst else 0)
        return found

    def tidy(self):
        try:
            for daemon in self.daemons:
                daemon.stop()
        finally:
            self.daemons = []
            for remote in self.remotes:
                remote.close()
            self.remotes = []
            if self.home is not None:
                self.home.stop()
                subprocess.run(["rm", "-rf", self.home.dir], check=True)
                self.home = None
            self.zone.publish(records())

    def close(self):
        if hasattr(self, "zone"):
            self.zone.stop()
        self.vps.stop()
        super().close()


def wrong(found):
    return {name for name, row in found.items() if row["outcome"] in ("warning", "failed")} - MACHINE


def receivers(world):
    for name in ("plain", "six", "valid"):
        world.remote(HOSTS[name])


@scenario("doctor: nothing is wrong on the healthy bed, and most can be told")
def healthy(world):
    receivers(world)
    world.start()
    found = world.doctor()
    assert not wrong(found), {name: found[name] for name in wrong(found)}
    unknown = {name for name, row in found.items() if row["outcome"] == "unknown"} - MACHINE
    assert unknown <= {"banner", "starttls", "wg-handshake"}, {name: found[name] for name in unknown}
    assert len(found) >= 50, len(found)
    for must in ("relay-as-us", "relay-as-client", "ptr4", "ptr6", "spf", "out25-4", "out25-6", "introduce6", "mtu"):
        assert found[must]["outcome"] == "ok", found[must]


def zone_with(changes, remove=()):
    published = records()
    for key in remove:
        del published[key]
    published.update(changes)
    return published


PTR4, PTR6 = (arpa(FOUR), "PTR"), (arpa(SIX), "PTR")
SPF, TLSA = ("example.com.", "TXT"), (f"_25._tcp.{MX}.", "TLSA")
NOTHING = "0" * 64
# Name of the fault -> the zone with it, and all checks that must report it.
ZONES = {
    "no PTR for IPv4": (zone_with({}, [PTR4]), {"ptr4"}),
    "no PTR for IPv6": (zone_with({}, [PTR6]), {"ptr6"}),
    "two PTRs": (zone_with({PTR4: [f"{MX}.", "vps7.example."]}), {"ptr4"}),
    "PTR of the provider, leading nowhere": (zone_with({PTR4: ["vps7.example."], PTR6: ["vps7.example."]}),
                                             {"fcrdns4", "fcrdns6", "ehlo-is-ptr"}),
    "MX elsewhere": (zone_with({("example.com.", "MX"): ["10 mx.outlook.com."]}), {"mx-to-us", "spf"}),
    "no MX": (zone_with({}, [("example.com.", "MX")]), {"mx-to-us", "spf"}),
    "a second MX": (zone_with({("example.com.", "MX"): [f"10 {MX}.", "20 mx.outlook.com."]}), {"mx-only-us"}),
    "MX is an alias": (zone_with({("example.com.", "MX"): ["10 alias.example.com."],
                                  ("alias.example.com.", "CNAME"): [f"{MX}."]}), {"mx-is-host", "cert-name"}),
    "A of an old host": (zone_with({(f"{MX}.", "A"): ["198.51.100.99"]}), {"a", "fcrdns4", "spf", "spf-helo"}),
    "A private": (zone_with({(f"{MX}.", "A"): ["10.0.0.2"]}), {"a", "fcrdns4", "spf", "spf-helo", "home-hidden"}),
    "no AAAA": (zone_with({}, [(f"{MX}.", "AAAA")]), {"aaaa", "fcrdns6", "spf"}),
    "hostname not in the DNS": (zone_with({}, [(f"{MX}.", "A"), (f"{MX}.", "AAAA")]),
                                {"hostname", "a", "aaaa", "fcrdns4", "fcrdns6", "spf", "spf-helo"}),
    "no SPF": (zone_with({SPF: ['"something else"']}), {"spf"}),
    "SPF of somebody else": (zone_with({SPF: ['"v=spf1 ip4:198.51.100.0/24 -all"']}), {"spf"}),
    "two SPF records": (zone_with({SPF: ['"v=spf1 mx -all"', '"v=spf1 a -all"']}), {"spf"}),
    "SPF without IPv6": (zone_with({SPF: [f'"v=spf1 ip4:{FOUR} -all"']}), {"spf"}),
    "SPF by include and redirect": (zone_with({SPF: ['"v=spf1 include:one.example redirect=two.example"'],
                                               ("one.example.", "TXT"): ['"v=spf1 ip4:198.51.100.1 -all"'],
                                               ("two.example.", "TXT"): [f'"v=spf1 a:{MX}/32//128 ~all"']}), set()),
    "SPF in a circle": (zone_with({SPF: ['"v=spf1 include:example.com -all"']}), {"spf"}),
    "no SPF of the name": (zone_with({}, [(f"{MX}.", "TXT")]), {"spf-helo"}),
    "no DMARC": (zone_with({}, [("_dmarc.example.com.", "TXT")]), {"dmarc"}),
    "DMARC without policy": (zone_with({("_dmarc.example.com.", "TXT"): ['"v=DMARC1; rua=mailto:a@example.com"']}),
                             {"dmarc"}),
    "on a blocklist": (zone_with({("5.113.0.203.zen.spamhaus.org.", "A"): ["127.0.0.2"]}), {"dnsbl"}),
    "blocklist refuses the resolver": (zone_with({("5.113.0.203.zen.spamhaus.org.", "A"): ["127.255.255.254"]}), set()),
    "TLSA of another key": (zone_with({TLSA: [f"3 1 1 {NOTHING}"]}), {"tlsa"}),
    "TLSA of the certificate": ("certificate", {"tlsa-renewal"}),
    "TLSA of the key": ("key", set()),
    "TLSA that nobody can use": (zone_with({TLSA: [f"1 1 1 {NOTHING}"]}), {"tlsa"}),
    "two MTA-STS records": (zone_with({("_mta-sts.example.com.", "TXT"): ['"v=STSv1; id=1"', '"v=STSv1; id=2"']}),
                            {"sts"}),
    "MTA-STS without its host": (zone_with({("_mta-sts.example.com.", "TXT"): ['"v=STSv1; id=1"']}), {"sts-host"}),
    "two TLSRPT records": (zone_with({("_smtp._tls.example.com.", "TXT"): ['"v=TLSRPTv1; rua=mailto:a@b.example"',
                                                                            '"v=TLSRPTv1; rua=mailto:c@d.example"']}),
                           {"tlsrpt"}),
    "home is published": (zone_with({("imap.example.com.", "A"): [BACKEND]}), {"home-hidden"}),
    "port 25 is closed by the provider": (zone_with({("mx.gmail.com.", "A"): [BLACK_HOLES[0]]},
                                                    [("outlook.com.", "MX")]), {"out25-4"}),
}


def tlsa(world, what):
    if what == "key":
        octets = subprocess.run(["openssl", "x509", "-in", world.cert, "-noout", "-pubkey"], check=True,
                                capture_output=True).stdout
        octets = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], check=True, capture_output=True,
                                input=octets).stdout
        return f"3 1 1 {hashlib.sha256(octets).hexdigest()}"
    octets = subprocess.run(["openssl", "x509", "-in", world.cert, "-outform", "DER"], check=True,
                            capture_output=True).stdout
    return f"3 0 1 {hashlib.sha256(octets).hexdigest()}"


@scenario("doctor: each fault of the DNS is named, and nothing else")
def zones(world):
    receivers(world)
    world.start()
    failures = []
    for name, (published, expected) in ZONES.items():
        if isinstance(published, str):
            published = zone_with({TLSA: [tlsa(world, published)]})
        world.zone.publish(published)
        found = world.doctor()
        if wrong(found) != expected:
            failures.append(f"{name}: expected {sorted(expected)}, got "
                            f"{[(n, found[n]['seen']) for n in sorted(wrong(found) | expected) if n in found]}")
        for bad in wrong(found):
            assert found[bad]["why"] and (found[bad].get("fix") or bad == "dnsbl-resolver"), found[bad]
    assert not failures, "\n".join(failures)


# Name of the fault -> the settings for Postfix or relay.conf, and all checks that must report it.
HOMES = {
    "the tunnel in mynetworks": ("mynetworks = 127.0.0.0/8, 10.0.0.0/24", {}, {"relay-as-us"}),
    "mynetworks_style = subnet": ("mynetworks = 127.0.0.0/8, 10.0.0.1", {}, {"relay-as-us"}),
    "an open relay at home": ("smtpd_relay_restrictions = check_client_access static:OK, reject", {},
                              {"relay-as-us", "relay-as-client", "relay-tricks"}),
    "XCLIENT not allowed": ("smtpd_authorized_xclient_hosts =", {}, {"introduce4", "introduce6"}),
    "inet_protocols = ipv4": ("inet_protocols = ipv4", {}, {"introduce6"}),
    "a catch-all": ("virtual_mailbox_maps = inline:{ {@example.com = all/} }", {}, {"unknown-rcpt"}),
    "the domain is unknown at home": ("virtual_mailbox_domains = example.org", {}, {"domains-known", "abuse"}),
    "no abuse@": ("virtual_mailbox_maps = inline:{ {a@example.com = a/}, {postmaster@example.com = p/} }", {}, {"abuse"}),
    "small messages only": ("message_size_limit = 1000000", {}, {"size"}),
    "TLS wanted, not offered": ("smtpd_tls_security_level = none", {"backend": 'tls = "encrypt";'}, {"backend-tls"}),
    "no mail server": (None, {}, {"backend-up"}),
    "identity none": ("", {"backend": 'identity = "none";'}, {"identity", "config"}),
    "PROXY to a port that expects none": ("", {"backend": 'identity = "proxy-v2";'},
                                          {"introduce4", "introduce6", "backend-up"}),
}


@scenario("doctor: each fault of the mail server is named, and nothing else")
def homes(world):
    receivers(world)
    failures = []
    for name, (home, conf, expected) in HOMES.items():
        world.start(home, (), **conf)
        found = world.doctor("--only", "backend,config")
        if wrong(found) - {"config"} != expected - {"config"}:
            failures.append(f"{name}: expected {sorted(expected)}, got "
                            f"{[(n, found[n]['seen']) for n in sorted(wrong(found) | expected) if n in found]}")
        if world.home is not None:
            world.home.stop()
            subprocess.run(["rm", "-rf", world.home.dir], check=True)
            world.home = None
    assert not failures, "\n".join(failures)


@scenario("doctor: each fault of the host and its certificate is named, and nothing else")
def host(world):
    receivers(world)
    old, new = world.issue("old", MX, -1), world.issue("soon", MX, 5)
    other = world.issue("other", "other.example")
    own, own_key = world.bed.make_certificate("own")
    open_key = f"{world.bed.dir}/open.key"
    with open(open_key, "w") as file:
        file.write(read(world.key))
    os.chmod(open_key, 0o644)
    os.chmod(own_key, 0o600)
    named = f'tls = {{ certificates = ( {{ cert = "{own}"; key = "{own_key}"; }} ); }};'
    faults = {
        "expired certificate": ({"cert": old[0], "key": old[1]}, {"cert-expiry"}),
        "it expires in five days": ({"cert": new[0], "key": new[1]}, {"cert-expiry"}),
        "another name's certificate": ({"cert": other[0], "key": other[1]}, {"cert-name"}),
        "a certificate of one's own": ({"tls": named}, {"cert-chain", "cert-name"}),
        "no certificate": ({"tls": ""}, {"certificate"}),
        "a key that all can read": ({"key": open_key}, {"secrets"}),
        "EHLO by another name": ({"outer": 'hello = "other.example";'}, {"ehlo-is-ptr", "spf-helo"}),
        "relay-out on a public address": ({"listen": f"{FOUR}:2526"}, {"out-listen", "out-ports"}),  # not restarted
        "no such user": ({"user": "nosuchuser"}, {"user"}),
        "root": ({"user": "root"}, {"user", "spool-owner"}),
        "a blocklist that is none": ({"inner": 'dnsbl = { zones = [ "nolist.example" ]; };'}, {"dnsbl-resolver"}),
        "a blocklist": ({"inner": 'dnsbl = { zones = [ "list.example" ]; };'}, set()),
        "few workers": ({"inner": "", "backend": "max_sessions = 400;"}, {"workers"}),
        "a smarthost that is ourselves": ({"outer": f'default_route = {{ next_hop = [ "{MX}:25" ]; }};'}, {"loop"}),
    }
    world.start()
    failures = []
    for name, (conf, expected) in faults.items():
        world.write_conf(**conf)
        found = world.doctor()
        got = wrong(found) - {"config"}  # relayctl check reports some of these too
        if got != expected:
            failures.append(f"{name}: expected {sorted(expected)}, got "
                            f"{[(n, found[n]['seen']) for n in sorted(got | expected) if n in found]}")
    assert not failures, "\n".join(failures)


@scenario("doctor: turned away by a receiver; a daemon that is away, another one in its place")
def away(world):
    world.remote(HOSTS["plain"], Turnaway)
    world.remote(HOSTS["valid"], Turnaway)
    world.remote(HOSTS["six"])
    world.start(daemons=("relay-out",))
    found = world.doctor()
    assert wrong(found) == {"receivers", "in-ports", "banner", "starttls"}, found
    assert "not welcome" in found["receivers"]["seen"] and "nothing listens" in found["in-ports"]["seen"]


@scenario("doctor: --only, --quiet, --list, --changes")
def options(world):
    receivers(world)
    world.start(daemons=())
    assert set(world.doctor("--only", "ptr4,spf")) == {"ptr4", "spf"}
    assert set(world.doctor("--only", "ptr4", "--quiet")) == set()
    state = f"{world.bed.dir}/doctor.state"
    changes = ("--only", "ptr4,ptr6", "--changes", "--state", state)
    assert set(world.doctor(*changes)) == set()
    world.zone.publish(zone_with({}, [PTR4]))
    assert {n: r["outcome"] for n, r in world.doctor(*changes).items()} == {"ptr4": "failed"}
    assert set(world.doctor(*changes)) == set()
    news = f"{world.bed.dir}/news"
    tell = ("--notify", f"cat >> {news}; echo told >> {news}")
    assert not world.doctor(*changes, *tell) and not os.path.exists(news)
    world.zone.publish(records())
    assert not world.doctor("--only", "ptr4", "--changes", "--state", f"{state}.other", *tell)
    assert not os.path.exists(news)
    assert {n: r["outcome"] for n, r in world.doctor(*changes).items()} == {"ptr4": "ok"}
    world.zone.publish(zone_with({}, [PTR4]))
    assert not world.doctor(*changes, *tell)
    assert '"ptr4"' in read(news) and read(news).endswith("told\n")
    plain = [*world.vps.enter, f"{BUILD}/relayctl", "doctor", "-c", world.conf]
    text = subprocess.run([*plain, "--only", "nothing"], capture_output=True, text=True, timeout=20)
    assert text.returncode == 64 and "--list" in text.stderr
    text = subprocess.run([*plain, "--list"], capture_output=True, text=True, timeout=20)
    assert text.returncode == 0 and len(text.stdout.splitlines()) >= 60
    names = [line.split()[0] for line in text.stdout.splitlines()]
    assert len(names) == len(set(names)), "two checks have one name"


@scenario("doctor: a host with IPv6 only is told what that means, and nothing about the IPv4 address it does not have")
def ipv6_only(world):
    def look(outer, route="ip -6 route add default dev lo"):
        world.write_conf(outer=outer)
        alone = ["unshare", "--net", "sh", "-c", f"""
            ip link set lo up && ip address add 2001:db8:5::10/128 dev lo nodad && {route}
            exec {BUILD}/relayctl doctor -c {world.conf} --json --only ptr4,fcrdns4,route4,route6,out25-4"""]
        done = subprocess.run(alone, capture_output=True, text=True, timeout=60, env=dict(os.environ, LC_ALL="C"))
        return {row["id"]: row["outcome"] for row in map(json.loads, done.stdout.splitlines())}
    assert look("") == {"route4": "warning", "route6": "ok"}
    assert look('family = "ipv6-only";') == {"route6": "ok"}
    assert look("", "true")["route4"] == "failed"


@scenario("doctor: from home, port 2526 closed and open, the relay's greeting")
def from_home(world):
    world.start()
    world.zone.publish(zone_with({}))
    home = ["unshare", "--mount", "sh", "-c", f"""
        echo nameserver {DNS} > {world.bed.dir}/resolv.conf
        mount --bind {world.bed.dir}/resolv.conf /etc/resolv.conf
        exec {BUILD}/relayctl doctor --home {MX} --json"""]

    def look():
        done = subprocess.run(home, capture_output=True, text=True, timeout=60)
        return {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
    found = look()
    assert found["home-25-4"]["outcome"] == found["home-25-6"]["outcome"] == "ok", found
    assert found["home-2526"]["outcome"] == "ok", found
    world.daemons.pop().stop()
    world.write_conf(listen=f"{FOUR}:2526", outer='', inner="")
    world.daemons.append(Daemon(world, "relay-out"))
    assert look()["home-2526"]["outcome"] == "failed"


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
