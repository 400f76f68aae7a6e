"""Messages that are sent under a fault, and what the promises demand of them.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import ssl
import threading
import time

from bed import CLIENT4, Client

ACCEPTED = re.compile(r"250 2\.0\.0 Ok: queued as (\d+)$")
BODY = b"Subject: x\r\n\r\n..dot\r\n" + b"y" * 3000 + b"\r\n"


class Attempt:
    """One message, as far as it gets; `told` is the reply to its end of data, if there was one."""

    def __init__(self, name, tls=False, source=CLIENT4, body=BODY, timeout=20, pause=0):
        self.sender, self.told, self.ended, self.stuck = f"{name}@sender.example", None, False, False
        self.body, self.last, self.pause = body, None, pause
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
        time.sleep(self.pause)
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


def judge(backend, attempts, relay=None):
    """Checks the promises about messages. With a `relay` that stores, its own 250 counts too if the message was
    delivered in the end or still waits in the spool."""
    if relay is not None:
        relay.wait_empty()
    time.sleep(0.2)  # the backend's threads record what they have just said
    waiting = relay.waiting() if relay is not None else {}
    by_sender = {}
    for message in backend.messages if relay is None else backend.accepted:
        by_sender.setdefault(message.sender, []).append(message)
    for attempt in attempts:
        got = by_sender.pop(attempt.sender, [])
        assert len(got) <= 1, f"{attempt.sender} came {len(got)} times"
        if got:
            assert attempt.ended, f"{attempt.sender} was delivered without its end of data"
            assert got[0].body() == attempt.body, f"{attempt.sender} was changed"
        if attempt.delivered():
            serial = ACCEPTED.search(attempt.told[1])
            if relay is None:
                kept = serial and got and got[0].serial == int(serial[1]) and got[0].answered
            else:
                kept = bool(got) != bool(waiting.get(attempt.sender))
            assert kept, f"{attempt.sender}: a false {attempt.told}"
        elif relay is not None and attempt.told is not None:
            assert not got and attempt.sender not in waiting, f"{attempt.sender}: {attempt.told}, and stored"
        assert not attempt.stuck, f"{attempt.sender} was left without an answer"
    assert relay is not None and set(by_sender) == {""} or not by_sender, f"from nowhere: {by_sender}"
    assert not backend.violations, backend.violations[:3]


class Attempts(list):
    """All messages of a scenario. They are judged together at its end: a backend that was cut off may record a message
    after the relay has already refused it."""

    def add(self, name, tls=False, **more):
        self.append(Attempt(name, tls, **more))
        return self[-1]

    def must_deliver(self, name, tls=False, **more):
        attempt = self.add(name, tls, **more)
        assert attempt.delivered(), f"the next session, {name}: {attempt.last}"


class Load(threading.Thread):
    """Sends messages until it is told to stop."""

    def __init__(self, name, attempts, tls):
        super().__init__()
        self.name, self.attempts, self.tls, self.going = name, attempts, tls, True
        self.start()

    def run(self):
        number = 0
        while self.going:
            self.attempts.add(f"{self.name}.{number}", self.tls)
            number += 1

    def stop(self):
        self.going = False
        self.join()


def under_load(attempts, work, threads=4):
    loads = [Load(f"load{i}", attempts, tls=i % 2 == 0) for i in range(threads)]
    try:
        work()
    finally:
        for load in loads:
            load.stop()
