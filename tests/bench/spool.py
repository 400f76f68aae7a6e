"""What a stored message costs: system calls, context switches, rate; beside an earlier build on the same disk.

usage: tests/bench/run.sh spool.py [--before FOLDER] [--rounds N] [--clients N] [--messages N] [--file-system TYPE]
       [--text FILE]

Every message is stored and delivered to a sink that accepts all. FOLDER has an earlier build of relay-out; the two take
turns. The spool is below the temporary folder, or with --file-system on a new file system of that type (ext4, say) in an
image there. strace counts system calls in a separate run with one client, because it slows everything down and so changes
which threads meet. Context switches are the kernel's count for each thread.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import glob
import os
import re
import statistics

import servers
from bed import BUILD, RELAY, Bed, Sink, file_system_of, load, measure, read, system_calls

TRACED = 300  # messages with one client


def build_of(folder, name):
    return type("Built", (servers.RelayOutSpool,), {"name": name, "build": folder})


def switches(server):
    total = 0
    for path in glob.glob(f"/proc/{server.process.pid}/task/*/status"):
        total += sum(int(number) for number in re.findall(r"ctxt_switches:\s+(\d+)", read(path)))
    return total


def round_of(server, sink, options):
    before = switches(server)
    result = measure(server, sink, messages=options.messages, connections=options.clients)
    result["switches"] = (switches(server) - before) / options.messages
    result["through"] = options.messages / result["elapsed"]
    return result


def switches_alone(server):
    before = switches(server)
    load(f"{RELAY}:{server.port}", messages=TRACED, connections=1)
    server.settle()
    return (switches(server) - before) / TRACED


def middle(runs, key):
    return statistics.median(run[key] for run in runs)


def report(name, runs, calls, alone):
    faults = sum(run["refused"] + run["broken"] + run["lost"] for run in runs)
    return (f"{name:8} {middle(runs, 'rate'):8.0f} {middle(runs, 'through'):8.0f} {middle(runs, 'cpu_ms'):7.3f} "
            f"{middle(runs, 'switches'):9.1f} {alone:7.1f} {sum(calls.values()):6.1f} {middle(runs, 'p99_ms'):8.1f} "
            f"{middle(runs, 'foreign'):8.2f} {faults:7}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--before")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--file-system")
    parser.add_argument("--text")
    options = parser.parse_args()
    builds = [("before", options.before)] if options.before else []
    builds.append(("now", BUILD))
    bed = Bed(options.file_system)
    sink = Sink(servers.SINK_PORT)
    running = []
    try:
        for number, (name, folder) in enumerate(builds):
            running.append(build_of(folder, name)(bed, 2700 + number))
        runs = {server: [] for server in running}
        for server in running:
            load(f"{RELAY}:{server.port}", messages=500, connections=options.clients)
            server.settle()
        for _ in range(options.rounds):
            for server in running:
                runs[server].append(round_of(server, sink, options))
        alone = {server: switches_alone(server) for server in running}
        calls = {server: system_calls(server, TRACED) for server in running}
        lines = [f"{os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}; {options.clients} clients, a "
                 f"message on a connection, stored and delivered; medians of {options.rounds} rounds",
                 f"the spool on {file_system_of(bed.dir)}{' in an image' if options.file_system else ''}",
                 "(one client: alone, calls)",
                 "build     taken/s through/s  ms CPU  switches   alone  calls   p99 ms  foreign  errors"]
        lines += [report(server.name, runs[server], calls[server], alone[server]) for server in running]
        names = sorted({name for counts in calls.values() for name in counts},
                       key=lambda name: -max(counts.get(name, 0) for counts in calls.values()))
        lines.append("calls for a message, with one client:")
        for name in names:
            row = [calls[server].get(name, 0) for server in running]
            if max(row) >= 0.05:
                lines.append(f"  {name:18}" + "".join(f"{count:8.2f}" for count in row))
        text = "\n".join(lines) + "\n"
        print(text, end="")
        if options.text:
            with open(options.text, "w") as file:
                file.write(text)
    finally:
        for server in running:
            server.stop()
        sink.stop()
        bed.close()


if __name__ == "__main__":
    main()
