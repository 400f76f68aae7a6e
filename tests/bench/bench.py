"""relay-in alone, or beside its peers: the same work in turn, several rounds, one table.

usage: tests/bench/run.sh bench.py [--rounds N] [--seconds S] [--servers NAME,...] [--json FILE]
                                   [--text FILE] [--svg FILE]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import json
import os
import statistics
import sys

import plot
import servers
from bed import RELAY, Bed, Sink, Standing, load, measure

JOBS = {
    "plain": dict(),
    "many": dict(per_connection=1000),
    "tls": dict(tls="new"),
    "resumed": dict(tls="resume"),
}
BIG_OCTETS = 50 * 1024 * 1024
BIG_MESSAGES = 6
FOREIGN_MAX = 0.4  # CPUs in use by others above which a run is done again
TRIES = 2


def quiet(run):
    """The quietest of some tries, when none is quiet."""
    tries = []
    while len(tries) < TRIES:
        tries.append(run())
        if tries[-1]["foreign"] < FOREIGN_MAX:
            break
    return min(tries, key=lambda result: result["foreign"])


def check(server, job, result):
    if result["refused"] or result["broken"] or result["lost"]:
        print(f"# {server.name}, {job}: {result['refused']} refused, {result['broken']} broken, "
              f"{result['lost']} lost: {result['error']}", file=sys.stderr)


def one_round(all_servers, sinks, seconds, results):
    for job, options in JOBS.items():
        for server in all_servers:
            if not server.tls and "tls" in options:
                continue
            result = quiet(lambda: measure(server, sinks[server], seconds, connections=10,
                                           **options))
            check(server, job, result)
            if job == "plain":
                result["pss"] = server.pss_kib()
            results[server.name][job].append(result)
    for server in all_servers:
        result = quiet(lambda: measure(server, sinks[server], messages=BIG_MESSAGES, size=BIG_OCTETS,
                                       connections=1))
        check(server, "big", result)
        octets = result["messages"] * BIG_OCTETS
        result["mb_s"] = octets / 1e6 / result["seconds"]
        if octets > 0:
            result["cpu_s_gb"] = result["cpu_ms"] * result["messages"] / 1e3 / (octets / 1e9)
        result["pss"] = server.pss_kib()
        results[server.name]["big"].append(result)


def idle_memory(server, tls):
    """PSS before, and for each of 1,000 idle connections, in KiB."""
    before = server.pss_kib()
    standing = Standing(f"{RELAY}:{server.port}", 1000, tls=tls)
    after, stand = server.pss_kib(), standing.standing
    standing.close()
    return after, (after - before) / max(stand, 1), stand


def middle(runs, key):
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else None


def spread(runs, key):
    values = [run[key] for run in runs if key in run]
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else 0


COLUMNS = [("plain", "rate", "plain/s", "%.0f"), ("plain", "cpu_ms", "ms", "%.3f"),
           ("many", "rate", "many/s", "%.0f"), ("many", "cpu_ms", "ms", "%.3f"),
           ("tls", "rate", "TLS/s", "%.0f"), ("tls", "cpu_ms", "ms", "%.3f"),
           ("resumed", "cpu_ms", "res. ms", "%.3f"), ("big", "mb_s", "MB/s", "%.0f"),
           ("big", "cpu_s_gb", "s/GB", "%.2f"), ("plain", "p99_ms", "p99 ms", "%.1f")]


def table(summary):
    rows = [["server"] + [title for _, _, title, _ in COLUMNS] +
            ["idle MiB", "load MiB", "+idle KiB", "+idle TLS", "CPU ratio", "spread", "foreign"]]
    base = summary.get("relay-in", {}).get("plain", {}).get("cpu_ms")
    for name, of in summary.items():
        row = [name]
        for job, key, _, form in COLUMNS:
            value = of.get(job, {}).get(key)
            row.append(form % value if value is not None else "-")
        memory = of["memory"]
        row += ["%.1f" % (memory["idle"] / 1024), "%.1f" % (memory["load"] / 1024),
                "%.1f" % memory["each"], "%.1f" % memory["each_tls"] if "each_tls" in memory else "-"]
        cpu = of.get("plain", {}).get("cpu_ms")
        row += ["%.2f" % (cpu / base) if cpu and base else "-",
                "%.0f%%" % (100 * of["plain"]["spread"]), "%.2f" % of["plain"]["foreign"]]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths)))
                     for row in rows)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} CPUs, Linux {'.'.join(os.uname().release.split('.')[:2])}"


def summarise(results, memory):
    summary = {}
    for name, jobs in results.items():
        summary[name] = {"memory": memory[name]}
        for job, runs in jobs.items():
            keys = {key for run in runs for key in run if isinstance(run[key], (int, float))}
            summary[name][job] = {key: middle(runs, key) for key in keys}
            summary[name][job]["spread"] = spread(runs, "cpu_ms")
        summary[name]["memory"]["load"] = middle(jobs["plain"], "pss")
    return summary


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--servers", default="relay-in")
    parser.add_argument("--json")
    parser.add_argument("--text")
    parser.add_argument("--svg")
    return parser.parse_args()


def main():
    arguments = parse()
    ours = [servers.RelayIn, servers.RelayOut, servers.RelayOutSpool]
    known = {kind.name: kind for kind in [*ours, *servers.PEERS]}
    bed = Bed()
    plain, proxied = Sink(servers.SINK_PORT), Sink(servers.PROXY_SINK_PORT, "--proxy")
    running, memory = [], {}
    try:
        for i, name in enumerate(arguments.servers.split(",")):
            running.append(known[name](bed, 2600 + i))
        sinks = {server: proxied if server.name == "haproxy" else plain for server in running}
        results = {server.name: {job: [] for job in [*JOBS, "big"]} for server in running}
        for server in running:
            memory[server.name] = {"idle": server.pss_kib()}
        for number in range(arguments.rounds):
            print(f"# round {number + 1}, load {open('/proc/loadavg').read().strip()}",
                  file=sys.stderr)
            one_round(running, sinks, arguments.seconds, results)
        for server in running:
            _, each, stand = idle_memory(server, "none")
            memory[server.name].update(each=each, stand=stand)
            if server.tls:
                memory[server.name]["each_tls"] = idle_memory(server, "new")[1]
    finally:
        for server in running:
            server.stop()
        plain.stop()
        proxied.stop()
        bed.close()
    summary = summarise(results, memory)
    text = f"{machine()}; medians of {arguments.rounds} rounds\n{table(summary)}\n"
    print(text, end="")
    if arguments.text:
        open(arguments.text, "w").write(text)
    if arguments.json:
        json.dump(summary, open(arguments.json, "w"), indent=1)
    if arguments.svg:
        plot.bars(summary, arguments.svg)


if __name__ == "__main__":
    main()
