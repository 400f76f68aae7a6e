"""relay-out and domains that publish what TLS they want: DANE and MTA-STS. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import re
import subprocess
import sys
import threading

import tap
from bed import read, wait_for
from internet import Vps
from outbound import RelayOut, open_session, send
from published import KNOT, Certificates, Front, Knot, MailServer, Unbound, run

tap.scenarios.clear()  # those of outbound.py have a program of their own
from tap import scenario  # noqa: E402

# Hosts by DANE. Of each: the TLSA records of its MX host mx-NAME.zz, apart by "; ", with the certificate
# that they are made of; the chain that the host shows; and what must become of mail:
#   verified   it is under TLS, with a host that is proven
#   trusted    the same, but nothing proves that it is the domain's host
#   untrusted  it is under TLS, with whoever that is
#   plain      it is delivered without TLS
#   deferred   it is not delivered
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
    # Several records: one is enough.
    "several": ("3 1 1 ~leaf; 3 1 1 leaf; 2 1 1 evil", CHAIN, "verified"),
    "roll-over": ("3 1 1 self; 3 1 1 leaf", CHAIN, "verified"),
    "ta-or-ee": ("3 1 1 self; 2 1 1 inter", CHAIN, "verified"),
    "none-of-two": ("3 1 1 self; 2 1 1 evil", CHAIN, "deferred"),
    "with-unusable": ("1 1 1 leaf; 3 1 1 leaf", CHAIN, "verified"),
    "with-unusable-wrong": ("1 1 1 leaf; 3 1 1 ~leaf", CHAIN, "deferred"),
    "agility": ("3 1 1 leaf; 3 1 2 ~leaf", CHAIN, "deferred"),
    "agility-right": ("3 1 1 ~leaf; 3 1 2 leaf", CHAIN, "verified"),
    # Nothing usable: TLS, with whoever it is.
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
    # TLS that is not to be had.
    "stripped": ("3 1 1 leaf", None, "deferred"),
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
    "no-aaaa": None,
    # Name servers that fail; see RULES.
    "servfail": ("3 1 1 leaf", CHAIN, "deferred"),
    "refused": ("3 1 1 leaf", CHAIN, "deferred"),
    "silent": ("3 1 1 leaf", CHAIN, "deferred"),
    "aaaa-servfail": ("3 1 1 leaf", CHAIN, "verified"),
}
RULES = {("mx-servfail", "TLSA"): "servfail", ("mx-refused", "TLSA"): "refused",
         ("mx-silent", "TLSA"): "silent", ("mx-aaaa-servfail", "AAAA"): "servfail",
         ("mx-unsigned-servfail", "TLSA"): "servfail"}


def cert(certificates, word, host, domain):
    """The certificate that a word of the table means."""
    make = certificates.leaf
    return {"leaf": lambda: make(host), "self": lambda: make(host, None), "expired": lambda: make(host, days=-1),
            "other": lambda: make("other.zz"), "evil-leaf": lambda: make(host, "evil"),
            "wild": lambda: make(host, host="*.zz"), "below": lambda: make(host, host=f"*.{host}"), "domain": lambda: make(host, host=domain),
            "nameless": lambda: make(host, host="-"), "rsa": lambda: make(host + "-rsa", None, key=("rsa:2048",)),
            }.get(word, lambda: word)()


class Internet:
    """All of the domains above, each with a mail server of its own."""

    def __init__(self, bed):
        self.certificates = Certificates(bed.dir)
        with open(f"{bed.dir}/ca.crt", "w") as file:
            file.write(read(self.certificates.ca))
        self.knot = self.front = None
        self.servers, self.expected, self.count = {}, {}, 0
        self.records, self.ins = "", ""
        for name, row in HOSTS.items():
            if row is not None:
                self.add(name, *row)
        self.more_records()
        bogus = "@ MX 10 mx-ee11.zz.\n"
        self.front = Front(dict(RULES))
        self.knot = Knot(bed, self.records, self.ins, bogus, "@ MX 10 mx-ee11.zz.\n")

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
        """A mail server; its address."""
        host, domain = host or f"mx-{name}.zz", domain or f"{name}.zz"
        address = self.address()
        self.servers[name] = MailServer(address, self.chain(chain, host, domain), manner, port)
        return address

    def add(self, name, records, chain, expected, manner=""):
        """A domain with one MX host."""
        host = f"mx-{name}.zz"
        address = self.serve(name, chain, manner=manner)
        self.expected[f"{name}.zz"] = expected
        self.records += f"{name}.zz. MX 10 {host}.\n{host}. A {address}\n"
        self.records += self.tlsa_records(f"_25._tcp.{host}.", records, host)

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
        # The second of two MX hosts is right.
        self.records += add("two-mx", "verified", "two-mx.zz. MX 10 mx-ee11-wrong.zz.\ntwo-mx.zz. MX 20 mx-two-mx.zz.\n"
                            "mx-two-mx.zz. A {a}\n") + tlsa("mx-two-mx.zz", "3 1 1 leaf", "mx-two-mx.zz")
        self.records += add("no-aaaa", "verified", host) + tlsa("mx-no-aaaa.zz", "3 1 1 leaf", "mx-no-aaaa.zz")
        # Domains that are not signed.
        self.ins += "d MX 10 mx-ee11.zz.\nwrong MX 10 mx-ee11-wrong.zz.\n"
        self.expected |= {"d.ins": "trusted", "wrong.ins": "deferred"}
        self.ins += add("unsigned-servfail", "untrusted", "{n} MX 10 mx-{n}\nmx-{n} A {a}\n",
                        host="mx-unsigned-servfail.ins")
        del self.expected["unsigned-servfail.zz"]
        self.expected |= {"unsigned-servfail.ins": "untrusted", "bogus": "deferred", "opt": "verified",
                          "child.opt": "untrusted"}
        self.servers["child.opt"] = self.servers["ee11"]

    def stop(self):
        for server in {id(s): s for s in self.servers.values()}.values():
            server.close()
        self.front.stop()
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


def out(world, **settings):
    relay = RelayOut(world.bed, world.vps, **settings)
    world.relays.append(relay)
    return relay


def judgement(relay, domain):
    """What relay-out made of mail to a domain, in the words of the table; and its reply."""
    before = len(read(relay.log))
    reply = send(f"x@{domain}")[-1]
    log = read(relay.log)[before:]
    if not reply.startswith("250"):
        return "deferred", reply
    words = re.findall(r"(\w+) TLS connection established to", log)
    return (words[-1].lower() if words else "plain"), reply


def postfix_judgement(bed, domain):
    """The same by Postfix; None where it has none."""
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
    # It lists records of unknown selectors and types, too, but does not hold the host to them.
    usable = re.search(r"DNSSEC-signed TLSA record: \S+ [23] [01] [012] ", text)
    if words[-1] == "Untrusted" and usable:
        return "deferred", text
    return words[-1].lower(), text


# Postfix's smtp(8) differs from posttls-finger(1) here: the latter does not ask a second host, and sends no mail.
NO_ORACLE = {"two-mx.zz": "posttls-finger tries the first host only",
             "none-no-tls.zz": "posttls-finger delivers nothing in plain text",
             "pkix-no-tls.zz": "posttls-finger requires no TLS"}


@scenario("dane: the same verdict as Postfix, host by host")
def oracle(world):
    relay = out(world, inner='reuse_for = "0s";')
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


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
