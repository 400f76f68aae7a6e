"""Does the formula for in.workers in relay.conf(5) hold? Numbers of workers behind a tunnel, before a mail server that
scans for seconds; for each the messages a second that it says, and those that came through.

More clients than workers send one message on a connection each, so no worker is ever free. The backend takes half of its
time for RCPT and half for the end of data. Messages are counted over some whole rounds, after those in which the workers
begin. Fails if a rate is below 90 % of the formula's: then it promises too much.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import concurrent.futures
import sys
import time

import servers
from bed import RELAY, Bed, Tunnel, load, read

WORKERS = (8, 16, 32, 64, 128, 256)
ROUND_MS = 30
BACKEND_S = (0.2, 2, 10)
FLIGHTS = 7     # of a first message without a spare connection
BEGIN, ROUNDS = 2, 8  # messages of each worker before and while they are counted
ROUNDS_S = 3    # or for this time, if it is longer
CLIENTS_PER_WORKER = 2
LEAST_SHARE = 0.9


def with_workers(workers):
    return type("WithWorkers", (servers.RelayIn,),
                {"name": f"workers-{workers}", "workers": workers, "backend": "spares = 0;"})


def message_s(backend_s):
    return FLIGHTS * ROUND_MS / 1000 + backend_s


def rate_of(server, backend_s):
    """Messages a second while all workers are busy, and what went wrong."""
    rounds_s = max(ROUNDS, ROUNDS_S // message_s(backend_s)) * message_s(backend_s)
    begin_s = BEGIN * message_s(backend_s)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, f"{RELAY}:{server.port}", messages=10**9, seconds=begin_s + rounds_s + 1,
                              connections=CLIENTS_PER_WORKER * server.workers)
        time.sleep(begin_s)
        before, began = read(server.log).count("event=message"), time.monotonic()
        time.sleep(rounds_s)
        count, took = read(server.log).count("event=message") - before, time.monotonic() - began
        result = loading.result()
    faults = result["refused"] + result["broken"]
    return count / took, f"{faults} errors: {result['error']}" if faults else "no error"


def rates(backend_s):
    """The rates of all numbers of workers. A slow backend leaves room to measure them all at once."""
    bed = Bed()
    tunnel = Tunnel(ROUND_MS, servers.SINK_PORT, f"--delay={int(backend_s * 500)}")
    running = []
    try:
        for workers in WORKERS:
            running.append(with_workers(workers)(bed, 2600 + workers))
        with concurrent.futures.ThreadPoolExecutor(len(WORKERS) if backend_s >= 1 else 1) as pool:
            return list(pool.map(lambda server: rate_of(server, backend_s), running))
    finally:
        for server in running:
            server.stop()
        tunnel.stop()
        bed.close()


def main():
    print(f"tunnel of {ROUND_MS} ms; messages a second by the formula, and measured")
    worst = 1.0
    for backend_s in BACKEND_S:
        for workers, (rate, faults) in zip(WORKERS, rates(backend_s)):
            said = workers / message_s(backend_s)
            worst = min(worst, rate / said)
            print(f"{workers:4} workers, the backend takes {backend_s:4} s: {said:7.1f} {rate:7.1f} "
                  f"({rate / said:.2f}), {faults}", flush=True)
    print("Made by: tests/bench/run.sh workers.py")
    if worst < LEAST_SHARE:
        sys.exit(f"the formula promises too much: {worst:.2f} of it is reached")


if __name__ == "__main__":
    main()
