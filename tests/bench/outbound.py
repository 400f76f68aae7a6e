"""relay-out beside Postfix as a relayhost and Haraka's outbound queue: mail for ten domains, delivered to the sink.

Measures what a message costs, as bench.py does; its system calls; the rate that nine domains keep while the tenth one's
next hop does not answer; and the memory that 10,000 undeliverable messages take.

usage: tests/bench/outbound [--servers NAME,...] [--rounds N] [--seconds S] [--queued N] [--text FILE] [--json FILE]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import subprocess
import sys
import time

import servers
from bed import RELAY, load, load_command, system_calls
from bench import Row, about, cell, parser, publish, run, summarise, table

TRACED = 100
RECIPIENTS = [f"a@{domain}" for domain in servers.DESTINATIONS]
ROWS = [Row(name, title, dict(options, recipients=RECIPIENTS)) for name, title, options in (
    ("one", "one client at a time", dict(connections=1)),
    ("twenty", "twenty clients", dict(connections=20)),
    ("kept", "twenty, connections kept", dict(connections=20, per_connection=1000)),
)]
BESIDE_DEAD = 1800  # messages for the nine others
FOR_DEAD, DEAD_CLIENTS = 200, 2
PATIENCE_S = 45
OTHERS = [
    ("calls", "system calls for a message", "%.0f"),
    ("idle", "memory when idle, MiB", "%.1f"),
    ("loaded", "after twenty clients, MiB", "%.1f"),
    ("queued", "with %s queued, MiB", "%.1f"),
    ("well", "nine domains, the tenth well, messages/s", "%.0f"),
    ("beside_dead", "nine domains, the tenth dead, messages/s", "%.0f"),
]
NOTES = """
One CPU for the server, the other for load generator and sink; messages of 4 KiB for ten domains, one on a connection
where it is not kept. The rows count until the queue is empty: in rounds this short the way of the last messages
weighs; the nine domains' figures count what reaches the sink. relay-out delivers while the client waits or, as
relay-out-spool, from its spool; the others queue. What a live one cannot deliver stays where it was: it queues
nothing here. The dead next hop answers no connection; 200 messages for it came first. Memory is PSS of all processes.
Made by: tests/bench/outbound
"""


def nine(server, sink):
    """Messages per second that are delivered to nine domains."""
    before, began = sink.count(), time.monotonic()
    load(f"{RELAY}:{server.port}", messages=BESIDE_DEAD, connections=18, recipients=RECIPIENTS[:9])
    while sink.count() - before < BESIDE_DEAD and time.monotonic() - began < PATIENCE_S:
        time.sleep(0.02)
    return (sink.count() - before) / (time.monotonic() - began)


def beside_dead(server, sink):
    """The same while mail waits for a next hop that does not answer."""
    options = dict(messages=FOR_DEAD, connections=DEAD_CLIENTS, recipients=["a@dead.example"])
    process = subprocess.Popen(load_command(f"{RELAY}:{server.port}", **options), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        pass  # it is waiting for the answer
    try:
        return nine(server, sink)
    finally:
        process.kill()
        process.wait()


def with_queue(server, count):
    """MiB with so many undeliverable messages."""
    result = load(f"{RELAY}:{server.port}", messages=count, connections=20, recipients=["a@held.example"])
    if result["messages"] < count:
        raise RuntimeError(f"{server.name}: {result['messages']} of {count} messages queued: {result['error']}")
    return server.pss_kib() / 1024


def others(server, sink, count):
    print(f"# {server.name}: calls, a dead next hop, a queue", file=sys.stderr)
    found = {"calls": sum(system_calls(server, TRACED, recipients=RECIPIENTS).values()), "well": nine(server, sink)}
    server.settle()
    found["beside_dead"] = beside_dead(server, sink)
    if not server.relays_now:
        found["queued"] = with_queue(server, count)
    return found


def report(summary, head, count):
    names = list(summary)

    def of_rows(key, form):
        return [(row.title, [cell(form, summary[name]["rows"][row.name].get(key)) for name in names]) for row in ROWS]
    rest = [(title % f"{count:,}" if "%" in title else title, [cell(form, summary[name]["memory"].get(key)) for name in names])
            for key, title, form in OTHERS]
    return "\n\n".join([
        head,
        table(f"CPU for a message, {names[0]} = 1", names, of_rows("ratio", "%.2f")),
        table("CPU ms for a message", names, of_rows("cpu_ms", "%.3f")),
        table("messages a second", names, of_rows("through", "%.0f")),
        table("beside", names, rest),
    ]) + "\n"


def parse():
    made = parser(",".join(kind.name for kind in servers.OUTBOUND), 3, 1)
    made.add_argument("--queued", type=int, default=10000)
    return made.parse_args()


def main():
    options = parse()
    known = {kind.name: kind for kind in servers.OUTBOUND}
    subprocess.run(["ip", "route", "add", f"{servers.DEAD}/32", "dev", "lo"], check=True)
    runs, memory = run(options, ROWS, [known[name] for name in options.servers.split(",")], lambda *_: {},
                       lambda running, sinks: {server.name: others(server, sinks[server], options.queued)
                                               for server in running})
    summary = summarise(runs, memory)
    publish(options, summary, report(summary, about(options, runs), options.queued), NOTES)


if __name__ == "__main__":
    main()
