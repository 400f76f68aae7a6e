"""A small internet whose domains publish their TLS policy: DANE and MTA-STS.

It has a root zone and zones below it, signed by Knot for each run or deliberately broken; in front of Knot, a
name server that counts questions and can be told to fail for some; mail servers that present chosen
certificates; and a web server for policies. Names end in .zz, because resolvers answer for .test and the like
themselves. SPDX-License-Identifier: GPL-3.0-or-later
"""
import hashlib
import os
import re
import socket
import ssl
import struct
import subprocess

from bed import can_connect, read, wait_for
from fakes import Listener, MailServer, Questions, question_of
from internet import sign
from servers import Knot, Server

DNS, KNOT = "203.0.113.53", "203.0.113.54"
TYPES = {1: "A", 2: "NS", 5: "CNAME", 15: "MX", 16: "TXT", 28: "AAAA", 43: "DS", 48: "DNSKEY", 52: "TLSA"}


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, **more).stdout


class Certificates:
    """A root, an intermediate below it, a stranger's root, and leaves by name."""

    def __init__(self, folder):
        self.dir = f"{folder}/certificates"
        os.makedirs(self.dir)
        self.authority("root")
        self.authority("inter", "root")
        self.authority("evil")
        self.ca = f"{self.dir}/root.crt"

    def path(self, name, end="crt"):
        return f"{self.dir}/{name}.{end}"

    def make(self, name, issuer, extensions, days, subject, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        request, extension = self.path(name, "csr"), self.path(name, "ext")
        with open(extension, "w") as file:
            file.write(extensions)
        run("openssl", "req", "-newkey", *key, "-nodes", "-subj", f"/CN={subject}", "-keyout",
            self.path(name, "key"), "-out", request)
        sign(request, self.path(name), extension, days, self.path(issuer or name, "key"), self.path(issuer) if issuer else None)

    def authority(self, name, issuer=None):
        self.make(name, issuer, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", 30, f"{name} CA")

    def leaf(self, name, issuer="inter", days=30, host=None, **more):
        """Makes the certificate of a host; issuer None: self-signed. Returns its name."""
        host = host or name
        extensions = f"subjectAltName=DNS:{host}\n" if host != "-" else "keyUsage=digitalSignature\n"
        file = f"{name}-{issuer}-{days}-{host}".replace("*", "star")
        if not os.path.exists(self.path(file)):
            self.make(file, issuer, extensions, days, "leaf", **more)
        return file

    def chain(self, *names):
        """A file of these certificates, and the key of the first."""
        file = self.path("+".join(names)[:150] + "-" + hashlib.md5(repr(names).encode()).hexdigest()[:8], "pem")
        with open(file, "w") as out:
            for name in names:
                out.write(read(self.path(name)))
        return file, self.path(names[0], "key")

    def tlsa(self, text):
        """The data of "3 1 1 NAME" as in zone files; "~NAME": with the last bit flipped."""
        usage, selector, kind, name = text.split()
        wrong = name.startswith("~")
        name = name.lstrip("~")
        if int(selector) == 1:
            pem = run("openssl", "x509", "-in", self.path(name), "-noout", "-pubkey")
            data = run("openssl", "pkey", "-pubin", "-outform", "der", input=pem)
        else:
            data = run("openssl", "x509", "-in", self.path(name), "-outform", "der")
        data = {"1": hashlib.sha256, "2": hashlib.sha512}.get(kind, lambda d: None)(data) or data
        data = data if isinstance(data, bytes) else data.digest()
        if wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return f"{usage} {selector} {kind} {data.hex()}"


class Zones(Knot):
    """The root, signed; ins. below it without signatures; bogus. with a DS record of another key;
    opt. signed by NSEC3 with opt-out, and a child of it that is not signed."""

    def __init__(self, bed, records, ins, bogus, opt):
        self.serial, self.opt_ds = 1, ""
        head = "$TTL 60\n@ SOA ns.zz. h.zz. 1 3600 600 86400 60\n@ NS ns.zz.\n"
        files = {"root": self.root(records), "ins": head + ins, "bogus": head + bogus,
                 "opt": f"{head}child.opt. NS ns.zz.\n{opt}", "child": head + "@ A 198.51.102.1\n"}
        super().__init__(bed, KNOT, files, """  - domain: .
    file: root.zone
    dnssec-signing: on
    dnssec-policy: plain
  - domain: opt.
    file: opt.zone
    dnssec-signing: on
    dnssec-policy: opt
  - domain: ins.
    file: ins.zone
  - domain: bogus.
    file: bogus.zone
  - domain: child.opt.
    file: child.zone
""", ("opt.",), """  - id: opt
    algorithm: ECDSAP256SHA256
    single-type-signing: on
    nsec3: on
    nsec3-opt-out: on
""")
        self.opt_ds = "".join(line for line in self.keys("opt.", "ds").splitlines(True) if " 2 " in line)
        self.set(records)

    def root(self, records):
        return (f"$TTL 60\n@ SOA ns.zz. h.zz. {self.serial} 3600 600 86400 60\n@ NS ns.zz.\n"
                f"ns.zz. A {DNS}\nins. NS ns.zz.\nbogus. NS ns.zz.\nopt. NS ns.zz.\n"
                f"bogus. DS 12345 13 2 {'0' * 64}\n{self.opt_ds}{records}")

    def set(self, records):
        """Sets other records in the root zone."""
        self.serial += 1
        self.write("root.zone", self.root(records))
        self.reload()
        wait_for("the new zone", lambda: re.search(rf"(->|serial) {self.serial}\b", read(self.log)))


class Front(Questions):
    """The name server that is asked. Passes questions to Knot unless `rules` say {(part of the name, type):
    "servfail", "refused", "silent" or "truncated"}. Keeps all questions in `asked`."""

    RCODES = {"servfail": 2, "refused": 5}

    def __init__(self, rules):
        self.rules, self.asked = rules, []
        super().__init__(DNS, 53)

    def rule(self, packet):
        name, number, _ = question_of(packet)
        kind = TYPES.get(number, str(number))
        self.asked.append((name, kind))
        for (part, which), what in list(self.rules.items()):
            if which == kind and part in name:
                return what
        return None

    def answer(self, packet, over_tcp):
        what = self.rule(packet)
        if what == "silent":
            return None
        if what == "truncated" and not over_tcp:  # come again by TCP
            return packet[:2] + struct.pack("!H", 0x8380) + packet[4:6] + bytes(6) + packet[12:]
        if what in self.RCODES:
            return packet[:2] + struct.pack("!H", 0x8180 | self.RCODES[what]) + packet[4:6] + bytes(6) + packet[12:]
        return self.ask_by_tcp(packet) if over_tcp else self.ask_by_udp(packet)

    @staticmethod
    def ask_by_udp(packet):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(packet, (KNOT, 53))
            return sock.recv(65535)

    @staticmethod
    def ask_by_tcp(packet):
        with socket.create_connection((KNOT, 53), 5) as sock:
            sock.sendall(struct.pack("!H", len(packet)) + packet)
            file = sock.makefile("rb")
            return file.read(struct.unpack("!H", file.read(2))[0])


class Receiver(MailServer):
    """Accepts all mail. `chain` is (file, key), or None for no STARTTLS. `manner` may be "refuse" to refuse
    STARTTLS, "old" for nothing newer than TLS 1.1, or "requiretls" to offer that. Records the names in SNI, the
    mail, and whether it came under TLS."""

    def __init__(self, address, chain=None, manner="", port=25):
        self.manner, self.names = manner, []
        context = None
        if chain is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*chain)
            if manner == "old":
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.sni_callback = lambda sock, name, context: self.names.append(name)
        super().__init__(address, port, context)

    def offers(self, talk):
        return ["REQUIRETLS"] if self.manner == "requiretls" and talk.secure else super().offers(talk)

    def reply(self, talk, step, line):
        if step == "starttls" and self.manner == "refuse":
            return "454 4.7.0 TLS not available"
        return super().reply(talk, step, line)

    def keep(self, talk):
        self.messages.append((talk.secure, talk.envelope, talk.body))


class PolicyHost(Listener):
    """The web server for MTA-STS policies of all domains. `answers` has its answer by host name: bytes are sent as
    they are, a function is called with the socket, and any other text is sent as a policy."""

    def __init__(self, address, certificates):
        self.answers, self.contexts, self.asked = {}, {}, []
        self.certificates = certificates
        super().__init__(address, 443)

    def context(self, *chain):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificates.chain(*chain))
        return context

    def set(self, host, answer, *chain):
        self.answers[host] = answer
        self.contexts[host] = self.context(*(chain or (self.certificates.leaf(host), "inter")))

    def serve(self, sock):
        host = []

        def choose(tls, name, _):
            host.append(name)
            tls.context = self.contexts.get(name, tls.context)
        context = self.context(self.certificates.leaf("nobody.zz", None))
        context.sni_callback = choose
        with context.wrap_socket(sock, server_side=True) as tls:
            self.answer(tls, host[0])

    def answer(self, tls, host):
        request = b""
        while b"\r\n\r\n" not in request:
            piece = tls.recv(4096)
            if not piece:
                return
            request += piece
        self.asked.append((host, request.decode()))
        answer = self.answers[host]
        if callable(answer):
            answer(tls)
        elif isinstance(answer, bytes):
            tls.sendall(answer)
        else:
            tls.sendall(self.page(answer))

    @staticmethod
    def page(text, kind="text/plain", status="200 OK", more=""):
        return (f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(text)}\r\n"
                f"Connection: close\r\n\r\n{text}").encode()


class Unbound(Server):
    """A validating resolver for other programs, on 127.0.0.1, as in the tests' /etc/resolv.conf."""

    def __init__(self, bed, anchor):
        super().__init__(bed, "unbound")
        self.write("conf", f"""server:
  interface: 127.0.0.1
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{self.dir}"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  aggressive-nsec: no
  module-config: "validator iterator"
  trust-anchor-file: "{anchor}"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: {DNS}
""")
        self.start([f"{os.environ['POSTERN_UNBOUND']}/usr/sbin/unbound", "-d", "-c", self.conf],
                   lambda: can_connect("127.0.0.1", 53))
        with open("/etc/resolv.conf", "w") as file:
            file.write("nameserver 127.0.0.1\noptions trust-ad edns0\n")
