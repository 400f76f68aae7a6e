"""How long a message takes over a tunnel with a round trip of 30 ms.

One client is beside relay-in, another is as far away again; the round trips of its own line are subtracted. Also how
long the first message takes after a start and after an outage of the tunnel.

The tunnel is a real line (tunnel.c), so that TCP's own flights count. SPDX-License-Identifier:
GPL-3.0-or-later
"""
import os
import shutil
import socket
import statistics
import subprocess
import time

import servers
from bed import OUTSIDE, RELAY, Bed, Tunnel, read, wait_for

ROUND_MS = 30
MESSAGES = 11
STARTS = 5
OUTAGE_AFTER_S = 7  # more than retry_after


class Cold(servers.RelayIn):
    name = "cold"
    backend = "spares = 0;"


class Warm(servers.RelayIn):
    name = "warm"
    backend = "spares = 2;"


class Client:
    def __init__(self, port, away_ms):
        self.away, self.trips = away_ms / 1000, 0
        self.sock = socket.create_connection((RELAY, port), 10, source_address=(OUTSIDE, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def replies(self, count=1):
        for _ in range(count):
            while True:
                line = self.file.readline()
                if line[3:4] != b"-":
                    break
            assert line[:1] in b"23", line

    def say(self, text, count=1):
        time.sleep(self.away)  # a round trip of its own line
        self.trips += 1
        self.sock.sendall(text)
        self.replies(count)

    def greet(self):
        self.replies()
        self.say(b"EHLO client.example\r\n")

    def message(self, pipelining):
        began, self.trips = time.monotonic(), 0
        commands = [b"MAIL FROM:<s@load.example>\r\n", b"RCPT TO:<a@example.com>\r\n", b"DATA\r\n"]
        if pipelining:
            self.say(b"".join(commands), 3)
        else:
            for command in commands:
                self.say(command)
        self.say(b"Subject: x\r\n\r\n" + b"text\r\n" * 600 + b".\r\n")
        return (time.monotonic() - began - self.trips * self.away) * 1000

    def close(self):
        self.sock.sendall(b"QUIT\r\n")
        self.file.close()
        self.sock.close()


def first_message(server):
    client = Client(server.port, 0)
    client.greet()
    took = client.message(False)
    client.close()
    return took


def after_start(bed, kind, port, after_s):
    """The median over some starts."""
    started = type("Started", (kind,), {"name": "started", "rest_s": after_s})
    times = []
    for _ in range(STARTS):
        server = started(bed, port)
        try:
            times.append(first_message(server))
        finally:
            server.stop()
            forget(bed, server)
    return statistics.median(times)


def forget(bed, server):
    shutil.rmtree(server.dir)
    os.rmdir(server.group)
    bed.own.remove(server.group)


def after_outage(server, after_s):
    """Measures the first message so long after the tunnel is back; the outage has ended the spares."""
    rule = ["pref", "100", "to", "10.0.0.2", "blackhole"]
    subprocess.run(["ip", "rule", "add", *rule], check=True)
    try:
        wait_for("the outage", lambda: "event=backend status=down" in read(server.log), 60)
    finally:
        subprocess.run(["ip", "rule", "del", *rule], check=True)
    time.sleep(after_s)
    return first_message(server)


def say(what, ms):
    print(f"{what} {ms:.0f} ({ms / ROUND_MS:.1f})", flush=True)


def first_and_later(server, pipelining, away_ms):
    first, later = [], []
    for _ in range(MESSAGES):
        client = Client(server.port, away_ms)
        client.greet()
        first.append(client.message(pipelining))
        later.append(client.message(pipelining))
        client.close()
        time.sleep(0.3)  # a new spare takes three flights
    return statistics.median(first), statistics.median(later)


def main():
    bed = Bed()
    tunnel = Tunnel(ROUND_MS, servers.SINK_PORT)
    running = []
    try:
        for number, kind in enumerate((Cold, Warm)):
            running.append(kind(bed, 2600 + number))
        time.sleep(1)
        print(f"tunnel of {ROUND_MS} ms there and back; medians of {MESSAGES}; ms (flights)")
        for server in running:
            for pipelining, away_ms in (False, 0), (False, ROUND_MS), (True, 0):
                first, later = first_and_later(server, pipelining, away_ms)
                print(f"{server.name}, {'pipelining' if pipelining else 'step by step'}"
                      f"{f' from {away_ms} ms away' if away_ms else ''}: "
                      f"first message {first:.0f} ({first / ROUND_MS:.1f}), "
                      f"next on the connection {later:.0f} ({later / ROUND_MS:.1f})")
        for kind, after_ms in (Cold, 500), (Warm, 0), (Warm, 30), (Warm, 60), (Warm, 500):
            say(f"{kind.name}, step by step: first message {after_ms} ms after a start",
                after_start(bed, kind, 2610, after_ms / 1000))
        for server in running:
            say(f"{server.name}, step by step: first message {OUTAGE_AFTER_S} s after an outage",
                after_outage(server, OUTAGE_AFTER_S))
    finally:
        for server in running:
            server.stop()
        tunnel.stop()
        bed.close()


if __name__ == "__main__":
    main()
