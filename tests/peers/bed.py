"""The test bed: relay-in, a Postfix of our own, clients.

Everything lives in one scratch folder and in the network namespace that run.sh makes. Every wait is
bounded, and processes are ended by pid. SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import postfix
from waits import can_connect, read, wait_for

BUILD = os.environ["POSTERN_BUILDDIR"]
CLIENT4, CLIENT6, OTHER4 = "198.51.100.7", "2001:db8::7", "198.51.100.8"
RELAY4, RELAY6 = "203.0.113.5", "2001:db8::1"
BACKEND = "10.0.0.2"
POSTFIX_PORT, SCRIPTED_PORT = 2525, 2600
SLOW = 1  # factor for time limits; larger under sanitizers

# Every way to write an address that is not refused for its form.
LENIENCIES = ["<{}>", "{}", " {}", "<<{}>>", "<{}>>", "<{}>;", "< {} >", "<(c){}(c)>", "Joe<{}>", '<"Joe D." <{}>>', "<{}.>",
              "<@example.com:{}>", "<@other.example,@example.com:{}>", "<.{}>"]


def is_sanitized():
    libraries = subprocess.run(["ldd", f"{BUILD}/relay-in"], capture_output=True, text=True).stdout
    return re.search(r"lib[at]san", libraries) is not None


def fail2ban_finds(bed, log, program):
    """The addresses that our login filter finds in the daemon's log, one per line."""
    folder = f"{bed.dir}/filter.d"
    os.makedirs(folder, exist_ok=True)
    shutil.copy("/etc/fail2ban/filter.d/common.conf", folder)
    shutil.copy(f"{os.path.dirname(__file__)}/../../data/fail2ban/filter-auth.conf", folder)
    path = f"{bed.dir}/fail2ban.log"
    with open(path, "w") as file:
        file.writelines(time.strftime("%b %d %H:%M:%S ") + f"host {program}[123]: {line}\n" for line in log.splitlines())
    out = subprocess.run(["fail2ban-regex", "-o", "ip", path, f"{folder}/filter-auth.conf"], capture_output=True,
                         text=True, timeout=60).stdout
    return [line for line in out.splitlines() if re.fullmatch(r"[0-9a-f.:]+", line)]


class Bed:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="postern-test-")
        os.chmod(self.dir, 0o755)
        self.cert, self.key = self.make_certificate("relay", "ec")
        self.count = 0

    def make_certificate(self, name, kind="ec"):
        cert, key = f"{self.dir}/{name}.crt", f"{self.dir}/{name}.key"
        new = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
               "rsa": ["-newkey", "rsa:2048"]}[kind]
        subprocess.run(["openssl", "req", "-x509", *new, "-nodes", "-days", "90", "-subj",
                        f"/CN={name}.example", "-keyout", key + ".new", "-out", cert + ".new"],
                       check=True, capture_output=True)
        os.chmod(key + ".new", 0o644)
        os.rename(key + ".new", key)
        os.rename(cert + ".new", cert)
        return cert, key

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Postfix:
    """A real Postfix. `extra` goes into main.cf; the usual settings in `without` are left out."""

    def __init__(self, bed, name, listen, extra, services="", without=()):
        self.dir = f"{bed.dir}/{name}"
        if os.path.exists(self.dir):  # another scenario's, ended by now
            bed.count += 1
            self.dir += f"-{bed.count}"
        self.config, self.queue, self.mail = (f"{self.dir}/{d}" for d in ("etc", "queue", "mail"))
        self.log = f"{self.dir}/log"
        nobody = pwd.getpwnam("nobody")
        os.makedirs(self.mail)
        os.chown(self.mail, nobody.pw_uid, nobody.pw_gid)
        usual = f"""myhostname = {name}.example
inet_interfaces = {BACKEND}, 10.0.0.1
inet_protocols = all
virtual_mailbox_limit = 0
smtputf8_enable = yes
virtual_mailbox_base = {self.mail}
virtual_uid_maps = static:{nobody.pw_uid}
virtual_gid_maps = static:{nobody.pw_gid}
virtual_mailbox_domains = example.com
virtual_mailbox_maps = inline:{{ {{a@example.com = a/}}, {{b@example.com = b/}}, {{postmaster@example.com = p/}} }}
smtpd_error_sleep_time = 0
"""
        postfix.lay_out(self.dir, listen, (bed.cert, bed.key), (usual, extra), services, without)
        start = subprocess.run(["postfix", "-c", self.config, "start"], capture_output=True,
                               text=True, timeout=60)
        assert start.returncode == 0, start.stderr + read(self.log)
        host, port = listen.rsplit(":", 1)
        wait_for("Postfix", lambda: can_connect(host, int(port)))

    def stop(self):
        subprocess.run(["postfix", "-c", self.config, "stop"], capture_output=True, timeout=60)

    def mails(self, user):
        folder = f"{self.mail}/{user}/new"
        if not os.path.isdir(folder):
            return []
        return sorted(f"{folder}/{name}" for name in os.listdir(folder))

    def clear(self):
        for user in os.listdir(self.mail):
            shutil.rmtree(f"{self.mail}/{user}", ignore_errors=True)  # one may be arriving

    def wait_mail(self, user, count=1, seconds=20):
        wait_for(f"{count} mail(s) for {user}", lambda: len(self.mails(user)) >= count, seconds)
        with open(self.mails(user)[0], "rb") as file:
            return file.read()


class Relay:
    """relay-in under test. `settings` are the lines that differ."""

    program = "relay-in"
    spool = None
    last = None  # that was started

    def __init__(self, bed, backend_port=POSTFIX_PORT, top="", inner="", backend="", limits="",
                 timeouts="", listen='"[::]:25"', reverse_dns="false", hosts=None, identity="xclient",
                 retry_after="0", domains='"example.com"', user="nobody", tls="",
                 state="", wait=True, **more_env):
        bed.count += 1
        Relay.last = self
        self.bed = bed
        self.conf = f"{bed.dir}/relay-{bed.count}.conf"
        self.log = f"{bed.dir}/relay-{bed.count}.log"
        self.settings = dict(backend_port=backend_port, top=top, inner=inner, backend=backend,
                             limits=limits, timeouts=timeouts, listen=listen, reverse_dns=reverse_dns,
                             hosts=hosts or f'"{BACKEND}:{backend_port}"', identity=identity,
                             retry_after=retry_after, domains=domains, user=user, tls=tls, state=state)
        self.write_conf()
        environment = {"ASAN_OPTIONS": "detect_leaks=0", **os.environ, **more_env}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([f"{BUILD}/{self.program}", "-c", self.conf], stderr=log,
                                            stdin=subprocess.DEVNULL, env=environment)
        if wait:
            wait_for(self.program, lambda: "event=start" in read(self.log) or
                     self.process.poll() is not None)
            assert self.process.poll() is None, f"{self.program} did not start: {read(self.log)[-600:]}"
            assert not re.search(rf"^{self.program}: ", read(self.log), re.M), "it started, and named an error"

    def write_conf(self, **changes):
        s = dict(self.settings, **changes)
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "relay.example";
user = "{s['user']}";
tls = {{ certificates = ( {{ cert = "{self.bed.cert}"; key = "{self.bed.key}"; }} ); {s['tls']} }};
in = {{
  listen = [ {s['listen']} ];
  domains = [ {s['domains']} ];
  reverse_dns = {s['reverse_dns']};
  state = "{s['state']}";
  backend = {{ hosts = [ {s['hosts']} ]; identity = "{s['identity']}"; retry_after = {s['retry_after']};
               {s['backend']} }};
  limits = {{ junk_commands = 1000; {s['limits']} }};
  timeouts = {{ park_after = "300ms"; {s['timeouts']} }};
  {s['inner']}
}};
log = {{ level = "debug"; }};
{s['top']}
""")

    def peak_kib(self):
        return int(re.search(r"VmHWM:\s+(\d+)", read(f"/proc/{self.process.pid}/status")).group(1))

    def stop(self, seconds=15):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.program} did not end after SIGTERM")
        log = read(self.log)
        assert not re.search(r"Sanitizer|runtime error", log), "a sanitizer has complained"
        assert status == 0, f"{self.program} ended with status {status}"


class ForcedOut(Relay):
    """relay-out in relay-in's place: for the same clients, which its list allows, and with forced routes to
    the same server (`hosts_out`: domain -> port, for more than one). Takes relay-in's settings."""

    program = "relay-out"
    delivery = "live"

    def __init__(self, bed, hosts_out=None, outer="", **settings):
        self.hosts_out, self.outer = hosts_out, outer
        self.spool = f"{bed.dir}/spool-{bed.count + 1}"
        os.makedirs(self.spool)
        nobody = pwd.getpwnam("nobody")
        os.chown(self.spool, nobody.pw_uid, nobody.pw_gid)
        super().__init__(bed, **settings)

    def timeouts(self):
        """relay-in's deadlines for its backend, under relay-out's names."""
        told = dict(re.findall(r'(\w+) = ("\w+");', self.settings["backend"]))
        names = {"reply": "command_timeout", "greeting": "command_timeout", "final": "reply_timeout"}
        return " ".join(f"{name} = {told[theirs]};" for name, theirs in names.items() if theirs in told)

    def write_conf(self, **changes):
        s = dict(self.settings, **changes)
        hosts = self.hosts_out or {"example.com": s["backend_port"]}
        routes = "".join(f'{{ domain = "{d}"; next_hop = "{BACKEND}:{p}"; }}, ' for d, p in hosts.items())
        limits = re.sub(r"refused_recipients = \d+;", "", s["limits"])
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "relay.example";
user = "{s['user']}";
dns = {{ servers = [ "127.0.0.1:5300" ]; validate = false; }};
tls = {{ certificates = ( {{ cert = "{self.bed.cert}"; key = "{self.bed.key}"; }} ); {s['tls']} }};
out = {{
  listen = [ {s['listen']} ];
  allow = [ "{CLIENT4}", "{OTHER4}", "{CLIENT6}" ];
  routes = ( {routes} {{ domain = "*"; action = "deny"; }} );
  bounce_route = {{ next_hop = [ "{BACKEND}:{s['backend_port']}" ]; }};
  delivery = "{self.delivery}"; spool = "{self.spool}"; spool_reserve = 0; retry = [ "1s" ]; dead_for = "0s";
  limits = {{ junk_commands = 1000; {limits} }};
  timeouts = {{ park_after = "300ms"; {self.timeouts()} {s['timeouts']} }};
  {s['inner']} {self.outer}
}};
log = {{ level = "debug"; }};
{s['top']}
""")

    def waiting(self):
        """Messages in the spool: {sender: waiting recipients}."""
        found = {}
        for path in glob.glob(f"{self.spool}/queue/*.env"):
            text = read(path)
            sender = re.search(r"^sender <(.*)>", text, re.M)
            if sender:
                found[sender[1]] = re.findall(r"^recipient <(.*)>\n(?: .*\n)*? state queued", text, re.M)
        return found

    def wait_empty(self, seconds=10):
        """Waits until everything in the spool is delivered, or no longer changes."""
        try:
            wait_for("an empty spool", lambda: not self.waiting(), seconds)
        except AssertionError:
            pass


class StoringOut(ForcedOut):
    delivery = "spool"


SIDES = {"in": Relay, "out": ForcedOut, "spool": StoringOut}


class Client:
    """An SMTP client that does exactly what it is told."""

    def __init__(self, source=CLIENT4, host=None, port=25, timeout=20):
        v6 = ":" in source
        self.sock = socket.create_connection((host or (RELAY6 if v6 else RELAY4), port), timeout,
                                             source_address=(source, 0))
        # Don't count the client's own Nagle delay as our latency.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def reply(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("connection closed")
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if len(line) < 4 or line[3:4] != b"-":
                return int(lines[-1][:3]), "\n".join(lines)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def cmd(self, line, expect=None):
        self.send(line + "\r\n")
        code, text = self.reply()
        if expect is not None and code != expect:
            raise AssertionError(f"{line!r}: expected {expect}, got {text!r}")
        return code, text

    def hello(self, name="client.example"):
        assert self.reply()[0] == 220
        return self.cmd(f"EHLO {name}", 250)[1]

    def starttls(self, name="client.example"):
        self.cmd("STARTTLS", 220)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname="relay.example")
        self.file = self.sock.makefile("rb")
        return self.cmd(f"EHLO {name}", 250)[1]

    def envelope(self, *recipients, sender="s@sender.example"):
        self.cmd(f"MAIL FROM:<{sender}>", 250)
        return [self.cmd(f"RCPT TO:<{r}>")[0] for r in recipients]

    def data(self, body):
        self.cmd("DATA", 354)
        self.send(body if isinstance(body, bytes) else body.encode())
        self.send(".\r\n")
        return self.reply()

    def gone(self):
        """True if the server closes without another reply."""
        try:
            return self.file.readline() == b""
        except OSError:
            return True

    def close(self):
        self.file.close()
        self.sock.close()

    def kill(self):
        """Closes with RST instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()
