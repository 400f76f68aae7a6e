"""The bed of all measurements: control groups, servers, the sink, the load generator.

The server under test has one CPU, load generator and sink have the other. CPU time is what the kernel counts for the
server's control group, so it includes all of its processes, even those that have ended.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../peers"))
from waits import can_connect, read, wait_for  # noqa: E402

BUILD = os.environ["POSTERN_BUILDDIR"]
RELAY, SINK, OUTSIDE, INSIDE = "203.0.113.5", "10.0.0.2", "198.51.100.7", "10.0.0.1"
SOURCES = [f"198.51.100.{n}" for n in range(7, 17)]
CPUS = sorted(os.sched_getaffinity(0))
IMAGE_OCTETS = 4 << 30  # sparse
START_S = 0.5  # for what a server still does once it listens
SERVER_CPU, LOAD_CPU = str(CPUS[0]), str(CPUS[-1])  # with one CPU they share it


def busy_s():
    """CPU seconds that the whole machine has spent since it booted."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


class Bed:
    """The scratch folder and the root of the control groups. With `file_system`, the folder is on a new one of that
    type with mkfs's defaults, in an image that is mounted for as long."""

    def __init__(self, file_system=None):
        # So that everything that was started is ended in any case.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self.top = self.dir = tempfile.mkdtemp(prefix="postern-bench-")
        os.chmod(self.top, 0o755)
        self.file_system = file_system
        if file_system:
            self.dir = self.mount_image()
        self.groups = f"{self.dir}/cgroup"
        os.mkdir(self.groups)
        subprocess.run(["mount", "-t", "cgroup2", "none", self.groups], check=True)
        self.own = []
        self.certificate = f"{self.dir}/cert.pem"
        self.key = f"{self.dir}/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                        "/CN=relay.example", "-addext", "subjectAltName=DNS:relay.example",
                        "-keyout", self.key, "-out", self.certificate],
                       check=True, capture_output=True)
        os.chmod(self.key, 0o644)

    def mount_image(self):
        image, folder = f"{self.top}/image", f"{self.top}/mounted"
        with open(image, "wb") as file:
            file.truncate(IMAGE_OCTETS)
        subprocess.run([f"mkfs.{self.file_system}", "-q", image], check=True)
        os.mkdir(folder)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        return folder

    def group(self, name):
        path = f"{self.groups}/{os.path.basename(self.top)}-{name}"
        os.mkdir(path)
        self.own.append(path)
        return path

    def close(self):
        for path in self.own:
            wait_for("the end of a server", lambda: not read(f"{path}/cgroup.procs").strip())
            os.rmdir(path)
        subprocess.run(["umount", self.groups], check=True)
        if self.file_system:
            subprocess.run(["umount", self.dir], check=True)
        shutil.rmtree(self.top, ignore_errors=True)


class Server:
    """A server in its own control group, on one CPU. Subclasses say how it is set up and started."""

    name = "?"
    tls = True          # it terminates TLS itself
    pipelining = True
    standing = 1000     # idle clients to measure one by; fewer if each has a process of its own
    rest_s = START_S    # it is left alone for this time once it listens
    relays_now = True   # a message that it has accepted is at the sink already

    def __init__(self, bed, port):
        self.bed, self.port = bed, port
        self.dir = f"{bed.dir}/{self.name}"
        os.mkdir(self.dir)
        self.group = bed.group(self.name)
        self.log = f"{self.dir}/log"
        self.set_up()
        self.start()

    def start(self):
        command = self.command()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, preexec_fn=self.confine)
        try:
            wait_for(f"{self.name} to listen", lambda: can_connect(RELAY, self.port, OUTSIDE))
        except AssertionError as error:
            self.stop()
            raise RuntimeError(f"{error}:\n{read(self.log)[-2000:]}") from None
        time.sleep(self.rest_s)

    def confine(self):
        with open(f"{self.group}/cgroup.procs", "w") as file:
            file.write("0")
        os.sched_setaffinity(0, {int(SERVER_CPU)})
        os.setsid()

    def set_up(self):
        pass

    def write(self, name, text, mode=0o644):
        path = f"{self.dir}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def pids(self):
        return [int(pid) for pid in read(f"{self.group}/cgroup.procs").split()]

    def cpu_s(self):
        return int(re.search(r"usage_usec (\d+)", read(f"{self.group}/cpu.stat")).group(1)) / 1e6

    def pss_kib(self):
        total = 0
        for pid in self.pids():
            found = re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.M)
            total += int(found.group(1)) if found else 0
        return total

    def settle(self, seconds=60):
        """Waits until the work that is left after the last answer is done."""

    def stop(self):
        """Ends the processes of this control group and no others."""
        self.process.send_signal(signal.SIGTERM)
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids() if number else []:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(5)
                wait_for(f"{self.name} to end", lambda: not self.pids(), 5)
                return
            except (subprocess.TimeoutExpired, AssertionError):
                continue


class Sink:
    def __init__(self, port, *options):
        self.port = port
        self.preface = b"PROXY UNKNOWN\r\n" if "--proxy" in options else b""
        self.process = subprocess.Popen(
            ["taskset", "-c", LOAD_CPU, f"{BUILD}/tests/bench/sink", *options, f"{SINK}:{port}"])
        wait_for("the sink", lambda: can_connect(SINK, port, OUTSIDE))

    def count(self):
        with socket.create_connection((SINK, self.port), 5) as connection:
            file = connection.makefile("r")
            file.readline()
            connection.sendall(self.preface + b"VRFY count\r\n")
            return int(file.readline().split()[2])

    def cpu_s(self):
        fields = read(f"/proc/{self.process.pid}/stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Tunnel:
    """A line to the sink, of some milliseconds there and back (tunnel.c). It makes both ends' addresses itself."""

    def __init__(self, round_ms, port, *options):
        for address in INSIDE, SINK:
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)
        self.process = subprocess.Popen([f"{BUILD}/tests/bench/tunnel", str(round_ms // 2),
                                         f"{BUILD}/tests/bench/sink", *options, f"{SINK}:{port}"])
        wait_for("the far end", lambda: can_connect(SINK, port))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        for address in INSIDE, SINK:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)


def load_command(target, **options):
    command = ["taskset", "-c", LOAD_CPU, f"{BUILD}/tests/bench/load", "--json"]
    command += [f"--source={source}" for source in options.pop("sources", SOURCES)]
    command += [f"--to={recipient}" for recipient in options.pop("recipients", [])]
    for name, value in options.items():
        name = name.replace("_", "-")
        command.append(f"--{name}" if value is True else f"--{name}={value}")
    return command + [target]


def load(target, **options):
    """Makes one run. Errors are in the result."""
    done = subprocess.run(load_command(target, **options), capture_output=True, text=True,
                          timeout=300)
    if not done.stdout.startswith("{"):
        raise RuntimeError(f"the load generator failed: {done.stderr}")
    return dict(json.loads(done.stdout), error=done.stderr.strip())


class Standing:
    """Connections that are open and do nothing."""

    def __init__(self, target, count, kind="idle", tls="none", sources=None):
        self.process = subprocess.Popen(
            load_command(target, connections=count, tls=tls, **{kind: True},
                         sources=sources or SOURCES),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        self.standing, self.broken = int(words[0]), int(words[2])

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def measure(server, sink, seconds=60, messages=10**9, warm_s=0.1, **options):
    """Makes one run that ends after `seconds` or `messages`, whichever comes first; a short one before it warms up."""
    target = f"{RELAY}:{server.port}"
    if warm_s > 0:
        load(target, messages=10**9, seconds=warm_s, **options)
    server.settle()
    before, all_before, taken = server.cpu_s(), busy_s(), sink.count()
    own, sink_before = os.times(), sink.cpu_s()
    began = time.monotonic()
    result = load(target, messages=messages, seconds=seconds, **options)
    server.settle()
    elapsed = time.monotonic() - began
    spent = server.cpu_s() - before
    own = sum(os.times()[2:4]) - sum(own[2:4])
    if result["messages"] > 0:
        result["cpu_ms"] = spent * 1000 / result["messages"]
    result["lost"] = result["messages"] - (sink.count() - taken)
    result["elapsed"] = elapsed
    # In CPUs: what processes other than server, generator and sink have used.
    ours = spent + own + sink.cpu_s() - sink_before
    result["foreign"] = max(0, busy_s() - all_before - ours) / elapsed
    return result


def system_calls(server, messages, **options):
    """System calls per message by name, until it is delivered. With one client, because strace slows down the server."""
    text = f"{server.dir}/strace"
    tracer = subprocess.Popen(["strace", "-qq", "-f", "-c", "-U", "calls,name", "-o", text,
                               *(f"--attach={pid}" for pid in server.pids())], stderr=subprocess.DEVNULL)
    try:
        wait_for("strace", lambda: all(f"TracerPid:\t{tracer.pid}\n" in read(f"/proc/{pid}/status")
                                       for pid in server.pids()))
        load(f"{RELAY}:{server.port}", messages=messages, connections=1, **options)
        server.settle()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    found = re.findall(r"^\s*(\d+) (\w+)$", read(text), re.M)
    return {name: int(count) / messages for count, name in found if name != "total"}


def file_system_of(folder):
    """Its type and mount options, and for ext4 whether it has a journal."""
    found = subprocess.run(["findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "--target", folder],
                           check=True, capture_output=True, text=True)
    source, kind, options = found.stdout.split()
    if kind == "ext4" and not glob.glob(f"/proc/fs/jbd2/{os.path.basename(source)}-*"):
        kind += " without a journal"
    return f"{kind} ({options})"


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}"
