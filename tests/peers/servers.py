"""Real servers that are no Postfix, one class each, for others to configure.

Debian lets only one mail server be installed, so Exim and OpenSMTPD are unpacked; run.sh lays them under /usr and
puts what they expect of the system in place.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import pwd
import signal
import subprocess

from bed import can_connect, read, wait_for


class Server:
    """A process with a folder of its own, where its configuration and its log are."""

    def __init__(self, bed, name):
        bed.count += 1
        self.name, self.dir = name, f"{bed.dir}/{name}-{bed.count}"
        self.conf, self.log = f"{self.dir}/conf", f"{self.dir}/log"
        os.makedirs(self.dir)

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w") as file:
            file.write(text)

    def start(self, arguments, is_ready):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        wait_for(self.name, lambda: is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def stop(self):
        self.process.terminate()
        if self.process.returncode is None:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT  # its id must stay its own until the children are gone
            try:
                wait_for("the end", lambda: os.waitid(os.P_PID, self.process.pid, flags), 10)
            except AssertionError:
                pass
            os.killpg(self.process.pid, signal.SIGKILL)  # children would still write to the folder
        self.process.wait(10)

    def close(self):
        self.stop()


class Exim(Server):
    """It only queues, unless what is in `settings` delivers at once."""

    def __init__(self, bed, hosts, ports, settings):
        super().__init__(bed, "exim")
        os.chown(self.dir, pwd.getpwnam("Debian-exim").pw_uid, -1)
        self.write("conf", f"""exim_path = /usr/sbin/exim4
spool_directory = {self.dir}
log_file_path = {self.dir}/%slog
pid_file_path = {self.dir}/pid
local_interfaces = {" : ".join(hosts)}
daemon_smtp_ports = {" : ".join(str(port) for port in ports)}
queue_only = true
host_lookup =
keep_environment =
{settings}""")
        self.start(["/usr/sbin/exim4", "-C", self.conf, "-bdf"], lambda: can_connect(hosts[0], ports[0]))


class OpenSMTPD(Server):
    """One at a time: its control socket and its queue have one place in the system of the tests."""

    def __init__(self, bed, host, port, listen, settings):
        super().__init__(bed, "opensmtpd")
        self.write("conf", f"listen on {host} port {port} {listen}\n{settings}")
        self.start(["/usr/sbin/smtpd", "-d", "-f", self.conf], lambda: can_connect(host, port))


class HAProxy(Server):
    """README's configuration with other addresses and times: `binds` are (address, port), `source` is what the
    servers see, `backend` are lines for its group of servers."""

    def __init__(self, bed, binds, source, backend):
        super().__init__(bed, "haproxy")
        listen = "\n".join(f"    bind {address}:{port}" for address, port in binds)
        more = "\n".join(f"    {line}" for line in backend)
        self.write("conf", f"""
global
    log stderr format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 11m
    timeout server 11m
frontend smtp
{listen}
    default_backend relays
backend relays
    source {source}
{more}
""")
        self.start(["haproxy", "-db", "-f", self.conf], lambda: can_connect(*binds[0]))


class Knot(Server):
    """A name server at port 53 of `address`; `files` are its zone files, by name. It signs the root, whose key is
    in the file `anchor`, and the zones of `signed`. `zones`: their settings; they may sign by the policy "plain" (NSEC)
    or by one of `policies`."""

    def __init__(self, bed, address, files, zones, signed=(), policies=""):
        super().__init__(bed, "knot")
        os.mkdir(f"{self.dir}/keys")
        for name, text in files.items():
            self.write(f"{name}.zone", text)
        self.write("conf", f"""server:
  listen: {address}@53
  rundir: {self.dir}
control:
  listen: {self.dir}/control
database:
  storage: {self.dir}/keys
log:
  - target: stderr
    any: info
template:
  - id: default
    storage: {self.dir}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
policy:
  - id: plain
    algorithm: ECDSAP256SHA256
    single-type-signing: on
    nsec3: off
{policies}zone:
{zones}""")
        self.start(["knotd", "-c", self.conf], lambda: all(
            f"[{zone}] DNSSEC, successfully signed" in read(self.log) for zone in (".", *signed)))
        wait_for("the DNS", lambda: can_connect(address, 53))
        self.anchor = f"{bed.dir}/root.key"
        with open(self.anchor, "w") as file:
            file.write(self.keys(".", "dnskey"))

    def keys(self, zone, kind):
        return subprocess.run(["keymgr", "-c", self.conf, zone, kind], check=True, capture_output=True, text=True).stdout

    def reload(self):
        """Reads the file of the root zone again."""
        subprocess.run(["knotc", "-c", self.conf, "-b", "zone-reload", "."], check=True, capture_output=True)
