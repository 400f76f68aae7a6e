"""User instructions (callgrind) and system calls (strace) of relay-in for a message, in six standard sessions.

Both are counted, not timed: a busy machine changes them little. There are no spare connections. A server is started, takes N messages
and ends, and another takes 2N: the difference is what N messages cost.

usage: tests/bench/run.sh instructions.py [--write | --check] [--only SESSION,...] [--profile FOLDER]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import collections
import os
import platform
import re
import shutil
import sys

from bed import RELAY, SOURCES, Bed, Sink, load, read
from servers import SINK_PORT, RelayIn

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "instructions.txt")
GROWTH_MAX = 0.03
MESSAGES = 100  # and twice as many; the difference counts
PORT = 2625
TRIES = 3  # before a figure counts as grown
SESSIONS = {
    "new connection": dict(),
    "kept connection": dict(per_connection=1000000),
    "kept, pipelined": dict(per_connection=1000000, pipelining=True),
    "TLS": dict(tls="new"),
    "TLS resumed": dict(tls="resume"),
    "50 KiB": dict(size=50 * 1024),
}


class UnderTool(RelayIn):
    """relay-in below another program, which writes what it counts to `out`."""

    workers = 4
    backend = "spares = 0;"  # whether one is there in time is chance

    def tool(self):
        raise NotImplementedError

    def command(self):
        return self.tool() + super().command()

    def set_up(self):
        super().set_up()
        os.chmod(self.dir, 0o777)
        self.out = f"{self.dir}/out"


class Callgrind(UnderTool):
    name = "callgrind"

    def tool(self):
        # As nobody from the start: its file is opened again at the end.
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                "valgrind", "--tool=callgrind", "-q", "--vgdb=no",
                f"--callgrind-out-file={self.out}"]

    def counted(self):
        return collections.Counter(
            instructions=int(re.search(r"^totals: (\d+)", read(self.out), re.M).group(1)))


class Strace(UnderTool):
    name = "strace"

    def tool(self):
        return ["strace", "-f", "-qq", "-o", self.out, "-e", "signal=none"]

    def counted(self):
        return collections.Counter(re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line).group(1)
                                   for line in read(self.out).splitlines()
                                   if "resumed>" not in line and "+++" not in line)


def run(bed, kind, messages, options, keep):
    """What the life of a server costs in which so many messages come."""
    server = kind(bed, PORT)
    try:
        result = load(f"{RELAY}:{PORT}", messages=messages, connections=1, sources=SOURCES[:1],
                      **options)
    finally:
        server.stop()
    if result["messages"] != messages or result["refused"] or result["broken"]:
        raise RuntimeError(f"{options}: {result['messages']} of {messages} messages: "
                           f"{result['error']}")
    counted = server.counted()
    if keep:
        shutil.copy(server.out, keep)
    shutil.rmtree(server.dir)
    os.rmdir(server.group)
    bed.own.remove(server.group)
    return counted


def count(bed, kind, options, keep):
    """What a message costs, by name: of two lives the difference."""
    counted = run(bed, kind, 2 * MESSAGES, options, keep)
    counted.subtract(run(bed, kind, MESSAGES, options, keep and keep + ".half"))
    return {name: number / MESSAGES for name, number in counted.items() if number}


def measure(bed, name, profile):
    """Instructions and system calls a message."""
    figures = []
    for kind in (Callgrind, Strace):
        keep = profile and f"{profile}/{kind.name}.{name.replace(' ', '-')}"
        costs = count(bed, kind, SESSIONS[name], keep)
        if keep:
            print(name, {what: round(cost, 2) for what, cost in costs.items()})
        figures.append(sum(costs.values()))
    return figures


def lowest(bed, name, profile, fits):
    """Of some tries until one fits: what a busy machine adds are waits that no message needs."""
    best = measure(bed, name, profile)
    for _ in range(TRIES - 1):
        if fits(best):
            break
        best = [min(pair) for pair in zip(best, measure(bed, name, profile))]
    return best


def machine():
    """What the figures depend on beside the program."""
    flags = re.search(r"^flags\s*:(.*)", read("/proc/cpuinfo"), re.M)
    avx2 = flags is not None and "avx2" in flags.group(1).split()
    return f"{' '.join(platform.libc_ver())}, {'AVX2' if avx2 else 'no AVX2'}"


def show(figures):
    lines = [f"{'session':16} {'instructions':>12} {'system calls':>12}   a message; {machine()}"]
    lines += [f"{name:16} {counts[0]:12,.0f} {counts[1]:12.2f}" for name, counts in figures.items()]
    return "\n".join(lines) + "\n"


def kept():
    found = re.findall(r"^(\S.*?) +([\d,]+) +([\d.]+)$", read(FIGURES), re.M)
    return {name: [float(first.replace(",", "")), float(second)] for name, first, second in found}


def growth(name, counts, before):
    """What is more than it may be, in words."""
    if name not in before:
        return [f"{name}: no figures in {FIGURES}"]
    return [f"{name}: {now:,.2f} {what} a message, {then:,.2f} before (+{(now / then - 1) * 100:.1f} %)"
            for what, now, then in zip(("instructions", "system calls"), counts, before[name])
            if now > then * (1 + GROWTH_MAX)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="keep the figures")
    parser.add_argument("--check", action="store_true", help="compare them with those kept")
    parser.add_argument("--only", help="sessions, with commas between them")
    parser.add_argument("--profile", help="a folder for callgrind's output and the calls by name")
    options = parser.parse_args()
    for tool in ("valgrind", "strace"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing")
    sessions = options.only.split(",") if options.only else list(SESSIONS)
    before = kept() if options.check else {}
    bed = Bed()
    sink = Sink(SINK_PORT)
    try:
        figures = {name: lowest(bed, name, options.profile,
                                lambda counts: not options.check or name not in before or
                                not growth(name, counts, before)) for name in sessions}
    finally:
        sink.stop()
        bed.close()
    text = show(figures)
    print(text, end="")
    if options.write:
        with open(FIGURES, "w") as file:
            file.write(text)
    if options.check:
        problems = [line for name, counts in figures.items() for line in growth(name, counts, before)]
        if machine() not in read(FIGURES):
            print(f"The figures kept are another machine's: it takes --write on this one, {machine()}, "
                  "before the change that is to be checked.")
        print("\n".join(problems or ["Nothing has grown."]))
        sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
