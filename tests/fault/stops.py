"""Starts and ends: a daemon is ended under load, again and again, at any moment of its life.

It must end with status 0, without a complaint of a sanitizer or the C library, with every thread joined, and with no
acknowledged message missing. POSTERN_STOPS is the number of rounds (default 12).
SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "peers")]

import tap  # noqa: E402
from attempts import Attempt  # noqa: E402
from bed import BACKEND, BUILD, OTHER4, SCRIPTED_PORT, read, wait_for  # noqa: E402
from fakes import NameServer  # noqa: E402
from tap import scenario  # noqa: E402

ROUNDS = int(os.environ.get("POSTERN_STOPS", 12))
CLIENTS = 4
LONGEST_LIFE = 0.25  # seconds under load


class Sink:
    """The backend: a process of its own, so that only the daemon is under load."""

    def __init__(self, bed):
        self.mail = f"{bed.dir}/sink"
        os.makedirs(self.mail, exist_ok=True)
        ready = f"{bed.dir}/sink.ready"
        with open(f"{bed.dir}/sink.log", "w") as log:
            self.process = subprocess.Popen(
                [f"{BUILD}/relayctl", "sink", "--listen", f"{BACKEND}:{SCRIPTED_PORT}", "--store", self.mail,
                 "--connections", "500", "--tls", f"{bed.cert}:{bed.key}", "--ready-file", ready],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the sink", lambda: os.path.exists(ready))

    def senders(self):
        found = set()
        for name in os.listdir(self.mail):
            if name.endswith(".json"):
                found.update(re.findall(r'"from": "([^"]+)"', read(f"{self.mail}/{name}")))
        return found

    def close(self):
        self.process.kill()
        self.process.wait(10)


class Clients:
    """Clients that send until they are told to stop; refused connections are expected."""

    def __init__(self):
        self.attempts, self.going = [], True
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        count = 0
        while self.going:
            attempt = Attempt(f"c{number}.{count}", tls=number % 2 == 0, source=OTHER4, timeout=20)
            self.attempts.append(attempt)
            count += 1
            if attempt.last is None:
                time.sleep(0.02)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()


def watched(world):
    """The preloaded library that counts threads."""
    if world.sanitized:
        return {}
    library = f"{BUILD}/tests/fault/threads.so"
    assert os.path.exists(library), f"{library} is not built"
    return {"LD_PRELOAD": library}


def run_rounds(world, rounds, **settings):
    """Starts and ends daemons, while clients and sink stay."""
    sink, lives = Sink(world.bed), []
    world.backends.append(sink)
    clients = Clients()
    try:
        for number in range(rounds):
            relay = world.relay(backend_port=SCRIPTED_PORT, limits="connections_per_client = 100; errors = 1000;",
                                timeouts='drain = "5s";', **settings, **watched(world))
            lives.append(random.uniform(0, LONGEST_LIFE))
            time.sleep(lives[-1])
            if number % 3 == 2:  # the old configuration is freed while the new one is loaded
                relay.write_conf(limits="connections_per_client = 101; errors = 1000;")
                relay.process.send_signal(signal.SIGHUP)
                time.sleep(random.uniform(0, 0.03))
            relay.stop(30)
            said = [line for line in read(relay.log).splitlines() if "=" not in line]
            assert not said, f"round {number}: {said}"
            world.relays.remove(relay)
    finally:
        clients.stop()
    delivered = {a.sender for a in clients.attempts if a.delivered()}
    stored = {sender for r in ended_spools(world) for sender in r}
    lost = delivered - sink.senders() - stored
    assert not lost, f"{len(lost)} of {len(delivered)} are lost: {sorted(lost)[:5]}"
    assert delivered, "no load"
    print(f"# {rounds} rounds, {len(delivered)} of {len(clients.attempts)} messages delivered")


def ended_spools(world):
    folders = [f"{world.bed.dir}/{name}" for name in os.listdir(world.bed.dir) if name.startswith("spool-")]
    for folder in folders:
        for name in os.listdir(f"{folder}/queue") if os.path.isdir(f"{folder}/queue") else []:
            if name.endswith(".env"):
                yield re.findall(r"^sender <(.*)>", read(f"{folder}/queue/{name}"), re.M)


@scenario("stops: under load, with spares, under TLS to the backend, asking the DNS")
def stops(world):
    if world.side != "in":
        run_rounds(world, ROUNDS)
        return
    names = NameServer("127.0.0.1", 5300, {})
    try:
        run_rounds(world, ROUNDS, backend='spares = 3; tls = "encrypt";', reverse_dns="true",
                   top='dns = { servers = [ "127.0.0.1:5300" ]; validate = false; };')
    finally:
        names.close()


@scenario("stops: at once, before anything has been done")
def stops_at_once(world):
    for _ in range(ROUNDS):
        relay = world.relay(wait=False, backend_port=SCRIPTED_PORT, **watched(world))
        wait_for("its start", lambda: "event=start" in read(relay.log))
        relay.stop(30)
        said = [line for line in read(relay.log).splitlines() if "=" not in line]
        assert not said, said
        world.relays.remove(relay)


def main():
    return tap.main(with_postfix=False)


if __name__ == "__main__":
    sys.exit(main())
