"""relay-out with 100,000 undeliverable messages in its spool: what they cost, and how fast other mail is beside them.

usage: tests/bench/run.sh queued.py [--messages N] [--text FILE]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import subprocess
import time

import servers
from bed import BUILD, RELAY, START_S, Bed, Sink, load, machine, wait_for

PORT = 2600
BESIDE = 2000  # messages that can be delivered, before and after
PATIENCE_S = 600
NOTES = """
One CPU for relay-out, the other for load generator and sink; 20 clients, messages of 4 KiB, one on a connection.
Made by: tests/bench/run.sh queued.py
"""


def beside(server, sink):
    """Messages per second that are delivered to hosts that can be reached."""
    before, began = sink.count(), time.monotonic()
    load(f"{RELAY}:{server.port}", messages=BESIDE, connections=20,
         recipients=[f"a@{domain}" for domain in servers.DESTINATIONS])
    wait_for("the sink to have them", lambda: sink.count() - before >= BESIDE, PATIENCE_S)
    return BESIDE / (time.monotonic() - began)


def relayctl(server, *command):
    """How many seconds it takes."""
    began = time.monotonic()
    subprocess.run([f"{BUILD}/relayctl", "queue", *command, "-c", server.conf], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def disk_mib(server):
    done = subprocess.run(["du", "-s", "-k", server.spool], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0]) / 1024


def store(server, count):
    spent = server.cpu_s()
    result = load(f"{RELAY}:{server.port}", messages=count, connections=20, recipients=["a@held.example"])
    if result["messages"] < count:
        raise RuntimeError(f"{result['messages']} of {count} messages stored: {result['error']}")
    return result["rate"], (server.cpu_s() - spent) * 1000 / count


def restart(server):
    """Seconds until it accepts connections."""
    server.stop()
    began = time.monotonic()
    server.start()
    return time.monotonic() - began - START_S


def deliver(server, count):
    """The next hop is back."""
    sink = Sink(servers.CLOSED_PORT)
    try:
        spent, began = server.cpu_s(), time.monotonic()
        relayctl(server, "retry", "all")
        wait_for("the queue to be delivered", lambda: sink.count() >= count, PATIENCE_S)
        return count / (time.monotonic() - began), (server.cpu_s() - spent) * 1000 / count
    finally:
        sink.stop()


def measured(server, sink, count):
    """Each line is a title and a value."""
    yield "messages a second to ten domains, the queue empty", "%.0f", beside(server, sink)
    yield "memory, MiB", "%.1f", server.pss_kib() / 1024
    rate, cpu_ms = store(server, count)
    yield f"{count:,} messages stored, a second", "%.0f", rate
    yield "  CPU ms for each, its first try included", "%.3f", cpu_ms
    yield "  memory, MiB", "%.1f", server.pss_kib() / 1024
    yield "  disk, MiB", "%.0f", disk_mib(server)
    yield "  messages a second to ten domains meanwhile", "%.0f", beside(server, sink)
    yield "  relayctl queue count, s", "%.2f", relayctl(server, "count")
    yield "  relayctl queue list, s", "%.2f", relayctl(server, "list")
    yield "started again, s until it listens", "%.2f", restart(server)
    yield "  messages a second to ten domains", "%.0f", beside(server, sink)
    yield "  memory, MiB", "%.1f", server.pss_kib() / 1024
    rate, cpu_ms = deliver(server, count)
    yield "the next hop is there again: delivered a second", "%.0f", rate
    yield "  CPU ms for each", "%.3f", cpu_ms
    yield "  memory, MiB", "%.1f", server.pss_kib() / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=100000)
    parser.add_argument("--text")
    options = parser.parse_args()
    bed = Bed()
    sink = Sink(servers.SINK_PORT)
    server = servers.RelayOutSpool(bed, PORT)
    lines = [machine()]
    print(lines[0])
    try:
        for title, form, value in measured(server, sink, options.messages):
            lines.append(f"{title:50} {form % value:>8}")
            print(lines[-1], flush=True)
    finally:
        server.stop()
        sink.stop()
        bed.close()
    if options.text:
        with open(options.text, "w") as file:
            file.write("\n".join(lines) + "\n" + NOTES)


if __name__ == "__main__":
    main()
