"""relay-in with its defaults before a slow mail server, under more and more clients: how many messages are delivered,
and how long a newcomer waits for the reply to its EHLO.

usage: overload [--seconds 60] [CLIENTS...]

Each client, from a network of its own, sends one message per connection, again and again, and pauses 100 ms before each
step. The backend takes 50 ms for RCPT and 200 ms for the end of data. With its 45 sessions, about 100 messages a second
can be delivered, however many clients there are; 60 clients cannot send more than 80. Fails if a row has less than 85 %
of the best row's messages, or of what its clients can send; if a newcomer waits longer than 200 ms (p99); or if a client
is told that the backend is busy before it has waited for 5 s.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import time

from bed import RELAY, SINK, Bed
from servers import SINK_PORT, RelayIn

CLIENTS = (60, 80, 100, 150, 300)
STEP_S, RCPT_S, END_S = 0.1, 0.05, 0.2
MESSAGE_S = 5 * STEP_S + RCPT_S + END_S
LEAST_SHARE, MOST_EHLO_MS, LEAST_WAIT_S = 0.85, 200, 5
PORT = 2525


class Defaults(RelayIn):
    def set_up(self):
        self.conf = self.write("relay.conf", f"""
hostname = "relay.example"; user = "nobody"; control = "";
in = {{
  listen = [ "{RELAY}:{PORT}" ]; domains = [ "example.com" ]; reverse_dns = false;
  backend = {{ hosts = [ "{SINK}:{SINK_PORT}" ]; identity = "xclient"; tls = "none"; }};
}};
log = {{ level = "error"; }};
""")


async def serve_backend(reader, writer):
    waits = {b"RCPT": RCPT_S}
    replies = {b"EHLO": b"250-backend\r\n250-PIPELINING\r\n250 XCLIENT NAME ADDR PORT\r\n",
               b"XCLI": b"220 backend\r\n", b"DATA": b"354 go on\r\n"}
    writer.write(b"220 backend\r\n")
    try:
        while (verb := (await reader.readline())[:4].upper()) not in (b"", b"QUIT"):
            await asyncio.sleep(waits.get(verb, 0))
            writer.write(replies.get(verb, b"250 ok\r\n"))
            if verb == b"DATA":
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(END_S)
                writer.write(b"250 taken\r\n")
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


def backend():
    async def run():
        server = await asyncio.start_server(serve_backend, SINK, SINK_PORT, backlog=1000)
        await server.serve_forever()
    asyncio.run(run())


class Client:
    """A client that sends, and what became of its messages."""

    def __init__(self, number):
        self.source = f"20.{number // 250}.{number % 250}.2"
        self.sent, self.refused, self.early = 0, 0, 0
        self.said = set()  # other replies than the expected ones

    async def step(self, line):
        await asyncio.sleep(STEP_S)
        began = time.monotonic()
        self.writer.write(line + b"\r\n")
        reply = await self.reader.readline()
        while reply[3:4] == b"-":
            reply = await self.reader.readline()
        if reply[:1] not in (b"2", b"3"):
            self.said.add(reply.decode("latin-1").strip() or "nothing more")
        self.early += reply.startswith(b"451 4.3.2") and time.monotonic() - began < LEAST_WAIT_S
        return reply[:1] in (b"2", b"3")

    async def send_one(self):
        self.reader, self.writer = await asyncio.open_connection(RELAY, PORT, local_addr=(self.source, 0))
        try:
            await self.reader.readline()
            for line in (b"EHLO client.example", b"MAIL FROM:<s@sender.example>",
                         b"RCPT TO:<a@example.com>", b"DATA", b"Subject: overload\r\n\r\nA line.\r\n."):
                if not await self.step(line):
                    return False
            self.writer.write(b"QUIT\r\n")
            return True
        finally:
            self.writer.close()

    async def run(self, begin, end):
        while time.monotonic() < end:
            try:
                done = await self.send_one()
            except OSError:
                done = False
            now = time.monotonic()
            if begin <= now < end:
                self.sent += done
                self.refused += not done


async def newcomer(begin, end, times):
    """Connects now and then and sends EHLO at once."""
    number = 0
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        number = (number + 1) % 250
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(RELAY, PORT, local_addr=(f"21.0.{number}.2", 0))
        await reader.readline()
        writer.write(b"EHLO newcomer.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        if began >= begin:
            times.append((time.monotonic() - began) * 1000)
        writer.close()


def newcomers(begin, end, queue):
    times = []
    asyncio.run(newcomer(begin, end, times))
    queue.put(sorted(times))


def row(count, seconds):
    """The first two seconds, in which all clients start at once, are not counted."""
    begin = time.monotonic() + 2
    end = begin + seconds
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=newcomers, args=(begin, end, queue))
    process.start()

    async def run():
        clients = [Client(number) for number in range(count)]
        await asyncio.gather(*(client.run(begin, end) for client in clients))
        return clients
    clients = asyncio.run(run())
    times = queue.get()
    process.join()
    return {"clients": count, "rate": sum(c.sent for c in clients) / seconds,
            "refused": sum(c.refused for c in clients), "early": sum(c.early for c in clients),
            "said": set().union(*(c.said for c in clients)),
            "p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


def shortfalls(rows):
    best = max(r["rate"] for r in rows)
    for r in rows:
        possible = min(best, r["clients"] / MESSAGE_S)
        if r["rate"] < LEAST_SHARE * possible:
            yield f"{r['clients']} clients: {r['rate'] / possible:.0%} of the messages that are possible"
        if r["p99"] > MOST_EHLO_MS:
            yield f"{r['clients']} clients: EHLO p99 {r['p99']:.0f} ms"
        if r["early"] > 0:
            yield f"{r['clients']} clients: told {r['early']} times too soon that the backend is busy"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("clients", type=int, nargs="*", default=CLIENTS)
    options = parser.parse_args()
    for network in ("20.0.0.0/8", "21.0.0.0/8"):
        subprocess.run(["ip", "route", "add", "local", network, "dev", "lo"], check=True)
    sink = multiprocessing.Process(target=backend, daemon=True)
    sink.start()
    bed = Bed()
    server = Defaults(bed, PORT)
    rows = []
    print(f"defaults; steps of a client {STEP_S * 1000:.0f} ms apart, the backend takes {RCPT_S * 1000:.0f} ms for "
          f"RCPT and {END_S * 1000:.0f} ms at the end; {options.seconds:.0f} s each")
    try:
        for count in options.clients:
            rows.append(row(count, options.seconds))
            print("{clients:6} clients: {rate:6.1f} messages/s  {refused:4} refused  EHLO p50 {p50:6.1f} ms  "
                  "p99 {p99:6.1f} ms".format(**rows[-1]), flush=True)
            for reply in sorted(rows[-1]["said"]):
                print(f"        {reply}", flush=True)
    finally:
        server.stop()
        bed.close()
        sink.terminate()
        sink.join()
    failures = list(shortfalls(rows))
    for failure in failures:
        print(f"falls short: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
