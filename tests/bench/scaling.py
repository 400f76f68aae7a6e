"""How relay-in's rate depends on the number of workers, and its CPU time per message on the number of clients.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import statistics

import servers
from bed import Bed, Sink, measure

WORKERS = (1, 2, 4, 8, 16, 32, 64)
CLIENTS = (10, 32, 100, 316, 1000, 3000, 10000)
DELAY_MS = 10  # of the backend, for each RCPT and each message
ROUNDS = 3


def with_workers(workers):
    return type("WithWorkers", (servers.RelayIn,), {"name": f"workers-{workers}", "workers": workers})


def middle(runs, key):
    return statistics.median(run[key] for run in runs)


def show(title, runs):
    faults = sum(run["refused"] + run["broken"] for run in runs)
    print(f"{title}: {middle(runs, 'rate'):8.0f}/s  {middle(runs, 'cpu_ms'):.3f} ms CPU  "
          f"p50 {middle(runs, 'p50_ms'):7.1f} ms  p99 {middle(runs, 'p99_ms'):7.1f} ms  "
          f"{faults} errors  foreign {middle(runs, 'foreign'):.2f}", flush=True)


def by_workers(bed, sink, clients, title, messages=None):
    print(title)
    running = [with_workers(count)(bed, 2600 + count) for count in WORKERS]
    try:
        runs = {server: [] for server in running}
        for _ in range(ROUNDS):
            for server in running:
                extent = {"messages": messages * server.workers} if messages else {"seconds": 0.7}
                runs[server].append(measure(server, sink, **extent, connections=clients))
        for server in running:
            show(f"{server.workers:6} workers", runs[server])
    finally:
        for server in running:
            server.stop()


def by_clients(bed, sink):
    print("32 workers, clients at one time, 1 message on a connection:")
    server = servers.RelayIn(bed, 2600)
    try:
        runs = {clients: [] for clients in CLIENTS}
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                runs[clients].append(measure(server, sink, connections=clients,
                                             messages=max(3000, clients * 2)))
        for clients in CLIENTS:
            show(f"{clients:6} clients", runs[clients])
    finally:
        server.stop()


def main():
    bed = Bed()
    sink = Sink(servers.SINK_PORT)
    try:
        by_clients(bed, sink)
        by_workers(bed, sink, 64, "64 clients, a backend that answers at once:")
    finally:
        sink.stop()
        bed.close()
    bed, sink = Bed(), Sink(servers.SINK_PORT, f"--delay={DELAY_MS}")
    try:
        by_workers(bed, sink, 100, f"100 clients, a backend that takes {DELAY_MS} ms for each RCPT "
                                   "and each message:", messages=40)
    finally:
        sink.stop()
        bed.close()


if __name__ == "__main__":
    main()
