"""Faults: system calls that fail, a backend that breaks off anywhere, descriptors, clocks, files, signals.

The promises after each: the process lives; no 250 without a delivery; nothing delivered without the
client's end of data; the next session is served. Speaks TAP. FAULT_SAMPLES bounds how many places of one
call are tried (default 40, spread evenly; all of them with a large number).
SPDX-License-Identifier: GPL-3.0-or-later
"""
import errno
import glob
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "peers")]

import tap  # noqa: E402
from bed import CLIENT4, OTHER4, SCRIPTED_PORT, Client, read, wait_for  # noqa: E402
from interpose import SHORT, Page  # noqa: E402
from recorder import Recorder  # noqa: E402
from tap import scenario  # noqa: E402

SAMPLES = int(os.environ.get("FAULT_SAMPLES", 40))
ACCEPTED = re.compile(r"250 2\.0\.0 Ok: queued as (\d+)")
BODY = b"Subject: x\r\n\r\n..dot\r\n" + b"y" * 3000 + b"\r\n"


def recorder(world, **more):
    backend = Recorder(SCRIPTED_PORT, **more)
    world.backends.append(backend)
    return backend


class Attempt:
    """One message as far as it gets; `told` is the reply to its end, if there was one."""

    def __init__(self, name, tls=False, source=CLIENT4, body=BODY, timeout=8):
        self.sender, self.told, self.ended, self.stuck = f"{name}@sender.example", None, False, False
        self.body, self.last = body, None
        client = None
        try:
            client = Client(source, timeout=timeout)
            self.dialog(client, tls)
        except TimeoutError:
            self.stuck = True
        except (OSError, ssl.SSLError, AssertionError):
            pass
        finally:
            if client is not None:
                client.close()

    def dialog(self, client, tls):
        client.hello()
        if tls:
            client.starttls()
        for line, expected in ((f"MAIL FROM:<{self.sender}>", 250), ("RCPT TO:<a@example.com>", 250), ("DATA", 354)):
            self.last = client.cmd(line)
            if self.last[0] != expected:
                return
        client.send(self.body)
        self.ended = True
        client.send(".\r\n")
        self.told = self.last = client.reply()

    def delivered(self):
        return self.told is not None and self.told[0] == 250


def judge(backend, attempts):
    """The promises about messages."""
    by_sender = {}
    for message in backend.messages:
        by_sender.setdefault(message.sender, []).append(message)
    for attempt in attempts:
        got = by_sender.pop(attempt.sender, [])
        assert len(got) <= 1, f"{attempt.sender} came {len(got)} times"
        if got:
            assert attempt.ended, f"{attempt.sender} was delivered without its end of data"
            assert got[0].body() == attempt.body, f"{attempt.sender} was changed"
        if attempt.delivered():
            serial = ACCEPTED.search(attempt.told[1])
            assert serial and got and got[0].serial == int(serial[1]), f"{attempt.sender}: a false {attempt.told}"
        assert not attempt.stuck, f"{attempt.sender} was left without an answer"
    assert not by_sender, f"from nowhere: {by_sender}"
    assert not backend.violations, backend.violations[:3]


def must_deliver(backend, name, tls=False):
    attempt = Attempt(name, tls)
    assert attempt.delivered(), f"the next session, {name}: {attempt.last}"
    judge(backend, [attempt])
    backend.forget()


def places(total):
    """Which of so many calls are made to fail."""
    if total <= SAMPLES:
        return list(range(1, total + 1))
    # The first ones all, the others spread.
    return sorted({*range(1, SAMPLES // 2 + 1), *(1 + i * total // (SAMPLES // 2) for i in range(SAMPLES // 2))})


def relay_with_page(world, name, **settings):
    page = Page(f"{world.bed.dir}/{name}.page")
    relay = world.relay(backend_port=SCRIPTED_PORT, limits="errors = 1000; connections_per_client = 1000;",
                        **settings, **page.environment())
    time.sleep(0.3)  # the keeper has looked at the backend
    return relay, page


# call, what it does, whether the message must get through all the same
FAULTS = [
    ("recv", errno.EINTR, True), ("recv", SHORT, True), ("recv", errno.ECONNRESET, False), ("recv", errno.ENOMEM, False),
    ("send", errno.EINTR, False), ("send", errno.EPIPE, False),
    ("sendmsg", errno.EINTR, True), ("sendmsg", SHORT, True), ("sendmsg", errno.EPIPE, False), ("sendmsg", errno.ENOBUFS, False),
    ("poll", errno.EINTR, True), ("poll", errno.ENOMEM, False),
    ("epoll_wait", errno.EINTR, True), ("epoll_ctl", errno.ENOMEM, False), ("epoll_ctl", errno.ENOSPC, False),
    ("accept", errno.EINTR, True), ("accept", errno.ECONNABORTED, True), ("accept", errno.EMFILE, True),
    ("accept", errno.ENOMEM, True), ("read", errno.EINTR, True), ("socket", errno.EMFILE, False),
    ("connect", errno.ECONNREFUSED, False), ("connect", errno.ENETUNREACH, False), ("malloc", errno.ENOMEM, False),
]
TLS_FAULTS = [
    ("recv", errno.EINTR, True), ("recv", SHORT, True), ("recv", errno.ECONNRESET, False),
    ("sendmsg", errno.EINTR, True), ("sendmsg", SHORT, True), ("sendmsg", errno.EPIPE, False),
    ("writev", errno.EINTR, True), ("writev", SHORT, True), ("writev", errno.EPIPE, False),
    ("send", errno.EINTR, True), ("send", SHORT, True), ("send", errno.EPIPE, False), ("malloc", errno.ENOMEM, False),
]


def fail_everywhere(world, faults, tls):
    backend = recorder(world, certificate=(world.bed.cert, world.bed.key) if tls else None)
    relay, page = relay_with_page(world, "tls" if tls else "plain")
    tried = struck = 0
    wrong = []
    for call, error, harmless in faults:
        if call == "malloc" and world.sanitized:
            continue
        page.arm(call, 1 << 40, error)
        must_deliver(backend, f"count.{call}", tls)
        total = page.calls(call) + 2  # what happens when the session closes may come later
        for place in places(total):
            name = f"{call}.{errno.errorcode.get(error, 'short')}.{place}"
            page.arm(call, place, error)
            attempt = Attempt(name, tls)
            struck += page.disarm()
            tried += 1
            assert relay.process.poll() is None, f"relay-in died of {name}"
            try:
                judge(backend, [attempt])
                if harmless:
                    assert attempt.delivered(), f"{attempt.last}"
            except AssertionError as complaint:
                wrong.append(f"{name}: {complaint}")
            backend.forget()
            must_deliver(backend, f"after.{name}", tls)
    print(f"# {tried} places tried, {struck} faults struck")
    assert struck > len(faults) and not wrong, "\n".join(wrong[:20])


@scenario("system calls: each fails at each place of a message, plain")
def calls_plain(world):
    fail_everywhere(world, FAULTS, False)


@scenario("system calls: each fails at each place of a message, under TLS on both legs")
def calls_tls(world):
    fail_everywhere(world, TLS_FAULTS, True)


def main():
    return tap.main(with_postfix=False)


if __name__ == "__main__":
    sys.exit(main())
