"""Memory of relay-in: idle, with a crowd of clients, and a minute after each crowd has gone.

Proportional set size in KiB with the default number of workers, and the part of it that belongs to no file, which does
not depend on other users of the same libraries. The crowds come one after the other: idle connections under TLS,
messages under TLS from many clients at once, and clients that stop in the middle of their message. Fails if more than
twice the idle figure is left.

usage: tests/bench/run.sh memory.py [--maps] [--calm SECONDS]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import collections
import re
import socket
import sys
import time

from bed import RELAY, SOURCES, Bed, Sink, Standing, load, read
from servers import SINK_PORT, RelayIn

PORT = 2640
CROWD = 2000
MANY_AT_ONCE = 300
SLOW = 300
CALM_S = 60
RATIO_MAX = 2  # of the idle figure, after CALM_S without clients


class Default(RelayIn):
    workers = 64


class SlowSenders:
    """Clients that have sent half a message and send nothing more."""

    def __init__(self, count):
        self.sockets = []
        for number in range(count):
            source = (SOURCES[number % len(SOURCES)], 0)
            sock = socket.create_connection((RELAY, PORT), 10, source_address=source)
            self.sockets.append(sock)
            self.reply(sock)
            for line in (b"EHLO client.example", b"MAIL FROM:<s@load.example>",
                         b"RCPT TO:<a@example.com>", b"DATA"):
                sock.sendall(line + b"\r\n")
                self.reply(sock)
            sock.sendall(b"Subject: slow\r\n\r\n" + b"text\r\n" * 400)

    @staticmethod
    def reply(sock):
        text = b""
        while not re.search(rb"^\d{3} .*\r\n\Z", text, re.M):
            text += sock.recv(4096)
        assert text[:1] in b"23", text

    def close(self):
        for sock in self.sockets:
            sock.close()


def maps(server):
    """What it is."""
    sums = collections.Counter()
    for line in read(f"/proc/{server.pids()[0]}/smaps").splitlines():
        head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)", line)
        if head:
            name = "files" if head.group(1).startswith("/") else head.group(1) or "arenas"
        elif line.startswith("Size:") and name == "arenas" and int(line.split()[1]) == 256:
            name = "threads' stacks"
        elif line.startswith("Pss:"):
            sums[name] += int(line.split()[1])
    return ", ".join(f"{name} {kib}" for name, kib in sums.most_common() if kib)


class Report:
    def __init__(self, server, with_maps):
        self.server, self.with_maps = server, with_maps
        print(f"{'KiB':32} {'PSS':>8} {'own':>8}  times idle")
        self.idle = self.say("idle")

    def say(self, what, each_of=None, before=0):
        rollup = read(f"/proc/{self.server.pids()[0]}/smaps_rollup")
        kib, own = (int(re.search(rf"^{name}:\s+(\d+)", rollup, re.M).group(1))
                    for name in ("Pss", "Pss_Anon"))
        ratio = f"{kib / self.idle:6.2f}" if what != "idle" else ""
        each = f"; {(kib - before) / each_of:.1f} KiB each" if each_of else ""
        print(f"{what:32} {kib:8,} {own:8,}  {ratio}{each}".rstrip(), flush=True)
        if self.with_maps:
            print(f"    {maps(self.server)}", flush=True)
        return kib


def crowds():
    """Name, how it is started, what it counts."""
    target = f"{RELAY}:{PORT}"
    yield f"{CROWD} idle under TLS", lambda: Standing(target, CROWD, tls="new"), CROWD
    yield (f"{MANY_AT_ONCE} sending under TLS",
           lambda: load(target, connections=MANY_AT_ONCE, messages=4 * MANY_AT_ONCE, tls="new"), None)
    yield f"{SLOW} slow in mid-message", lambda: SlowSenders(SLOW), SLOW


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--maps", action="store_true", help="what the memory is")
    parser.add_argument("--calm", type=int, default=CALM_S, help="seconds")
    options = parser.parse_args()
    bed = Bed()
    sink = Sink(SINK_PORT)
    server = Default(bed, PORT)
    left = []
    try:
        report = Report(server, options.maps)
        for name, start, count in crowds():
            before = server.pss_kib()
            crowd = start()
            time.sleep(2)
            report.say(name, count, before)
            if count:
                crowd.close()
            time.sleep(options.calm)
            left.append(report.say(f"  {options.calm} s later"))
        worst = max(left) / report.idle
        print(f"afterwards at most {worst:.2f} times idle ({RATIO_MAX} are allowed)")
    finally:
        server.stop()
        sink.stop()
        bed.close()
    sys.exit(1 if worst > RATIO_MAX else 0)


if __name__ == "__main__":
    main()
