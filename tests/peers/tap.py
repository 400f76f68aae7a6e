"""What every program of scenarios shares: the register, the world, TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import os
import sys
import time
import traceback

import bed as testbed
from bed import BACKEND, POSTFIX_PORT, SIDES, Bed, Postfix, read
from fakes import ScriptedBackend

scenarios = []


def scenario(name):
    def register(function):
        scenarios.append((name, function))
        return function
    return register


class World:
    """What scenarios share: the bed and, for those that need it, one Postfix behind the relay."""

    def __init__(self, with_postfix):
        self.bed = Bed()
        self.sanitized = testbed.is_sanitized()
        self.side = os.environ.get("POSTERN_SIDE", "in")  # of bed.SIDES; several run one after the other
        self.relays, self.backends = [], []
        self.postfix = Postfix(self.bed, "backend", f"{BACKEND}:{POSTFIX_PORT}",
                               "smtpd_authorized_xclient_hosts = 10.0.0.1, 10.0.0.2") if with_postfix else None

    def close(self):
        if self.postfix is not None:
            self.postfix.stop()
        self.bed.close()

    def relay(self, **settings):
        relay = SIDES[self.side](self.bed, **settings)
        self.relays.append(relay)
        return relay

    def backend(self, *args, **kwargs):
        backend = ScriptedBackend(*args, **kwargs)
        self.backends.append(backend)
        return backend

    def tidy(self):
        """After each scenario: stops everything, and checks that it stops cleanly."""
        try:
            for relay in self.relays:
                relay.stop()
        finally:
            for backend in self.backends:
                backend.close()
            self.relays, self.backends = [], []
            if self.postfix is not None:
                self.postfix.clear()


def run_one(world, number, name, function):
    began = time.monotonic()
    try:
        try:
            function(world)
        finally:
            logs = [(r.log, read(r.log)) for r in world.relays]
            world.tidy()
    except Exception:  # a failed scenario is reported, and the others continue
        print(f"not ok {number} - {name}")
        for line in traceback.format_exc().splitlines()[-25:]:
            print("#", line)
        for path, text in logs + [(path, read(path)) for path in glob.glob(f"{world.bed.dir}/*/log")]:
            print(f"# -- {path}")
            for line in text.splitlines()[-15:]:
                print("#   ", line[:300])
        return False
    print(f"ok {number} - {name}")
    print(f"# {time.monotonic() - began:.1f} s", flush=True)
    return True


def main(with_postfix=True):
    world = World(with_postfix)
    sides = world.side.split()
    plan = [(f"{side}, {n}" if len(sides) > 1 else n, f, side) for side in sides for n, f in scenarios]
    plan = [(n, f, side) for n, f, side in plan if side in getattr(f, "sides", (side,)) and
            (not sys.argv[1:] or any(w in n for w in sys.argv[1:]))]
    print(f"1..{len(plan)}", flush=True)
    results = []
    try:
        for number, (name, function, world.side) in enumerate(plan, 1):
            results.append(run_one(world, number, name, function))
    finally:
        world.close()
    return 0 if plan and all(results) else 1
