"""A small internet whose domains publish their TLS policy: DANE and MTA-STS.

It has a root zone and zones below it, signed by Knot for each run or deliberately broken; in front of Knot, a
name server that counts questions and can be told to fail for some; mail servers that present chosen
certificates; and a web server for policies. Names end in .zz, because resolvers answer for .test and the like
themselves. SPDX-License-Identifier: GPL-3.0-or-later
"""
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import threading

from bed import can_connect, read, wait_for
from internet import sign

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


class Knot:
    """The zones: the root, signed; ins. below it without signatures; bogus. with a DS record of another key;
    opt. signed by NSEC3 with opt-out, and a child of it that is not signed."""

    def __init__(self, bed, records, ins, bogus, opt):
        self.dir = f"{bed.dir}/knot"
        self.log = f"{self.dir}/log"
        self.conf = f"{self.dir}/knot.conf"
        os.makedirs(f"{self.dir}/keys")
        head = "$TTL 60\n@ SOA ns.zz. h.zz. {} 3600 600 86400 60\n@ NS ns.zz.\n"
        self.root = (f"ns.zz. A {DNS}\nins. NS ns.zz.\nbogus. NS ns.zz.\n"
                     f"bogus. DS 12345 13 2 {'0' * 64}\nopt. NS ns.zz.\n" + records)
        for name, text in (("root", self.root), ("ins", ins), ("bogus", bogus),
                           ("opt", f"child.opt. NS ns.zz.\n{opt}"),
                           ("child", "@ A 198.51.102.1\n")):
            self.write(name, head.format(1) + text)
        with open(self.conf, "w") as file:
            file.write(f"""
server:
  listen: {KNOT}@53
  rundir: {self.dir}
control:
  listen: {self.dir}/control
database:
  storage: {self.dir}/keys
log:
  - target: stderr
    any: info
policy:
  - id: plain
    algorithm: ECDSAP256SHA256
    single-type-signing: on
  - id: opt
    algorithm: ECDSAP256SHA256
    single-type-signing: on
    nsec3: on
    nsec3-opt-out: on
template:
  - id: default
    storage: {self.dir}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
  - domain: .
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
""")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["knotd", "-c", self.conf], stderr=log, stdout=log,
                                            stdin=subprocess.DEVNULL)
        for zone in (".", "opt."):
            wait_for("Knot", lambda zone=zone: f"[{zone}] DNSSEC, successfully signed" in read(self.log) or
                     self.process.poll() is not None)
            assert self.process.poll() is None, read(self.log)
        wait_for("the DNS", lambda: can_connect(KNOT, 53))
        self.serial = 1
        self.opt_ds = "".join(line for line in run("keymgr", "-c", self.conf, "opt.", "ds", text=True).splitlines(True)
                              if " 2 " in line)
        self.set(records)
        self.anchor = f"{bed.dir}/root.key"
        with open(self.anchor, "w") as file:
            file.write(run("keymgr", "-c", self.conf, ".", "dnskey", text=True))

    def write(self, name, text):
        with open(f"{self.dir}/{name}.zone", "w") as file:
            file.write(text)

    def set(self, records):
        """Sets other records in the root zone."""
        self.serial += 1
        self.write("root", f"$TTL 60\n@ SOA ns.zz. h.zz. {self.serial} 3600 600 86400 60\n@ NS ns.zz.\n"
                   f"ns.zz. A {DNS}\nins. NS ns.zz.\nbogus. NS ns.zz.\nopt. NS ns.zz.\n"
                   f"bogus. DS 12345 13 2 {'0' * 64}\n{self.opt_ds}{records}")
        run("knotc", "-s", f"{self.dir}/control", "-b", "zone-reload", ".")
        wait_for("the new zone", lambda: read(self.log).count(f"[.] DNSSEC, successfully signed, serial") >= 0 and
                 f"-> {self.serial}" in read(self.log) or f"serial {self.serial}" in read(self.log))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def question_of(packet):
    """(name, type) of a query."""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1").lower())
        at += packet[at] + 1
    number = struct.unpack("!H", packet[at + 1:at + 3])[0]
    return ".".join(labels), TYPES.get(number, str(number))


class Front:
    """The name server that is asked. Passes questions to Knot unless `rules` say {(part of the name, type):
    "servfail", "refused", "silent" or "truncated"}. Keeps all questions in `asked`."""

    RCODES = {"servfail": 2, "refused": 5}

    def __init__(self, rules):
        self.rules, self.asked, self.ended = rules, [], False
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((DNS, 53))
        self.tcp = socket.create_server((DNS, 53), backlog=50)
        for target in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def rule(self, packet):
        name, kind = question_of(packet)
        self.asked.append((name, kind))
        for (part, which), what in list(self.rules.items()):
            if which == kind and part in name:
                return what
        return None

    def failure(self, packet, what):
        if what == "truncated":  # come again by TCP
            return packet[:2] + struct.pack("!H", 0x8380) + packet[4:6] + bytes(6) + packet[12:]
        return packet[:2] + struct.pack("!H", 0x8180 | self.RCODES[what]) + packet[4:6] + bytes(6) + packet[12:]

    def serve_udp(self):
        while not self.ended:
            try:
                packet, client = self.udp.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self.answer_udp, args=(packet, client), daemon=True).start()

    def answer_udp(self, packet, client):
        what = self.rule(packet)
        if what == "silent":
            return
        if what is not None:
            self.udp.sendto(self.failure(packet, what), client)
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(packet, (KNOT, 53))
            try:
                self.udp.sendto(sock.recv(65535), client)
            except OSError:
                pass

    def serve_tcp(self):
        while not self.ended:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.answer_tcp, args=(sock,), daemon=True).start()

    def answer_tcp(self, sock):
        with sock, socket.create_connection((KNOT, 53), 5) as knot:
            try:
                file, back = sock.makefile("rb"), knot.makefile("rb")
                while True:
                    head = file.read(2)
                    if len(head) < 2:
                        return
                    packet = file.read(struct.unpack("!H", head)[0])
                    what = self.rule(packet)
                    if what == "silent":
                        return
                    if what not in (None, "truncated"):
                        reply = self.failure(packet, what)
                    else:
                        knot.sendall(head + packet)
                        reply = back.read(struct.unpack("!H", back.read(2))[0])
                    sock.sendall(struct.pack("!H", len(reply)) + reply)
            except (OSError, struct.error):
                pass

    def stop(self):
        self.ended = True
        self.udp.close()
        self.tcp.close()


class Listener:
    """Serves each connection with serve(), in its own thread."""

    connections = 0

    def listen(self, address, port):
        self.listener = socket.create_server((address, port), backlog=50)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve_and_close, args=(sock,), daemon=True).start()

    def serve_and_close(self, sock):
        try:
            sock.settimeout(60)
            self.serve(sock)
        except (OSError, ValueError, IndexError):
            pass
        finally:
            sock.close()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class MailServer(Listener):
    """Accepts all mail. `chain` is (file, key), or None for no STARTTLS. `manner` may be "refuse" to refuse
    STARTTLS, "old" for nothing newer than TLS 1.1, or "requiretls" to offer that. Records the names in SNI, the
    mail, and whether it came under TLS."""

    def __init__(self, address, chain=None, manner="", port=25):
        self.manner, self.names, self.mails = manner, [], []
        self.context = None
        if chain is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*chain)
            if manner == "old":
                self.context.minimum_version = ssl.TLSVersion.TLSv1
                self.context.maximum_version = ssl.TLSVersion.TLSv1_1
                self.context.set_ciphers("ALL:@SECLEVEL=0")
            self.context.sni_callback = lambda sock, name, context: self.names.append(name)
        self.listen(address, port)

    def serve(self, sock):
        file, secure, envelope = sock.makefile("rb"), False, []
        sock.sendall(b"220 mx ESMTP\r\n")
        while True:
            line = file.readline()
            verb = line[:4].upper()
            if not line:
                return
            if verb == b"EHLO":
                offer = b"250-STARTTLS\r\n" if self.context is not None and not secure else b""
                if self.manner == "requiretls" and secure:
                    offer = b"250-REQUIRETLS\r\n"
                sock.sendall(b"250-mx\r\n" + offer + b"250 PIPELINING\r\n")
            elif verb == b"STAR" and self.manner == "refuse":
                sock.sendall(b"454 4.7.0 TLS not available\r\n")
            elif verb == b"STAR":
                sock.sendall(b"220 go\r\n")
                sock = self.context.wrap_socket(sock, server_side=True)
                file, secure = sock.makefile("rb"), True
            elif verb == b"DATA":
                sock.sendall(b"354 go\r\n")
                body = b""
                while not body.endswith(b"\r\n.\r\n"):
                    piece = file.readline()
                    if not piece:
                        return
                    body += piece
                self.mails.append((secure, envelope, body))
                envelope = []
                sock.sendall(b"250 2.0.0 kept\r\n")
            elif verb == b"QUIT":
                sock.sendall(b"221 bye\r\n")
                return
            else:
                if verb in (b"MAIL", b"RCPT"):
                    envelope.append(line.strip().decode())
                sock.sendall(b"250 2.0.0 Ok\r\n")


class PolicyHost(Listener):
    """The web server for MTA-STS policies of all domains. `answers` has its answer by host name: bytes are sent as
    they are, a function is called with the socket, and any other text is sent as a policy."""

    def __init__(self, address, certificates):
        self.answers, self.contexts, self.asked = {}, {}, []
        self.certificates = certificates
        self.listen(address, 443)

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


class Unbound:
    """A validating resolver for other programs, on 127.0.0.1, as in the tests' /etc/resolv.conf."""

    def __init__(self, bed, anchor):
        self.log = f"{bed.dir}/unbound.log"
        conf = f"{bed.dir}/unbound.conf"
        with open(conf, "w") as file:
            file.write(f"""server:
  interface: 127.0.0.1
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{bed.dir}"
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
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([f"{os.environ['POSTERN_UNBOUND']}/usr/sbin/unbound", "-d", "-c", conf], stderr=log, stdout=log,
                                            stdin=subprocess.DEVNULL)
        wait_for("unbound", lambda: can_connect("127.0.0.1", 53) or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)
        with open("/etc/resolv.conf", "w") as file:
            file.write("nameserver 127.0.0.1\noptions trust-ad edns0\n")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
