"""Real servers other than Postfix: Exim and OpenSMTPD as backends, and a scripted name server.

Debian allows only one installed mail server, so these two are unpacked. run.sh lays them under /usr and sets up
what they expect from the system.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import os
import pwd
import signal
import socket
import struct
import subprocess
import threading

from bed import BACKEND, can_connect, read, wait_for


class Server:
    """A process that listens on `port` of `host`."""

    def start(self, arguments, port, host=BACKEND):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        wait_for(arguments[0], lambda: can_connect(host, port) or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


class Exim(Server):
    """Accepts all mail into its queue and leaves it there."""

    def __init__(self, bed, port):
        bed.count += 1
        self.dir = f"{bed.dir}/exim-{bed.count}"
        self.log = f"{self.dir}/mainlog"
        os.mkdir(self.dir)
        os.chown(self.dir, pwd.getpwnam("Debian-exim").pw_uid, -1)
        with open(f"{self.dir}/conf", "w") as file:
            file.write(f"""primary_hostname = exim.example
exim_path = /usr/sbin/exim4
spool_directory = {self.dir}
log_file_path = {self.dir}/%slog
pid_file_path = {self.dir}/pid
daemon_smtp_ports = {port}
local_interfaces = {BACKEND}
hosts_proxy = 10.0.0.0/8
acl_smtp_rcpt = accept
queue_only = true
tls_advertise_hosts =
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
host_lookup =
keep_environment =
""")
        self.log = f"{self.dir}/output"
        self.start(["/usr/sbin/exim4", "-C", f"{self.dir}/conf", "-bdf"], port)

    def mails(self):
        return [read(path) for path in sorted(glob.glob(f"{self.dir}/input/*-H"))]


class OpenSMTPD(Server):
    """Accepts all mail for example.com and relays it to `next_port` of the same host."""

    def __init__(self, bed, port, next_port):
        bed.count += 1
        folder = f"{bed.dir}/smtpd-{bed.count}"
        self.log = f"{folder}/log"
        os.makedirs(f"{folder}/spool")
        os.chmod(f"{folder}/spool", 0o711)
        subprocess.run(["mount", "--bind", f"{folder}/spool", "/var/spool/smtpd"], check=True)
        # All instances on this machine share one path for the control socket.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        with open(f"{folder}/conf", "w") as file:
            file.write(f"""listen on {BACKEND} port {port} proxy-v2 hostname smtpd.example
action "on" relay host smtp://{BACKEND}:{next_port}
match from any for domain "example.com" action "on"
""")
        self.start(["/usr/sbin/smtpd", "-d", "-f", f"{folder}/conf"], port)

    def stop(self):
        super().stop()
        for path in ("/run", "/var/spool/smtpd"):
            subprocess.run(["umount", "--lazy", path], check=True)


class NameServer:
    """Answers over UDP and TCP from `records`: (name, type) -> values, a response code, or "silence". A name
    without records does not exist. Questions are kept in `asked`."""

    TYPES = {1: "A", 28: "AAAA", 12: "PTR"}

    def __init__(self, host, port, records):
        self.records, self.asked, self.closing = records, [], False
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((host, port))
        self.tcp = socket.create_server((host, port))
        self.threads = [threading.Thread(target=loop, daemon=True) for loop in (self.serve_udp, self.serve_tcp)]
        for thread in self.threads:
            thread.start()

    def serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not query:  # shut down
                return
            answer = self.answer(query)
            if answer:
                # longer answers must be asked for over TCP
                self.udp.sendto(answer if len(answer) <= 512 else self.answer(query, truncated=True), peer)

    def serve_tcp(self):
        while True:
            try:
                sock, _ = self.tcp.accept()
                with sock:
                    sock.settimeout(5)
                    query = sock.recv(4096)[2:]
                    answer = self.answer(query)
                    if answer:
                        sock.sendall(struct.pack(">H", len(answer)) + answer)
            except OSError:
                if self.closing:
                    return

    @staticmethod
    def wire(name):
        return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in name.split(".")) + b"\0"

    def answer(self, query, truncated=False):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        name, question = ".".join(labels).lower(), query[12:at + 5]
        kind_name = self.TYPES.get(kind, str(kind))
        self.asked.append((name, kind_name))
        known = any(n == name for n, _ in self.records)
        values = self.records.get((name, kind_name), [] if known else 3)
        if values == "silence":
            return None
        code, values = (values, []) if isinstance(values, int) else (0, values)
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(v)) + v
                           for v in (self.value(kind, v) for v in values))
        flags = 0x8580 | code | (0x0200 if truncated else 0)
        count = 0 if truncated else len(values)
        return query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + question + (b"" if truncated else records)

    def value(self, kind, text):
        if kind == 12:
            return self.wire(text)
        return socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, text)

    def close(self):
        """Closes the server and waits for its threads, so that the address is free."""
        self.closing = True
        for sock, thread in zip((self.udp, self.tcp), self.threads):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # of a datagram socket, which wakes all the same
            thread.join(10)
            sock.close()
