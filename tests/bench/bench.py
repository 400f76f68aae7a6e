"""relay-in alone, beside its peers, or beside an earlier build: the same work in turn, round by round.

Servers are compared by the ratio of their CPU time for a message. Each round gives one ratio, and the median of the
rounds is reported: what slows the machine down slows all servers. The absolute figures follow, with the processor.

usage: tests/bench/run.sh bench.py [--servers NAME,...] [--before FOLDER] [--rounds N] [--seconds S] [--rows ROW,...]
                                   [--text FILE] [--json FILE]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import collections
import json
import statistics
import sys
import time

import servers
from bed import RELAY, Bed, Sink, Standing, machine, measure

BIG_OCTETS = 50 * 1024 * 1024
IDLE_S = 2
FIRST_PORT = 2600
Row = collections.namedtuple("Row", "name title options")
ROWS = [
    Row("one", "one client at a time", dict(connections=1)),
    Row("twenty", "twenty clients", dict(connections=20)),
    Row("kept", "twenty, connections kept", dict(connections=20, per_connection=1000)),
    Row("pipelined", "kept, pipelining", dict(connections=20, per_connection=1000, pipelining=True)),
    Row("tls", "new TLS session each", dict(connections=20, tls="new")),
    Row("resumed", "resumed TLS session each", dict(connections=5, tls="resume")),
    Row("big", "50 MiB each", dict(connections=1, size=BIG_OCTETS)),
]
MEMORY = [
    ("idle", "idle, MiB", "%.1f"),
    ("loaded", "after twenty clients, MiB", "%.1f"),
    ("each", "each idle client, KiB", "%.1f"),
    ("each_tls", "each idle client under TLS, KiB", "%.1f"),
    ("idle_cpu", "CPU when idle, ms/s", "%.2f"),
]
KEPT = ("cpu_ms", "through", "p99_ms")
NOTES = """
One CPU for the server, the other for load generator and sink; messages of 4 KiB, one on a connection where it is not
kept. CPU time is the kernel's count for all processes of a server, until its queue is empty. "-": HAProxy has no
TLS, it passes it on. Memory is PSS; 1,000 clients stood idle (of Postfix and Exim, with a process for each, 200).
relay-in writes a line for every message to its log; HAProxy and nginx were set up without a log.
Made by: tests/bench/{}
"""


def one_run(server, sink, row, seconds):
    result = measure(server, sink, seconds, warm_s=0 if row.name == "big" else 0.1, **row.options)
    result["through"] = result["messages"] / result["elapsed"]
    if result["refused"] or result["broken"] or result["lost"]:
        print(f"# {server.name}, {row.name}: {result['refused']} refused, {result['broken']} broken, "
              f"{result['lost']} lost: {result['error']}", file=sys.stderr)
    if row.name == "twenty":
        result["pss"] = server.pss_kib()
    return result


def one_round(number, running, sinks, rows, seconds, runs):
    """The servers take turns in being first."""
    first = number % len(running)
    for row in rows:
        for server in running[first:] + running[:first]:
            if (server.tls or "tls" not in row.options) and (server.pipelining or "pipelining" not in row.options):
                try:
                    result = one_run(server, sinks[server], row, seconds)
                except RuntimeError as error:
                    print(f"# {server.name}, {row.name}: left out: {error}", file=sys.stderr)
                    result = {}
                runs[server.name][row.name].append(result)


def idle_cpu(running, _):
    """Milliseconds per second of each server with nothing to do."""
    before = [server.cpu_s() for server in running]
    time.sleep(IDLE_S)
    return {server.name: {"idle_cpu": (server.cpu_s() - spent) * 1000 / IDLE_S} for server, spent in zip(running, before)}


def for_each_idle(server, tls):
    """KiB for each idle connection."""
    before = server.pss_kib()
    standing = Standing(f"{RELAY}:{server.port}", server.standing, tls=tls)
    after, stand = server.pss_kib(), standing.standing
    standing.close()
    return (after - before) / max(stand, 1)


def for_idle_clients(running, _):
    """Measures fresh servers, because heaps later shrink and grow for other reasons; then starts them afresh."""
    found = {}
    for server in running:
        found[server.name] = {"each": for_each_idle(server, "none")}
        if server.tls:
            found[server.name]["each_tls"] = for_each_idle(server, "new")
        server.stop()
        server.start()
    return found


def middle(runs, key):
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else None


def ratio(runs, base):
    """The median of the rounds' ratios."""
    pairs = [(run["cpu_ms"], other["cpu_ms"]) for run, other in zip(runs, base) if "cpu_ms" in run and "cpu_ms" in other]
    return statistics.median(ours / theirs for ours, theirs in pairs) if pairs else None


def summarise(runs, memory):
    """By server and row: medians, and the ratio to the first server."""
    base = next(iter(runs.values()))
    summary = {}
    for name, by_row in runs.items():
        rows = {row: {"ratio": ratio(of, base[row]), **{key: middle(of, key) for key in KEPT}}
                for row, of in by_row.items()}
        memory[name]["loaded"] = (middle(by_row.get("twenty", []), "pss") or 0) / 1024 or None
        summary[name] = {"rows": rows, "memory": memory[name]}
    return summary


def table(title, names, lines):
    """Each line is a title and one text per name."""
    lines = [(title, names), *lines]
    first = max(len(head) for head, _ in lines)
    width = max(len(cell) for _, cells in lines for cell in cells) + 2
    return "\n".join(head.ljust(first) + "".join(cell.rjust(width) for cell in cells) for head, cells in lines)


def cell(form, value):
    return "-" if value is None else form % value


def report(summary, rows, head):
    names = list(summary)

    def of_rows(key, form):
        return [(row.title, [cell(form, summary[name]["rows"].get(row.name, {}).get(key)) for name in names])
                for row in rows]
    memory = [(title, [cell(form, summary[name]["memory"].get(key)) for name in names]) for key, title, form in MEMORY]
    return "\n\n".join([
        head,
        table(f"CPU for a message, {names[0]} = 1", names, of_rows("ratio", "%.2f")),
        table("memory", names, memory),
        table("CPU ms for a message", names, of_rows("cpu_ms", "%.3f")),
        table("messages a second", names, of_rows("through", "%.0f")),
        table("99 % were through in, ms", names, of_rows("p99_ms", "%.1f")),
    ]) + "\n"


def about(options, runs):
    """Where and how it was measured, and how busy the machine was."""
    foreign = middle([result for by_row in runs.values() for of in by_row.values() for result in of], "foreign") or 0
    return (f"{machine()}; medians of {options.rounds} rounds of {options.seconds} s each; others on the machine had "
            f"{foreign:.2f} CPUs")


def publish(options, summary, text, notes):
    print(text, end="")
    if options.text:
        with open(options.text, "w") as file:
            file.write(text + notes)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "servers": summary}, file, indent=1)
            file.write("\n")


def parser(names, rounds, seconds):
    """The options of every comparison."""
    made = argparse.ArgumentParser()
    made.add_argument("--servers", default=names)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds)
    made.add_argument("--text")
    made.add_argument("--json")
    return made


def run(options, rows, kinds, first, last):
    """Measures all servers: CPU time in each round of each row, and memory. `first` and `last` get the servers and their
    sinks before and after the rounds, and return more figures for each name."""
    bed = Bed()
    plain, proxied = Sink(servers.SINK_PORT), Sink(servers.PROXY_SINK_PORT, "--proxy")
    running = []
    try:
        for number, kind in enumerate(kinds):
            running.append(kind(bed, FIRST_PORT + number))
        sinks = {server: proxied if server.name == "haproxy" else plain for server in running}
        runs = {server.name: collections.defaultdict(list) for server in running}
        memory = {server.name: {"idle": server.pss_kib() / 1024} for server in running}
        for name, figures in first(running, sinks).items():
            memory[name].update(figures)
        for number in range(options.rounds):
            print(f"# round {number + 1}", file=sys.stderr)
            one_round(number, running, sinks, rows, options.seconds, runs)
        for name, figures in last(running, sinks).items():
            memory[name].update(figures)
    finally:
        for server in running:
            server.stop()
        plain.stop()
        proxied.stop()
        bed.close()
    return runs, memory


def parse():
    made = parser("relay-in", 5, 0.7)
    made.add_argument("--before", help="a folder with an earlier relay-in")
    made.add_argument("--rows", default=",".join(row.name for row in ROWS))
    return made.parse_args()


def wanted(options):
    known = {kind.name: kind for kind in (servers.RelayIn, *servers.PEERS)}
    kinds = [known[name] for name in options.servers.split(",")]
    if options.before:
        kinds.append(type("Before", (servers.RelayIn,), {"name": "before", "build": options.before}))
    return kinds


def main():
    options = parse()
    rows = [row for row in ROWS if row.name in options.rows.split(",")]
    runs, memory = run(options, rows, wanted(options), for_idle_clients, idle_cpu)
    summary = summarise(runs, memory)
    publish(options, summary, report(summary, rows, about(options, runs)),
            NOTES.format("before" if options.before else "peers"))


if __name__ == "__main__":
    main()
