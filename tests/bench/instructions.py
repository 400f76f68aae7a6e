"""User instructions (callgrind) and system calls (strace) of relay-in for a message, in six standard sessions.

Both are counted, not timed, so a busy machine changes them little. There are no spare connections. One server under
each tool takes all sessions, after some messages to warm up. Then N messages come, and 2N: the difference is the cost
of N.

usage: tests/bench/run.sh instructions.py [--write | --check] [--only SESSION,...] [--profile FOLDER]
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import collections
import glob
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

from bed import BUILD, RELAY, SOURCES, Bed, Sink, load, read, wait_for
from servers import SINK_PORT, RelayIn

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "instructions.txt")
GROWTH_MAX = 0.03
PORT = 2625
WARM = 10
TRIES = 4  # before a figure counts as grown
STILL_S = 0.1  # without a context switch: everything is done
# N, and the load generator's options.
SESSIONS = {
    "new connection": (50, dict()),
    "kept connection": (50, dict(per_connection=1000000)),
    "kept, pipelined": (50, dict(per_connection=1000000, pipelining=True)),
    "TLS": (20, dict(tls="new")),
    "TLS resumed": (20, dict(tls="resume")),
    "50 KiB": (50, dict(size=50 * 1024)),
}


class Counted(RelayIn):
    """relay-in under a program that counts what it does."""

    workers = 4
    backend = "spares = 0;"  # whether one is ready in time is chance

    def tool(self):
        raise NotImplementedError

    def command(self):
        return self.tool() + super().command()

    def set_up(self):
        super().set_up()
        os.chmod(self.dir, 0o777)
        self.out = f"{self.dir}/out"

    def switches(self):
        """Context switches of all its threads since they started."""
        return [re.findall(r"ctxt_switches:\s+(\d+)", read(path))
                for path in sorted(glob.glob(f"/proc/{self.process.pid}/task/*/status"))]

    def settle(self, seconds=60):
        def still():
            before = self.switches()
            time.sleep(STILL_S)
            return self.switches() == before
        wait_for(f"{self.name} to come to rest", still, seconds)

    def taken(self):
        """The counts since the last call, by name."""
        raise NotImplementedError


class Callgrind(Counted):
    """A reload makes callgrind write its counts: it does so when config_load_for() is entered."""

    name = "callgrind"
    writes_at = "config_load_for"

    def tool(self):
        # It runs as nobody from the start, because it creates more files later.
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "valgrind", "--tool=callgrind",
                "-q", "--vgdb=no", f"--dump-before={self.writes_at}", f"--callgrind-out-file={self.out}"]

    def taken(self):
        self.settle()
        number = len(glob.glob(f"{self.out}.*")) + 1
        self.process.send_signal(signal.SIGHUP)
        text = wait_for(f"callgrind's output at {self.writes_at}()", lambda: self.totals(number))
        self.settle()
        return collections.Counter(instructions=int(text.group(1)))

    def totals(self, number):
        return re.search(r"^totals: (\d+)$", read(f"{self.out}.{number}"), re.M)


class Strace(Counted):
    name = "strace"

    def set_up(self):
        super().set_up()
        self.seen = 0

    def tool(self):
        return ["strace", "-D", "-f", "-qq", "-o", self.out, "-e", "signal=none"]

    def taken(self):
        self.settle()
        lines = read(self.out).splitlines()
        new, self.seen = lines[self.seen:], len(lines)
        return collections.Counter(name for calls in calls_by_thread(new) for name in needed(calls))


def calls_by_thread(lines):
    """Names and results of each thread's calls, in order. A call that is interrupted by others has two lines."""
    threads = collections.defaultdict(list)
    for line in lines:
        thread, text = line.split(maxsplit=1)
        if text.startswith("<..."):
            if threads[thread]:
                threads[thread][-1][1] = text
        elif not text.startswith("+++"):
            threads[thread].append([re.match(r"\w+", text).group(), text])
    return threads.values()


def needed(calls):
    """Leaves out a read that finds nothing and its poll(): whether the peer was faster is chance."""
    for number, (name, text) in enumerate(calls):
        early = "= -1 EAGAIN" in text and calls[number + 1:number + 2] and calls[number + 1][0] == "poll"
        late = name == "poll" and number > 0 and "= -1 EAGAIN" in calls[number - 1][1]
        if not early and not late:
            yield name


def send(server, messages, options):
    result = load(f"{RELAY}:{server.port}", messages=messages, connections=1, sources=SOURCES[:1], **options)
    if result["messages"] != messages or result["refused"] or result["broken"]:
        raise RuntimeError(f"{options}: {result['messages']} of {messages} messages: {result['error']}")


def costs_of(server, session):
    """The cost of a message, by name."""
    messages, options = SESSIONS[session]
    send(server, WARM, options)
    counts = [server.taken()]
    for times in 1, 2:
        send(server, times * messages, options)
        counts.append(server.taken())
    counts[2].subtract(counts[1])
    return {name: count / messages for name, count in counts[2].items() if count}


def lowest(server, session, limit):
    """The lowest of some tries, until one is within the limit: a busy machine only adds waits that no message needs."""
    best = None
    for _ in range(TRIES):
        costs = costs_of(server, session)
        if best is None or sum(costs.values()) < sum(best.values()):
            best = costs
        if sum(best.values()) <= limit:
            break
    return best


def count(bed, kind, sessions, limits, profile):
    """The cost of a message in each session, by name."""
    server = kind(bed, PORT)
    try:
        costs = {session: lowest(server, session, limit) for session, limit in zip(sessions, limits)}
    finally:
        server.stop()
    for path in glob.glob(f"{server.out}*") if profile else []:
        shutil.copy(path, f"{profile}/{kind.name}{path[len(server.out):]}")
    return costs


def machine():
    """What the figures depend on, apart from the program."""
    flags = re.search(r"^flags\s*:(.*)", read("/proc/cpuinfo"), re.M)
    avx2 = flags is not None and "avx2" in flags.group(1).split()
    comment = subprocess.run(["readelf", "-p", ".comment", f"{BUILD}/relay-in"], capture_output=True, text=True,
                             check=True).stdout
    compiler = re.search(r"\]\s+(\w+).*? (\d+\.\d+)[\d.]*$", comment, re.M)
    return f"{' '.join(platform.libc_ver())}, {' '.join(compiler.groups())}, {'AVX2' if avx2 else 'no AVX2'}"


def show(figures):
    lines = [f"{'session':16} {'instructions':>12} {'system calls':>12}   a message; {machine()}"]
    lines += [f"{name:16} {counts[0]:12,.0f} {counts[1]:12.2f}" for name, counts in figures.items()]
    return "\n".join(lines) + "\n"


def kept():
    found = re.findall(r"^(\S.*?) +([\d,]+) +([\d.]+)$", read(FIGURES), re.M)
    return {name: [float(first.replace(",", "")), float(second)] for name, first, second in found}


def growth(name, counts, before):
    """Describes the figures that have grown too much."""
    if name not in before:
        return [f"{name}: no figures in {FIGURES}"]
    return [f"{name}: {now:,.2f} {what} a message, {then:,.2f} before (+{(now / then - 1) * 100:.1f} %)"
            for what, now, then in zip(("instructions", "system calls"), counts, before[name])
            if now > then * (1 + GROWTH_MAX)]


def judge(figures, before):
    problems = [line for name, counts in figures.items() for line in growth(name, counts, before)]
    print("\n".join(problems or ["Nothing has grown."]))
    return 1 if problems else 0


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="keep the figures")
    parser.add_argument("--check", action="store_true", help="compare them with those kept")
    parser.add_argument("--only", help="sessions, with commas between them")
    parser.add_argument("--profile", help="a folder for what callgrind and strace have written")
    return parser.parse_args()


def main():
    options = parse()
    for tool in ("valgrind", "strace"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing")
    if options.check and machine() not in read(FIGURES):
        print(f"No judgement: the figures kept are of another libc, compiler or processor than {machine()}. Where they "
              "are to be watched, --write keeps them before a change.")
        return
    sessions = options.only.split(",") if options.only else list(SESSIONS)
    before = kept() if options.check else {}
    bed = Bed()
    sink = Sink(SINK_PORT)
    costs, limit = [], 0 if options.write else math.inf
    try:
        for number, kind in enumerate((Callgrind, Strace)):
            limits = [before[name][number] * (1 + GROWTH_MAX) if name in before else limit for name in sessions]
            costs.append(count(bed, kind, sessions, limits, options.profile))
    finally:
        sink.stop()
        bed.close()
    figures = {name: [sum(of_tool[name].values()) for of_tool in costs] for name in sessions}
    text = show(figures)
    print(text, end="")
    if options.profile:
        for name in sessions:
            print(f"{name}:", ", ".join(f"{call} {number:.2f}" for call, number in costs[1][name].items()))
    if options.write:
        with open(FIGURES, "w") as file:
            file.write(text)
    if options.check:
        sys.exit(judge(figures, before))


if __name__ == "__main__":
    main()
