"""relay-out and domains that publish their TLS policy: DANE and MTA-STS. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import os
import pwd
import re
import subprocess
import sys
import threading
import time

import tap
from bed import BUILD, Postfix, read, wait_for
from internet import Vps
from outbound import RelayOut, open_session, samples, send
from published import KNOT, Certificates, Front, PolicyHost, Receiver, Unbound, Zones, run

tap.scenarios.clear()  # those of outbound.py run in another program
from tap import scenario  # noqa: E402

# Hosts with DANE. For each: the TLSA records of its MX host mx-NAME.zz, separated by "; ", with the certificate
# that they come from; the chain that the host presents; and the expected result for mail:
#   verified   delivered under TLS to a proven host
#   trusted    the same, but nothing proves that it is the domain's host
#   untrusted  delivered under TLS to an unproven host
#   plain      delivered without TLS
#   deferred   not delivered
# "leaf" is a certificate of the MX host, below "inter", below "root"; see cert() for the others.
CHAIN = "leaf inter"
HOSTS = {
    # Each kind of record.
    **{f"ee{s}{m}": (f"3 {s} {m} leaf", CHAIN, "verified") for s in "01" for m in "012"},
    **{f"ee{s}{m}-wrong": (f"3 {s} {m} ~leaf", CHAIN, "deferred") for s in "01" for m in "12"},
    **{f"ta{s}{m}": (f"2 {s} {m} inter", CHAIN, "verified") for s in "01" for m in "012"},
    **{f"ta{s}{m}-wrong": (f"2 {s} {m} ~inter", CHAIN, "deferred") for s in "01" for m in "12"},
    # End entities: nothing else counts.
    "ee-self": ("3 1 1 self", "self", "verified"),
    "ee-expired": ("3 1 1 expired", "expired inter", "verified"),
    "ee-name": ("3 1 1 other", "other inter", "verified"),
    "ee-rsa": ("3 1 1 rsa", "rsa", "verified"),
    "ee-of-ca": ("3 1 1 inter", CHAIN, "deferred"),
    "ee-nameless": ("3 1 1 nameless", "nameless inter", "verified"),
    # Anchors: a real chain, and the name.
    "ta-root": ("2 1 1 root", "leaf inter root", "verified"),
    "ta-root-unsent": ("2 1 1 root", CHAIN, "deferred"),
    "ta-root-given": ("2 0 0 root", CHAIN, "verified"),
    "ta-name": ("2 1 1 inter", "other inter", "deferred"),
    "ta-expired": ("2 1 1 inter", "expired inter", "deferred"),
    "ta-leaf": ("2 1 1 leaf", CHAIN, "deferred"),
    "ta-self": ("2 1 1 self", "self", "deferred"),
    "ta-appended": ("2 1 1 root", "evil-leaf evil root", "deferred"),
    "ta-appended-0": ("2 0 1 root", "evil-leaf evil root", "deferred"),
    "ta-wild-top": ("2 1 1 inter", "wild inter", "deferred"),
    "ta-domain": ("2 1 1 inter", "domain inter", "verified"),
    "ta-other-ca": ("2 1 1 evil", CHAIN, "deferred"),
    # Chains out of order, with certificates that do not belong to them, or twice.
    "ta-order": ("2 1 1 root", "leaf root inter", "verified"),
    "ta-order-given": ("2 0 0 root", "leaf evil inter", "verified"),
    "ta-extra": ("2 1 1 inter", "leaf evil inter", "verified"),
    "ta-twice": ("2 1 1 inter", "leaf leaf inter inter", "verified"),
    "ta-key-given": ("2 1 0 root", CHAIN, "verified"),
    "ta-key-order": ("2 1 0 root", "leaf inter evil", "verified"),
    "ta-key-leaf": ("2 1 0 inter", "leaf", "verified"),
    "ta-key-leaf-extra": ("2 1 0 inter", "leaf evil", "verified"),
    "ta-cert-leaf": ("2 0 0 inter", "leaf", "verified"),
    "ta-cert-extra": ("2 0 0 inter", "leaf evil root", "verified"),
    # Several records: one is enough.
    "several": ("3 1 1 ~leaf; 3 1 1 leaf; 2 1 1 evil", CHAIN, "verified"),
    "roll-over": ("3 1 1 self; 3 1 1 leaf", CHAIN, "verified"),
    "ta-or-ee": ("3 1 1 self; 2 1 1 inter", CHAIN, "verified"),
    "none-of-two": ("3 1 1 self; 2 1 1 evil", CHAIN, "deferred"),
    "with-unusable": ("1 1 1 leaf; 3 1 1 leaf", CHAIN, "verified"),
    "with-unusable-wrong": ("1 1 1 leaf; 3 1 1 ~leaf", CHAIN, "deferred"),
    "agility": ("3 1 1 leaf; 3 1 2 ~leaf", CHAIN, "deferred"),
    "agility-right": ("3 1 1 ~leaf; 3 1 2 leaf", CHAIN, "verified"),
    # Nothing usable: TLS with any host.
    "pkix": ("1 1 1 leaf; 0 0 1 inter", CHAIN, "untrusted"),
    "pkix-wrong": ("1 1 1 ~leaf", CHAIN, "untrusted"),
    "usage-4": ("4 1 1 leaf", CHAIN, "untrusted"),
    "usage-255": ("255 1 1 leaf", CHAIN, "untrusted"),
    "selector-2": ("3 2 1 leaf", CHAIN, "untrusted"),
    "type-3": ("3 1 3 leaf", CHAIN, "untrusted"),
    "pkix-no-tls": ("1 1 1 leaf", None, "deferred"),
    # No records.
    "none": ("", CHAIN, "untrusted"),
    "none-no-tls": ("", None, "plain"),
    # TLS is not available.
    "stripped": ("3 1 1 leaf", None, "deferred"),
    "refusing": ("3 1 1 leaf", CHAIN, "deferred", "refuse"),
    "old": ("3 1 1 leaf", CHAIN, "deferred", "old"),
    # Names that lead elsewhere; see more_records().
    "implicit": None,
    "ta-wild": None,
    "alias-target": None,
    "alias-alias": None,
    "alias-both": None,
    "alias-out": None,
    "alias-out-right": None,
    "tlsa-cname": None,
    "tlsa-cname-out": None,
    "two-mx": None,
    "second-free": None,
    "second-answers": None,
    "first-missing": None,
    "host-bogus": None,
    "no-aaaa": None,
    # Name servers that fail; see RULES.
    "servfail": ("3 1 1 leaf", CHAIN, "deferred"),
    "refused": ("3 1 1 leaf", CHAIN, "deferred"),
    "silent": ("3 1 1 leaf", CHAIN, "deferred"),
    "truncated": ("3 1 1 leaf", CHAIN, "verified"),
    "truncated-wrong": ("3 1 1 ~leaf", CHAIN, "deferred"),
    "aaaa-servfail": ("3 1 1 leaf", CHAIN, "verified"),
}


def policy(mx, mode="enforce", age=86400):
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {m}" for m in mx.split()), f"max_age: {age}"]
    return "\r\n".join(lines) + "\r\n"


def drip(tls):
    """A web server that sends one letter per second."""
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60\r\n\r\n")
    for letter in policy("*.zz"):
        tls.sendall(letter.encode())
        time.sleep(1)


def chunked(text):
    return (f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
            f"{len(text):x}\r\n{text}\r\n0\r\n\r\n").encode()


# Domains with MTA-STS: what their web server sends, the chain that their MX host mx-NAME.zz presents, and the
# expected result for mail. The policy of "{h}" names that host.
PAGE = PolicyHost.page
STS = {
    "sts-ok": (policy("{h}"), CHAIN, "verified"),
    "sts-wild": (policy("*.zz"), CHAIN, "verified"),
    "sts-chunked": (chunked(policy("*.zz")), CHAIN, "verified"),
    "sts-other-host": (policy("other.zz"), CHAIN, "deferred"),
    "sts-deeper": (policy("*.{h}"), CHAIN, "deferred"),
    "sts-self": (policy("{h}"), "self", "deferred"),
    "sts-expired": (policy("{h}"), "expired inter", "deferred"),
    "sts-name": (policy("{h}"), "other inter", "deferred"),
    "sts-stripped": (policy("{h}"), None, "deferred"),
    "sts-testing": (policy("{h}", "testing"), "self", "untrusted"),
    "sts-testing-host": (policy("other.zz", "testing"), CHAIN, "untrusted"),
    "sts-testing-plain": (policy("{h}", "testing"), None, "plain"),
    "sts-none": (policy("other.zz", "none"), "self", "untrusted"),
    "sts-no-mx": (policy(""), "self", "untrusted"),
    "sts-html": (PAGE(policy("other.zz"), "text/html"), "self", "untrusted"),
    "sts-404": (PAGE(policy("other.zz"), status="404 Not Found"), "self", "untrusted"),
    "sts-redirect": (PAGE("", status="301 Moved", more="Location: https://mta-sts.sts-ok.zz/.well-known/mta-sts.txt\r\n"),
                     "self", "untrusted"),
    "sts-long": (PAGE(policy("other.zz") + "x: " + "y" * 65536 + "\r\n"), "self", "untrusted"),
    "sts-web-self": (policy("other.zz"), "self", "untrusted"),
    "sts-web-name": (policy("other.zz"), "self", "untrusted"),
    "sts-private": (policy("other.zz"), "self", "untrusted"),
    "sts-two-records": (policy("other.zz"), "self", "untrusted"),
    "sts-txt-fails": (policy("other.zz"), "self", "untrusted"),
    "sts-drip": (drip, "self", "untrusted"),
    "sts-dane": (policy("other.zz"), CHAIN, "verified"),
    "sts-dane-wrong": (policy("{h}"), CHAIN, "deferred"),
}

RULES = {("mx-servfail", "TLSA"): "servfail", ("mx-refused", "TLSA"): "refused",
         ("mx-silent", "TLSA"): "silent", ("mx-truncated", "TLSA"): "truncated", ("mx-aaaa-servfail", "AAAA"): "servfail",
         ("mx-unsigned-servfail", "TLSA"): "servfail", ("_mta-sts.sts-txt-fails", "TXT"): "servfail"}


def cert(certificates, word, host, domain):
    """The certificate for a word in the table."""
    make = certificates.leaf
    return {"leaf": lambda: make(host), "self": lambda: make(host, None), "expired": lambda: make(host, days=-1),
            "other": lambda: make("other.zz"), "evil-leaf": lambda: make(host, "evil"),
            "wild": lambda: make(host, host="*.zz"), "below": lambda: make(host, host=f"*.{host}"), "domain": lambda: make(host, host=domain),
            "nameless": lambda: make(host, host="-"), "rsa": lambda: make(host + "-rsa", None, key=("rsa:2048",)),
            }.get(word, lambda: word)()


class Internet:
    """All the domains above, each with its own mail server."""

    def __init__(self, bed):
        self.certificates = Certificates(bed.dir)
        with open(f"{bed.dir}/ca.crt", "w") as file:
            file.write(read(self.certificates.ca))
        self.knot = self.front = None
        self.servers, self.expected, self.sts, self.count = {}, {}, {}, 0
        self.records, self.ins = "", ""
        for name, row in HOSTS.items():
            if row is not None:
                self.add(name, *row)
        self.more_records()
        self.web = PolicyHost(self.address(), self.certificates)
        self.web_address = f"198.51.102.{self.count}"
        self.ins += f"_mta-sts.require-sts TXT \"v=STSv1; id=1;\"\nmta-sts.require-sts A {self.web_address}\n"
        self.web.set("mta-sts.require-sts.ins", policy("mx-require-sts.zz"))
        for name, row in STS.items():
            self.add_sts(name, *row)
        bogus = f"@ MX 10 mx-ee11.zz.\nhost A {self.web_address}\n"
        # Two domains with the same host; the policy of one does not name it.
        self.add_sts("shared", policy("other.zz"), CHAIN, "deferred")
        self.records += "sharing.zz. MX 10 mx-shared.zz.\n"
        self.sts["sharing.zz"] = "untrusted"
        self.front = Front(dict(RULES))
        self.knot = Zones(bed, self.records, self.ins, bogus, "@ MX 10 mx-ee11.zz.\n")

    def address(self):
        self.count += 1
        address = f"198.51.102.{self.count}"
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
        return address

    def tlsa(self, records, host, domain):
        for text in filter(None, records.split("; ")):
            usage, selector, kind, word = text.split()
            wrong = "~" * word.startswith("~")
            file = cert(self.certificates, word.lstrip("~"), host, domain)
            yield self.certificates.tlsa(f"{usage} {selector} {kind} {wrong}{file}")

    def chain(self, text, host, domain):
        if text is None:
            return None
        return self.certificates.chain(*(cert(self.certificates, w, host, domain) for w in text.split()))

    def serve(self, name, chain=CHAIN, host=None, domain=None, manner="", port=25):
        """Starts a mail server and returns its address."""
        host, domain = host or f"mx-{name}.zz", domain or f"{name}.zz"
        address = self.address()
        self.servers[name] = Receiver(address, self.chain(chain, host, domain), manner, port)
        return address

    def add(self, name, records, chain, expected, manner=""):
        """A domain with one MX host."""
        host = f"mx-{name}.zz"
        address = self.serve(name, chain, manner=manner)
        self.expected[f"{name}.zz"] = expected
        self.records += f"{name}.zz. MX 10 {host}.\n{host}. A {address}\n"
        self.records += self.tlsa_records(f"_25._tcp.{host}.", records, host)

    def sts_records(self, name, identity="1", web=None):
        return (f"_mta-sts.{name}.zz. 0 TXT \"v=STSv1; id={identity};\"\n"
                f"mta-sts.{name}.zz. 0 A {web or self.web_address}\n")

    def add_sts(self, name, answer, chain, expected):
        host, web = f"mx-{name}.zz", f"mta-sts.{name}.zz"
        dane = {"sts-dane": "3 1 1 leaf", "sts-dane-wrong": "3 1 1 ~leaf"}.get(name, "")
        self.add(name, dane, chain, expected)
        del self.expected[f"{name}.zz"]
        self.sts[f"{name}.zz"] = expected
        self.records += self.sts_records(name, web="10.0.0.9" if name == "sts-private" else None)
        if name == "sts-two-records":
            self.records += f"_mta-sts.{name}.zz. 0 TXT \"v=STSv1; id=2;\"\n"
        leaf = self.certificates.leaf
        chain = {"sts-web-self": (leaf(web, None),), "sts-web-name": (leaf("other.zz"), "inter")}.get(name, ())
        self.web.set(web, answer.replace("{h}", host) if isinstance(answer, str) else answer, *chain)

    def tlsa_records(self, owner, records, host, domain=""):
        return "".join(f"{owner} TLSA {data}\n" for data in self.tlsa(records, host, domain or host))

    def more_records(self):
        """Domains whose names lead elsewhere."""
        def domain(name, expected, text, **more):
            address = self.serve(name, **more)
            self.expected[f"{name}.zz" if "." not in name else name] = expected
            return text.format(n=name, a=address)

        def tlsa(owner, records, host):
            return self.tlsa_records(f"_25._tcp.{owner}.", records, host)
        add = domain
        self.records += add("implicit", "verified", "implicit.zz. A {a}\n", host="implicit.zz") + \
            tlsa("implicit.zz", "3 1 1 leaf", "implicit.zz")
        self.records += add("ta-wild", "verified", "{n}.zz. MX 10 a.{n}.zz.\na.{n}.zz. A {a}\n",
                            chain="below inter", host="ta-wild.zz") + tlsa("a.ta-wild.zz", "2 1 1 inter", "")
        alias = "{n}.zz. MX 10 mx-{n}.zz.\nmx-{n}.zz. CNAME to-{n}.zz.\nto-{n}.zz. A {a}\n"
        self.records += add("alias-target", "verified", alias) + \
            tlsa("to-alias-target.zz", "3 1 1 leaf", "mx-alias-target.zz")
        self.records += add("alias-alias", "verified", alias) + \
            tlsa("mx-alias-alias.zz", "3 1 1 leaf", "mx-alias-alias.zz")
        self.records += add("alias-both", "deferred", alias) + \
            tlsa("mx-alias-both.zz", "3 1 1 leaf", "mx-alias-both.zz") + \
            tlsa("to-alias-both.zz", "3 1 1 ~leaf", "mx-alias-both.zz")
        for name, records, expected in (("alias-out", "3 1 1 ~leaf", "deferred"),
                                        ("alias-out-right", "3 1 1 leaf", "verified")):
            self.ins += add(name, expected, "to-{n} A {a}\n")
            self.records += f"{name}.zz. MX 10 mx-{name}.zz.\nmx-{name}.zz. CNAME to-{name}.ins.\n" + \
                tlsa(f"mx-{name}.zz", records, f"mx-{name}.zz")
        host = "{n}.zz. MX 10 mx-{n}.zz.\nmx-{n}.zz. A {a}\n"
        self.records += add("tlsa-cname", "verified", host) + \
            "_25._tcp.mx-tlsa-cname.zz. CNAME tlsa.tlsa-cname.zz.\n" + \
            self.tlsa_records("tlsa.tlsa-cname.zz.", "3 1 1 leaf", "mx-tlsa-cname.zz")
        self.records += add("tlsa-cname-out", "untrusted", host) + \
            "_25._tcp.mx-tlsa-cname-out.zz. CNAME tlsa.ins.\n"
        self.ins += self.tlsa_records("tlsa", "3 1 1 ~leaf", "mx-tlsa-cname-out.zz")
        # Only the second of two MX hosts is right.
        self.records += add("two-mx", "verified", "two-mx.zz. MX 10 mx-ee11-wrong.zz.\ntwo-mx.zz. MX 20 mx-two-mx.zz.\n"
                            "mx-two-mx.zz. A {a}\n") + tlsa("mx-two-mx.zz", "3 1 1 leaf", "mx-two-mx.zz")
        for name, first in (("second-free", "mx-ee11-wrong.zz"), ("second-answers", "mx-servfail.zz"),
                            ("first-missing", "missing.zz")):
            tls = "untrusted" if name == "second-free" else "verified"
            self.records += add(name, tls, f"{name}.zz. MX 10 {first}\n".replace("zz\n", "zz.\n") +
                                "{n}.zz. MX 20 mx-{n}.zz.\nmx-{n}.zz. A {a}\n")
            if name != "second-free":
                self.records += tlsa(f"mx-{name}.zz", "3 1 1 leaf", f"mx-{name}.zz")
        self.records += "host-bogus.zz. MX 10 host.bogus.\n"
        self.expected["host-bogus.zz"] = "deferred"
        self.records += add("no-aaaa", "verified", host) + tlsa("mx-no-aaaa.zz", "3 1 1 leaf", "mx-no-aaaa.zz")
        for name, records, chain in (("require-dane", "3 1 1 leaf", CHAIN), ("require-pki", "", CHAIN),
                                     ("require-self", "", "self")):
            self.add(name, records, chain, "", manner="requiretls")
            del self.expected[f"{name}.zz"]
        # The first of two MX hosts does not offer REQUIRETLS, or may do so once its records are right.
        for name, first, second in (("require-two", "ee11", "require-dane"), ("require-later", "ee11-wrong", "ee11")):
            self.records += f"{name}.zz. MX 10 mx-{first}.zz.\n{name}.zz. MX 20 mx-{second}.zz.\n"
        address = self.serve("require-sts", manner="requiretls")
        self.ins += "require-sts MX 10 mx-require-sts.zz.\n"
        self.records += f"mx-require-sts.zz. A {address}\n"
        # Unsigned domains.
        self.ins += "d MX 10 mx-ee11.zz.\nwrong MX 10 mx-ee11-wrong.zz.\n"
        self.expected |= {"d.ins": "trusted", "wrong.ins": "deferred"}
        self.ins += add("unsigned-servfail", "untrusted", "{n} MX 10 mx-{n}\nmx-{n} A {a}\n",
                        host="mx-unsigned-servfail.ins")
        self.ins += add("neither", "plain", "{n} MX 10 mx-{n}\nmx-{n} A {a}\n", chain=None)
        del self.expected["unsigned-servfail.zz"], self.expected["neither.zz"]
        self.expected |= {"unsigned-servfail.ins": "untrusted", "bogus": "deferred", "opt": "verified",
                          "child.opt": "untrusted"}
        self.servers["child.opt"] = self.servers["ee11"]

    def stop(self):
        for server in {id(s): s for s in self.servers.values()}.values():
            server.close()
        self.front.close()
        self.web.close()
        if self.knot is not None:
            self.knot.stop()


class World(tap.World):
    def __init__(self, _):
        self.parts = [Vps()]
        run("ip", "address", "add", f"{KNOT}/32", "dev", "lo")
        super().__init__(False)
        try:
            self.parts.append(Internet(self.bed))
            self.parts.append(Unbound(self.bed, self.internet.knot.anchor))
        except BaseException:
            self.close()
            raise

    @property
    def vps(self):
        return self.parts[0]

    @property
    def internet(self):
        return self.parts[1]

    def close(self):
        for part in reversed(self.parts):
            part.stop()
        super().close()


class Unvalidating(RelayOut):
    """relay-out with a resolver that validates nothing."""

    def write_conf(self):
        super().write_conf()
        text = read(self.conf)
        with open(self.conf, "w") as file:
            file.write(text.replace("dns = {", "dns = { validate = false;"))


def out(world, kind=RelayOut, inner="", **settings):
    # Each message uses its own connection, so that each is judged.
    if "reuse_for" not in inner:
        inner += ' reuse_for = "0s";'
    relay = kind(world.bed, world.vps, inner=inner, **settings)
    world.relays.append(relay)
    return relay


def judgement(relay, domain):
    """relay-out's result for mail to a domain, in the words of the table, and its reply."""
    before = len(read(relay.log))
    reply = send(f"x@{domain}")[-1]
    log = read(relay.log)[before:]
    if not reply.startswith("250"):
        return "deferred", reply
    words = re.findall(r"(\w+) TLS connection established to", log)
    return (words[-1].lower() if words else "plain"), reply


def postfix_judgement(bed, domain):
    """Postfix's result; None if it has none."""
    os.makedirs(f"{bed.dir}/postfix", exist_ok=True)
    with open(f"{bed.dir}/postfix/main.cf", "w") as file:
        file.write("compatibility_level = 3.6\n")
    text = subprocess.run(["posttls-finger", "-c", "-t", "5", "-l", "dane", "-L", "summary,verbose", domain],
                          capture_output=True, text=True, timeout=120,
                          env={**os.environ, "MAIL_CONFIG": f"{bed.dir}/postfix"})
    text = text.stdout + text.stderr
    words = re.findall(r"(\w+) TLS connection established to", text)
    if not words:
        return ("plain" if "DNSSEC-signed TLSA" not in text and "Connected to" in text else "deferred"), text
    # It also lists records with unknown selectors and types, but does not require a match.
    usable = re.search(r"DNSSEC-signed TLSA record: \S+ [23] [01] [012] ", text)
    # A matching chain for another name: newer versions call it trusted, but do not deliver either.
    if usable and (words[-1] == "Untrusted" or words[-1] == "Trusted" and "hostname mismatch" in text):
        return "deferred", text
    return words[-1].lower(), text


# Postfix's smtp(8) differs from posttls-finger(1) here, which does not try a second host and sends no mail.
NO_ORACLE = {"two-mx.zz": "posttls-finger tries the first host only",
             "second-free.zz": "the same", "second-answers.zz": "the same",
             "old.zz": "Postfix allows TLS 1.1 under DANE",
             "none-no-tls.zz": "posttls-finger delivers nothing in plain text",
             "pkix-no-tls.zz": "posttls-finger requires no TLS"}


@scenario("dane: the same verdict as Postfix, host by host")
def oracle(world):
    relay = out(world)
    different, compared = [], 0
    domains = sorted(world.internet.expected)
    verdicts, rest = {}, list(domains)

    def ask_postfix():
        while rest:
            domain = rest.pop()
            verdicts[domain] = postfix_judgement(world.bed, domain)
    askers = [threading.Thread(target=ask_postfix) for _ in range(8)]  # posttls-finger takes its time
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    for domain in domains:
        expected = world.internet.expected[domain]
        ours, reply = judgement(relay, domain)
        theirs, text = verdicts[domain]
        if ours != expected:
            different.append(f"{domain}: expected {expected}, got {ours} ({reply})")
        if domain not in NO_ORACLE:
            compared += 1
            if theirs != ours:
                different.append(f"{domain}: {ours}, but Postfix says {theirs}: {text[-600:]}")
        print(f"# {domain}: relay-out {ours}, Postfix {theirs}")
    print(f"# {compared} domains compared with Postfix, {len(different)} differences")
    assert not different, "\n".join(different)
    assert compared >= 60, compared


@scenario("sts: what each policy, and each web server, comes to")
def sts(world):
    relay = out(world, inner='timeouts = { dial = "12s"; };')
    different = []
    for domain, expected in world.internet.sts.items():
        ours, reply = judgement(relay, domain)
        print(f"# {domain}: {ours}")
        if ours != expected:
            different.append(f"{domain}: expected {expected}, got {ours} ({reply})")
        if ours == "deferred":
            assert "451 4.7.5" in reply or "451 4.7.4" in reply, reply
    assert not different, "\n".join(different)
    log = read(relay.log)
    assert re.search(r"Verified TLS connection established to mx-sts-ok.zz\S+ \S+ with cipher \S+ policy=mta-sts ", log)
    assert re.search(r"event=tls-policy domain=sts-testing.zz policy=sts host=mx-sts-testing.zz "
                     r'result=certificate-not-trusted .*effect="none, failures are only logged"', log)
    assert re.search(r"host mx-sts-other-host.zz is not used: the MTA-STS policy", log)
    # No cookies, no proxies, the right name in SNI and Host.
    asked = [request for host, request in world.internet.web.asked if host == "mta-sts.sts-ok.zz"]
    assert len(asked) == 1 and asked[0].startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.sts-ok.zz\r\n")
    assert world.internet.servers["sts-ok"].names == ["mx-sts-ok.zz"]


@scenario("sts: only logged, or off, or excepted by a route")
def sts_lenient(world):
    watching = out(world, tls='mta_sts = "log";')
    for domain in ("sts-self.zz", "sts-other-host.zz"):
        assert judgement(watching, domain)[0] == "untrusted"
    assert "event=tls-policy domain=sts-self.zz policy=sts" in read(watching.log)
    watching.stop()
    world.internet.web.asked.clear()
    off = out(world, tls='mta_sts = "off";')
    assert judgement(off, "sts-self.zz")[0] == "untrusted"
    assert not world.internet.web.asked
    off.stop()
    excepting = out(world, inner='routes = ( { domain = "sts-self.zz"; tls = "may"; }, '
                                 '{ domain = "ee11-wrong.zz"; tls = "may"; }, { domain = "none.zz"; tls = "dane"; }, '
                                 '{ domain = "d.ins"; tls = "dane"; }, { domain = "ta11.zz"; tls = "dane"; } );')
    for domain, expected in (("sts-self.zz", "untrusted"), ("ee11-wrong.zz", "untrusted"), ("none.zz", "deferred"),
                             ("d.ins", "deferred"), ("ta11.zz", "verified")):
        assert judgement(excepting, domain)[0] == expected, domain


@scenario("sts: two domains at one host, and the policy of one of them")
def sts_shared(world):
    relay = out(world, inner='reuse_for = "10s"; timeouts = { dial = "12s"; };')
    for domain, expected in (("sharing.zz", "250"), ("shared.zz", "451"), ("sharing.zz", "250"), ("shared.zz", "451")):
        assert send(f"x@{domain}")[-1].startswith(expected), domain


@scenario("dane: a Postfix as the mail server")
def postfix(world):
    internet = world.internet
    address, host = internet.address(), "mx-postfix.zz"
    cert, key = internet.chain(CHAIN, host, "postfix.zz")
    server = Postfix(world.bed, "mx", f"{address}:25", f"""
inet_interfaces = {address}
virtual_mailbox_domains = postfix.zz
virtual_mailbox_maps = inline:{{ {{ x@postfix.zz = x/ }} }}
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
""")
    records = f"postfix.zz. MX 10 {host}.\n{host}. A {address}\n"
    try:
        for record, expected in (("3 1 1 ~leaf", "deferred"), ("2 1 1 inter", "verified"), ("3 1 1 leaf", "verified")):
            internet.knot.set(internet.records + records + internet.tlsa_records(f"_25._tcp.{host}.", record, host))
            relay = out(world)
            assert judgement(relay, "postfix.zz")[0] == expected, record
            relay.stop()
        mails = [server.wait_mail("x", count) for count in (1, 2)]
        assert b"using TLSv1.3" in mails[-1]
    finally:
        internet.knot.set(internet.records)
        server.stop()


def state_folder(world):
    folder = f"{world.bed.dir}/state-{world.bed.count}"
    os.mkdir(folder)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    return f'state = "{folder}"; timeouts = {{ dial = "12s"; }};'


@scenario("sts: a policy holds over a kill, without its web server and without its record")
def sts_kept(world):
    internet, state = world.internet, state_folder(world)
    try:
        relay = out(world, inner=state)
        assert judgement(relay, "sts-self.zz")[0] == "deferred"
        relay.process.kill()
        relay.process.wait(10)
        world.relays.remove(relay)
        internet.web.answers["mta-sts.sts-self.zz"] = b"garbage\r\n\r\n"
        internet.front.rules["_mta-sts.sts-self", "TXT"] = "servfail"
        asked = len(internet.web.asked)
        relay = out(world, inner=state)
        assert judgement(relay, "sts-self.zz")[0] == "deferred"
        del internet.front.rules["_mta-sts.sts-self", "TXT"]
        relay.stop()
        relay = out(world, inner=state)
        assert judgement(relay, "sts-self.zz")[0] == "deferred"
        assert len(internet.web.asked) == asked
    finally:
        internet.front.rules.pop(("_mta-sts.sts-self", "TXT"), None)
        internet.web.answers["mta-sts.sts-self.zz"] = policy("mx-sts-self.zz")


@scenario("sts: a new id is a new policy; the old one holds while that cannot be had")
def sts_changed(world):
    internet, web = world.internet, "mta-sts.sts-ok.zz"
    relay = out(world, inner=state_folder(world))
    try:
        assert judgement(relay, "sts-ok.zz")[0] == "verified"
        internet.web.answers[web] = policy("other.zz")
        assert judgement(relay, "sts-ok.zz")[0] == "verified"  # the id is the same
        internet.knot.set(internet.records.replace(internet.sts_records("sts-ok"), internet.sts_records("sts-ok", "2")))
        internet.web.answers[web] = PAGE("", status="500 No")
        wait_for("the new id", lambda: judgement(relay, "sts-ok.zz") and
                 internet.web.asked[-1][0] == web and "status 500" in read(relay.log))
        assert judgement(relay, "sts-ok.zz")[0] == "verified"
        internet.web.answers[web] = policy("other.zz")
    finally:
        internet.knot.set(internet.records)
        internet.web.answers[web] = policy("mx-sts-ok.zz")


@scenario("dane: passed over for the next host, and never without TLS")
def passed_over(world):
    internet = world.internet
    relay = out(world)
    before = internet.servers["ee11-wrong"].connections
    mails = len(internet.servers["ee11-wrong"].messages)
    assert judgement(relay, "two-mx.zz")[0] == "verified"
    # One connection, which TLS ended; nothing went to it in plain text.
    assert internet.servers["ee11-wrong"].connections == before + 1
    assert len(internet.servers["ee11-wrong"].messages) == mails and not internet.servers["stripped"].messages
    for domain in ("ee11-wrong.zz", "stripped.zz"):
        ours, reply = judgement(relay, domain)
        assert ours == "deferred" and f"mx-{domain}" in reply and "dane" in reply, reply
    assert not internet.servers["stripped"].messages
    # It is not remembered as bad: once fixed, it gets the next message.
    assert "dead" not in read(relay.log)
    for domain, words in (("servfail.zz", "SERVFAIL"), ("refused.zz", "REFUSED|SERVFAIL")):
        reply = judgement(relay, domain)[1]
        assert re.search(rf"451 4.7.5 .*TLSA of _25._tcp.mx-{domain}: ({words})", reply), reply
        assert not internet.servers[domain[:-3]].connections, "connected in spite of it"


@scenario("dane: the server is called by the name that its records stand at")
def sni(world):
    relay = out(world)
    for name, called in (("ee11", "mx-ee11.zz"), ("alias-target", "to-alias-target.zz"),
                         ("alias-alias", "mx-alias-alias.zz"), ("alias-out-right", "mx-alias-out-right.zz")):
        server = world.internet.servers[name]
        server.names.clear()
        assert judgement(relay, f"{name}.zz")[0] == "verified"
        assert server.names == [called], server.names


@scenario("dane: next hops of a route, with their own port")
def next_hop(world):
    internet = world.internet
    host = "hop.zz"
    address = internet.serve("hop", host=host, port=2525)
    records = internet.records + f"{host}. A {address}\n"
    right = internet.tlsa_records(f"_2525._tcp.{host}.", "3 1 1 leaf", host)
    wrong = internet.tlsa_records(f"_2525._tcp.{host}.", "3 1 1 ~leaf", host)
    route = f'routes = ( {{ domain = "routed.zz"; next_hop = "{host}:2525"; }} );'
    try:
        for more, expected in ((right, "verified"), (wrong, "deferred"), ("", "untrusted")):
            internet.knot.set(records + more)
            relay = out(world, inner=route)
            assert judgement(relay, "routed.zz")[0] == expected, expected
            relay.stop()
    finally:
        internet.knot.set(internet.records)


@scenario("dane: without validation it is off, with one warning, and mail goes")
def no_validation(world):
    relay = out(world, Unvalidating)
    for domain in ("ee11.zz", "ee11-wrong.zz", "bogus"):
        assert judgement(relay, domain)[0] == "untrusted", domain
    assert read(relay.log).count("event=dane status=off") == 1


@scenario("dane: a domain with neither costs no round trip more")
def round_trips(world):
    internet = world.internet

    def questions(**settings):
        relay = out(world, **settings)
        assert judgement(relay, "d.ins")[0] != "deferred"  # what is above it is known now
        internet.front.asked.clear()
        assert judgement(relay, "neither.ins")[0] == "plain"
        relay.stop()
        return list(internet.front.asked)
    without = questions(tls='dane = false; mta_sts = "off";')
    with_both = questions()
    more = sorted(set(with_both) - set(without))
    print(f"# asked without: {without}; more with both: {more}")
    assert more == [("_mta-sts.neither.ins", "TXT")], more
    # The record is asked for before the answer about the MX records arrives.
    order = [kind for name, kind in with_both]
    assert order.index("TXT") < min(order.index("A"), order.index("AAAA")), with_both


def send_required(domain, tls=True, header="", required=True):
    """Sends mail with REQUIRETLS and returns the last reply."""
    client = open_session(tls=tls)
    code, text = client.cmd("MAIL FROM:<s@sender.example>" + " REQUIRETLS" * required)
    if code == 250:
        code, text = client.cmd(f"RCPT TO:<x@{domain}>")
    if code == 250:
        code, text = client.data(f"{header}Subject: required\r\n\r\ntext\r\n")
    client.cmd("QUIT", 221)
    client.close()
    return text


@scenario("requiretls: only to a host that is proven, and offers it")
def requiretls(world):
    internet = world.internet
    relay = out(world, inner='reuse_for = "10s"; timeouts = { dial = "12s"; };')
    assert send_required("require-dane.zz").startswith("250")
    secure, envelope, _ = internet.servers["require-dane"].messages[-1]
    assert secure and envelope[0].endswith(" REQUIRETLS"), envelope
    # No TLSA records: the MX records are proven, and the certificate is valid. It must not use a connection that
    # was made for mail without REQUIRETLS.
    assert judgement(relay, "require-pki.zz")[0] == "untrusted"
    assert send_required("require-pki.zz").startswith("250")
    assert internet.servers["require-pki"].messages[-1][1][0].endswith(" REQUIRETLS")
    assert internet.servers["require-pki"].connections == 2
    log = read(relay.log)
    assert re.search(r"Verified TLS connection established to mx-require-pki.zz\S+ \S+ with cipher \S+ policy=requiretls", log)
    for domain, expected in (("ee11.zz", "550 5.7.30"), ("d.ins", "550 5.7.30"), ("require-self.zz", "451 4.7.5"),
                             ("require-sts.ins", "250"), ("require-two.zz", "250"), ("require-later.zz", "451 4.7.5")):
        reply = send_required(domain)
        assert reply.startswith(expected), (domain, reply)
    assert not internet.servers["require-self"].messages
    # In plain text it is neither offered nor accepted.
    assert send_required("require-dane.zz", tls=False).startswith("555"), "taken in plain text"


@scenario("requiretls: TLS-Required: No sets what is published aside, where the header is known")
def tls_optional(world):
    internet = world.internet
    relay = out(world, inner='delivery = "spool"; retry = [ "1s" ];')
    server = internet.servers["none-of-two"]
    before = len(server.messages)
    assert send_required("none-of-two.zz", required=False).startswith("250")
    wait_for("the deferral", lambda: "mx-none-of-two.zz" in read(relay.log) and "matches no record" in read(relay.log))
    # None of these is that field of the header.
    for header in ("TLS-Required: Yes\r\n", "TLS-Required:\r\n No\r\n way\r\n", "X: y\r\n TLS-Required: No\r\n",
                   "X: y\r\n\r\n indented\r\nTLS-Required: No\r\n"):
        deferred = read(relay.log).count("matches no record")
        assert send_required("none-of-two.zz", required=False, header=header).startswith("250")
        wait_for("the deferral", lambda: read(relay.log).count("matches no record") > deferred)
        assert len(server.messages) == before, header
    for header in ("TLS-Required: No\r\n", "X: y\r\ntls-required:no \r\n", "TLS-Required:\r\n\tNo\r\n",
                   "TLS-Required: Yes\r\nTLS-Required: No\r\n \r\n"):
        assert send_required("none-of-two.zz", required=False, header=header).startswith("250")
        before += 1
        wait_for("the mail", lambda count=before: len(server.messages) == count)
        assert b"required:" in server.messages[-1][2].lower()
    # A sender who asks for REQUIRETLS has asked for exactly this.
    assert send_required("none-of-two.zz", header="TLS-Required: No\r\n").startswith("250")
    wait_for("deferrals", lambda: read(relay.log).count("matches no record") >= 2)
    assert len(server.messages) == before


def relayctl(relay, *arguments):
    result = subprocess.run([f"{BUILD}/relayctl", "tls", "-c", relay.conf, *arguments], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Of RFC 8460's those that a session had; the others say of a policy that it could not be used.
SESSION_RESULTS = ("success", "starttls-not-supported", "certificate-host-mismatch", "certificate-expired",
                   "certificate-not-trusted", "validation-failure", "dnssec-invalid", "dane-required")


@scenario("relayctl tls: what is published, what is shown, what failed")
def shown(world):
    control = f"{world.bed.dir}/control"
    os.mkdir(control)
    os.chown(control, pwd.getpwnam("nobody").pw_uid, -1)
    relay = out(world, inner=state_folder(world), top=f'control = "{control}/";')

    def ask(*arguments):
        return json.loads(relayctl(relay, "--json", *arguments))
    said = ask("--connect", "ee11.zz")
    host = said["hosts"][0]
    assert said["dnssec_validation"] and said["mta_sts_record"] == "none", said
    assert host["host"] == "mx-ee11.zz" and host["dane"] == "usable" and host["level"] == "dane", said
    assert host["host_proven"] and host["addresses_proven"] and host["tlsa"][0].startswith("3 1 1 "), said
    assert host["shown"].endswith("matches 3 1 1"), said
    host = ask("--connect", "ee11-wrong.zz")["hosts"][0]
    assert "validation-failure" in host["shown"] and "matches no record" in host["shown"], host
    host = ask("servfail.zz")["hosts"][0]
    assert "SERVFAIL" in host["refused"], host
    said = ask("--connect", "sts-ok.zz")
    assert said["mta_sts_mode"] == "enforce" and said["mta_sts_mx"] == ["mx-sts-ok.zz"], said
    assert said["hosts"][0]["policy"] == "mta-sts" and said["hosts"][0]["shown"].endswith("valid"), said
    assert "404" in ask("sts-404.zz")["mta_sts_failure"]
    assert [h["host"] for h in ask("two-mx.zz")["hosts"]] == ["mx-ee11-wrong.zz", "mx-two-mx.zz"]
    assert ask("missing.zz")["no_hosts"] == "missing.zz does not exist"
    # The owner changed the policy but not the id: relayctl tls --refresh notices it.
    web = "mta-sts.sts-ok.zz"
    try:
        world.internet.web.answers[web] = policy("other.zz")
        assert ask("sts-ok.zz")["mta_sts_mx"] == ["mx-sts-ok.zz"]
        said = ask("--refresh", "sts-ok.zz")
        assert said["mta_sts_mx"] == ["other.zz"] and "refused" in said["hosts"][0], said
    finally:
        world.internet.web.answers[web] = policy("mx-sts-ok.zz")
    text = relayctl(relay, "ee11.zz")
    assert "TLSA records: usable" in text and "TLS that is required: dane" in text, text
    print(*(f"# {line}\n" for line in text.splitlines()), sep="", end="")
    for domain in ("ee11.zz", "ee11.zz", "ee11-wrong.zz", "ta-name.zz", "ta-expired.zz", "stripped.zz", "servfail.zz",
                   "pkix.zz", "sts-self.zz", "sts-name.zz", "sts-html.zz", "sts-no-mx.zz", "sts-web-self.zz"):
        judgement(relay, domain)
    rows = {(row["domain"], row["policy"]): row for row in
            map(json.loads, relayctl(relay, "--json", "--failures").splitlines())}
    for domain, kind, result, count in (
            ("mx-ee11.zz", "tlsa", "success", 2), ("mx-ee11-wrong.zz", "tlsa", "validation-failure", 1),
            ("mx-ta-name.zz", "tlsa", "certificate-host-mismatch", 1),
            ("mx-ta-expired.zz", "tlsa", "certificate-expired", 1),
            ("mx-stripped.zz", "tlsa", "starttls-not-supported", 1), ("servfail.zz", "tlsa", "dnssec-invalid", 1),
            ("mx-pkix.zz", "tlsa", "tlsa-invalid", 1), ("sts-html.zz", "sts", "sts-policy-fetch-error", 1),
            ("sts-no-mx.zz", "sts", "sts-policy-invalid", 1), ("sts-web-self.zz", "sts", "sts-webpki-invalid", 1),
            ("sts-self.zz", "sts", "certificate-not-trusted", 1),
            ("sts-name.zz", "sts", "certificate-host-mismatch", 1)):
        row = rows[domain, kind]
        assert row[result] == count, (domain, rows)
        assert sum(row.get(day, {}).get(result, 0) for day in ("today", "yesterday")) == count, (domain, rows)
    found = samples(relay)
    for labels, kind, good in (("dane", "tlsa", True), ("dane", "tlsa", False), ("sts", "sts", True), ("sts", "sts", False)):
        name = f'postern_out_tls_sessions_total{{policy="{labels}",result="{"ok" if good else "failed"}"}}'
        expected = sum(count for (_, of), row in rows.items() if of == kind for result, count in row.items()
                       if result in SESSION_RESULTS and (result == "success") == good)
        assert found[name] == expected, (name, found[name], rows)
    failures = {name[len('postern_out_tls_policy_failures_total{type="'):-2]: value for name, value in found.items()
                if name.startswith("postern_out_tls_policy_failures_total")}
    assert len(failures) == 11, failures
    for result, value in failures.items():
        expected = sum(row.get(result, 0) for (_, of), row in rows.items() if of != "no-policy-found")
        assert value == expected, (result, value, rows)
    print(*(f"# {line}\n" for line in relayctl(relay, "--failures").splitlines()), sep="", end="")


@scenario("relayctl certificate: a key that the published records do not cover is refused, with what to publish")
def renewal(world):
    relay, certificates = out(world), world.internet.certificates
    chain, key = certificates.chain(*(cert(certificates, w, "mx-ee11.zz", "ee11.zz") for w in ("leaf", "inter")))
    # a renewal with a new key; and one of a host whose anchor is published
    other, other_key = certificates.chain(certificates.leaf("mx-ee11.zz", days=31), "inter")
    below, below_key = certificates.chain(certificates.leaf("mx-ta11.zz", days=31), "inter")

    def ask(cert, key, name, *more):
        return subprocess.run([f"{BUILD}/relayctl", "certificate", "-c", relay.conf, "--name", name, *more, cert, key],
                              capture_output=True, text=True, timeout=60)

    assert ask(chain, key, "mx-ee11.zz").returncode == 0 and ask(below, below_key, "mx-ta11.zz").returncode == 0
    refused = ask(other, other_key, "mx-ee11.zz")
    wanted = certificates.tlsa(f"3 1 1 {certificates.leaf('mx-ee11.zz', days=31)}")
    assert refused.returncode == 65 and f"_25._tcp.mx-ee11.zz. IN TLSA {wanted}" in refused.stderr, refused
    print(*(f"# {line}\n" for line in refused.stderr.splitlines() if "event=" not in line), sep="", end="")
    assert ask(other, other_key, "mx-ee11.zz", "--force").returncode == 0
    # unsigned records bind nobody, and a failing DNS blocks no renewal
    silent, silent_key = certificates.chain(certificates.leaf("mx-servfail.zz", days=31), "inter")
    failing = ask(silent, silent_key, "mx-servfail.zz")
    assert failing.returncode == 0 and "cannot find out" in failing.stderr, failing


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
