"""A small internet for relay-out: a signed DNS and mail servers of all kinds.

The DNS is one root zone, signed by Knot for each run, and two deliberately broken zones below it. Postfix
plays most of the mail servers. Exim and OpenSMTPD, which cannot be installed next to it, are unpacked and
laid over /usr in the tests' mount namespace.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import subprocess
import time

from bed import Postfix, read, wait_for
from fakes import HangUp, MailServer
from servers import Exim, Knot, OpenSMTPD

DNS = "203.0.113.53"
HOSTS = {"plain": "198.51.100.21", "valid": "198.51.100.22", "self": "198.51.100.23",
         "expired": "198.51.100.24", "wrong": "198.51.100.25", "broken": "198.51.100.26",
         "tarpit": "198.51.100.27", "six": "2001:db8:1::28", "dead": "198.51.100.29",
         "exim": "198.51.100.31", "opensmtpd": "198.51.100.32", "strict": "198.51.100.33",
         "first": "198.51.100.41", "second": "198.51.100.42"}
BLACK_HOLES = ["198.51.101.30", "198.51.101.31", "198.51.101.32"]  # packets to them vanish

ZONE = """$TTL 60
@ SOA ns. hostmaster. 1 3600 600 86400 60
@ NS ns.
ns. A {dns}
bogus. NS ns.
bogus. DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000000
bad. NS ns.
{hosts}
hole-host.test. A {holes[0]}
hole2-host.test. A {holes[1]}
hole3-host.test. A {holes[2]}
holes.test. MX 10 hole-host.test.
holes.test. MX 20 hole2-host.test.
holes.test. MX 30 hole3-host.test.
holes.test. MX 40 mx-plain.test.
dead.test. MX 10 mx-dead.test.
dead.test. MX 20 mx-plain.test.
hole.test. MX 10 hole-host.test.
hole.test. MX 20 mx-plain.test.
onlydead.test. MX 10 mx-dead.test.
stranger.test. MX 10 mx-tarpit.test.
stranger.test. MX 20 hole-host.test.
implicit.test. A {plain}
null.test. MX 0 .
cname.test. CNAME plain.test.
equal.test. MX 10 mx-plain.test.
equal.test. MX 10 mx-valid.test.
loop.test. MX 10 relay.example.
loop.test. MX 20 mx-plain.test.
backup.test. MX 10 mx-plain.test.
backup.test. MX 20 relay.example.
ownaddress.test. MX 10 self-host.test.
self-host.test. A 203.0.113.5
natted.test. MX 10 natted-host.test.
natted-host.test. A 203.0.113.6
relay.example. A 203.0.113.5
private.test. MX 10 private-host.test.
private-host.test. A 10.1.2.3
nohost.test. MX 10 missing.test.
xn--bcher-kva.test. MX 10 mx-plain.test.
exists.test. TXT "neither MX nor address"
"""


class Vps:
    """The namespace in which relay-out runs. The relay's addresses are there and not here, so that the mail
    servers around it are other hosts. `enter` goes before a command."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") !=
                 os.readlink("/proc/self/ns/net"))
        self.enter = ["nsenter", "-t", str(self.process.pid), "-n", "--"]
        for address in (DNS, *HOSTS.values()):
            self.here(f"address add {self.host(address)} dev lo" + " nodad" * (":" in address))
        for address in ("10.0.0.1", "203.0.113.5", "2001:db8::1"):
            self.here(f"address del {self.host(address)} dev lo")
        self.here(f"link add tovps type veth peer name tonet netns {self.process.pid}")
        self.here("address add fe80::1/64 dev tovps nodad")
        self.here("link set tovps up")
        self.there("link set lo up")
        self.there("link set tonet up")
        for address in ("203.0.113.5", "10.0.0.1", "2001:db8::1"):
            self.there(f"address add {self.host(address)} dev tonet" + " nodad" * (":" in address))
        self.there("route add default dev tonet src 203.0.113.5")
        self.there("route add 10.0.0.2 dev tonet src 10.0.0.1")
        wait_for("IPv6", lambda: "tentative" not in self.here("-6 address show dev tovps"))
        self.there("-6 route add default via fe80::1 dev tonet")
        self.here("route add 10.0.0.1 dev tovps src 198.51.100.7")
        self.here("route add 203.0.113.5 dev tovps src 198.51.100.7")
        self.here("-6 route add 2001:db8::1 dev tovps")
        # Packets to a neighbour that does not exist vanish.
        for hole in BLACK_HOLES:
            self.there(f"neigh add {hole} lladdr 02:00:00:00:00:01 dev tonet")

    @staticmethod
    def host(address):
        return address + ("/128" if ":" in address else "/32")

    def here(self, command):
        return subprocess.run(["ip", *command.split()], check=True, capture_output=True,
                              text=True).stdout

    def there(self, command):
        subprocess.run([*self.enter, "ip", *command.split()], check=True, capture_output=True)

    def stop(self):
        self.process.kill()
        self.process.wait(10)


class Names(Knot):
    """The zones above."""

    def __init__(self, bed):
        hosts = "\n".join(f"{n}.test. MX 10 mx-{n}.test.\nmx-{n}.test. "
                          f"{'AAAA' if ':' in a else 'A'} {a}" for n, a in HOSTS.items()
                          if n not in ("dead",))
        hosts += f"\nmx-dead.test. A {HOSTS['dead']}"
        files = {"root": ZONE.format(dns=DNS, hosts=hosts, holes=BLACK_HOLES, plain=HOSTS["plain"]),
                 "bogus": "$ORIGIN bogus.\n$TTL 60\n@ SOA ns. h. 1 3600 600 86400 60\n@ NS ns.\n@ MX 10 mx-plain.test.\n"}
        super().__init__(bed, DNS, files, """  - domain: .
    file: root.zone
    dnssec-signing: on
    dnssec-policy: plain
  - domain: bogus.
    file: bogus.zone
  - domain: bad.
    file: missing.zone
""")


def sign(request, cert, extensions, days, key, issuer=None):
    """Signs with `key`, as `issuer` or self-signed. Valid for that many days, or expired that many days ago if
    negative. (Among openssl's commands only "ca" accepts such dates in all versions.)"""
    conf = f"{cert}.conf"
    with open(conf, "w") as out:
        out.write(f"[ca]\ndefault_ca = own\n[own]\ndatabase = {conf}.index\nrand_serial = yes\n"
                  f"new_certs_dir = {os.path.dirname(cert)}\ndefault_md = sha256\nunique_subject = no\npolicy = any\n"
                  "[any]\ncommonName = supplied\n")
    with open(f"{conf}.index", "w"):
        pass
    start, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 86400 * d)) for d in (min(0, days) - 1, days))
    subprocess.run(["openssl", "ca", "-batch", "-config", conf, "-in", request, *(["-cert", issuer] if issuer else ["-selfsign"]),
                    "-keyfile", key, "-startdate", start, "-enddate", end, "-extfile", extensions, "-notext", "-out", cert],
                   check=True, capture_output=True)


class Authority:
    """A CA of our own, and certificates from it."""

    def __init__(self, bed):
        self.dir = bed.dir
        self.cert, self.key = f"{bed.dir}/ca.crt", f"{bed.dir}/ca.key"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-days", "30", "-subj", "/CN=Test CA", "-keyout", self.key, "-out",
                     self.cert, "-addext", "basicConstraints=critical,CA:TRUE",
                     "-addext", "keyUsage=critical,keyCertSign")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def issue(self, file, name, days=30):
        cert, key, request = (f"{self.dir}/{file}.{end}" for end in ("crt", "key", "csr"))
        extensions = f"{self.dir}/{file}.ext"
        with open(extensions, "w") as out:
            out.write(f"subjectAltName=DNS:{name}\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        sign(request, cert, extensions, days, self.key, self.cert)
        os.chmod(key, 0o644)
        return cert, key


DOMAINS = [*HOSTS, "implicit", "cname", "equal", "backup", "hole", "holes", "xn--bcher-kva", "bücher", "onlydead"]


class Receivers(Postfix):
    """One Postfix that plays most of the mail servers: one service each, with its own address and TLS. Mail for
    x@DOMAIN is in the mailbox DOMAIN; no@... is unknown, later@... greylisted, and a message with the word SPAM
    is refused at its end."""

    def __init__(self, bed, authority):
        issued = {"valid": authority.issue("valid", "mx-valid.test"),
                  "self": bed.make_certificate("self"),
                  "expired": authority.issue("expired", "mx-expired.test", -1),
                  "wrong": authority.issue("wrong", "other.test"),
                  "six": authority.issue("six", "mx-six.test")}
        services = f"{HOSTS['plain']}:25 inet n - n - - smtpd -o smtpd_tls_security_level=none\n"
        for name, (cert, key) in issued.items():
            address = f"[{HOSTS[name]}]" if ":" in HOSTS[name] else HOSTS[name]
            services += (f"{address}:25 inet n - n - - smtpd -o smtpd_tls_cert_file={cert}"
                         f" -o smtpd_tls_key_file={key} -o myhostname=mx-{name}.test\n")
        super().__init__(bed, "receivers", "127.0.0.1:2525", f"""
virtual_mailbox_domains = regexp:{{ {{/\\.test$$/ x}} }}
virtual_mailbox_maps = inline:{{ {" ".join(f"{{ @{d}.test = {d}.test/ }}" for d in DOMAINS)} }}
inet_interfaces = 127.0.0.1, {", ".join(a for a in HOSTS.values())}
smtpd_recipient_restrictions = check_recipient_access regexp:{{
  {{/^no@/ 550 5.1.1 No such user here}} {{/^later@/ 450 4.2.0 Greylisted, come again}} }}
smtpd_relay_restrictions = reject_unauth_destination
header_checks = regexp:{{ {{/^Subject:.*SPAM/ REJECT smells of spam}} }}
smtpd_tls_received_header = yes
smtpd_tls_ask_ccert = yes
smtpd_tls_loglevel = 1
""", services)


    def clear(self):
        # Mail still on its way would turn up in the next scenario.
        def is_empty():
            listed = subprocess.run(["postqueue", "-c", self.config, "-j"], capture_output=True, text=True)
            return listed.returncode == 0 and not listed.stdout.strip()

        wait_for("an empty queue", is_empty)
        super().clear()


class Remote(MailServer):
    """A mail server that does one thing wrong: `manner` is "tls-garbage", "tls-closes", "tls-silent",
    "later:S" for a greeting after S seconds, or "never:S" for a refusal after S seconds."""

    def __init__(self, address, manner):
        self.manner = manner
        super().__init__(address)

    def offers(self, talk):
        return ["STARTTLS"] if self.manner.startswith("tls") else []

    def reply(self, talk, step, line):
        if step == "banner" and self.manner[:6] in ("later:", "never:"):
            if self.ended.wait(float(self.manner[6:])):
                raise HangUp
            if self.manner.startswith("never:"):
                talk.say("421 4.3.2 later")
                raise HangUp
        if step == "starttls":
            talk.say("220 go")
            if self.manner == "tls-silent":
                self.ended.wait(60)
            if self.manner == "tls-garbage":
                talk.say("this is no TLS\r\n" * 10)
            raise HangUp
        return super().reply(talk, step, line)


class EximHosts(Exim):
    """Accepts everything for its domains into a folder. The host "strict" requires a client certificate under
    TLS, and accepts mail without TLS from everybody. A client that logs in as "me" with a password in `passwords`
    may send anywhere; the log has the last mechanism used."""

    passwords = ("short", "p" * 500)

    def __init__(self, bed, cert, key):
        self.mail = f"{bed.dir}/exim-mail"
        os.mkdir(self.mail)
        os.chmod(self.mail, 0o777)
        super().__init__(bed, (HOSTS["exim"], HOSTS["strict"]), (25, 587, 465), f"""primary_hostname = mx-exim.test
tls_advertise_hosts = *
tls_on_connect_ports = 465
tls_certificate = {cert}
tls_privatekey = {key}
tls_verify_hosts = ${{if eq{{$received_ip_address}}{{{HOSTS['strict']}}}{{*}}}}
tls_verify_certificates = {bed.dir}/ca.crt
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
data:
  deny condition = ${{if match{{$h_subject:}}{{SPAM for all}}}}
  accept
rcpt:
  deny local_parts = no
  accept domains = exim.test : strict.test
  accept authenticated = *
  deny
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${{if !eq{{$received_port}}{{25}}}}
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{me}}}}{{inlist{{$auth3}}{{{" : ".join(self.passwords)}}}}}}}}}
  server_set_id = $auth2
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  directory = {self.mail}
  user = nobody
""")
    def mails(self):
        # With a configuration other than its own, only root may deliver.
        subprocess.run(["/usr/sbin/exim4", "-C", self.conf, "-q"], timeout=20, capture_output=True)
        return [read(f"{self.mail}/{name}") for name in sorted(os.listdir(self.mail))]

class OpenSMTPDHost(OpenSMTPD):
    """The same, without TLS: Debian 12's does not work with its OpenSSL."""

    def __init__(self, bed):
        self.mail = f"{bed.dir}/opensmtpd-mail"
        os.mkdir(self.mail)
        os.chmod(self.mail, 0o777)
        super().__init__(bed, HOSTS["opensmtpd"], 25, "hostname mx-opensmtpd.test", f"""
table people {{ "@opensmtpd.test" = "nobody" }}
action "file" maildir "{self.mail}" virtual <people>
match from any for rcpt-to "no@opensmtpd.test" reject
match from any for domain "opensmtpd.test" action "file"
""")

    def mails(self):
        folder = f"{self.mail}/new"
        return [read(f"{folder}/{n}") for n in sorted(os.listdir(folder))] if os.path.isdir(folder) else []
