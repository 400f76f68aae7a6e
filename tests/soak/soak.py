"""Soak: a counting sender and a counting backend, and everything between them bounced for minutes.

Senders of every kind (plain, TLS, pipelining, large, many messages, slow, vanishing, unwelcome) and idle
clients keep the relay busy, while the backend crashes and comes back, certificates are renewed, and the
configuration is reread, good and bad. Nothing acknowledged may be missing, nothing may come twice, memory
and descriptors must stay flat. Speaks TAP; SOAK_SECONDS (600). SPDX-License-Identifier: GPL-3.0-or-later
"""
import collections
import hashlib
import os
import random
import re
import resource
import signal
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))

from bed import CLIENT4, CLIENT6, OTHER4, SCRIPTED_PORT, Bed, Client, Relay, is_sanitized, read  # noqa: E402
from recorder import Cut, Recorder  # noqa: E402

SECONDS = float(os.environ.get("SOAK_SECONDS", 600))
SENDERS, IDLE = 10, 150


def digest(data):
    return hashlib.sha256(data).hexdigest()


class CountingBackend(Recorder):
    """Keeps digests, not messages; now and then it refuses."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rng = random.Random(1)
        self.judge = self.refuse
        self.octets = 0

    def refuse(self, dialog, step, _):
        chance = self.rng.random()
        if step == "rcpt" and chance < 0.01:
            return "450 4.2.0 later"
        if step == "dot" and chance < 0.01:
            return "451 4.3.0 disk"
        if step == "dot" and chance < 0.015:
            raise Cut
        return None

    def keep(self, dialog, content, said):
        message = super().keep(dialog, content, said)
        body = message.body()
        self.octets += len(body)
        message.content = digest(body)
        self.commands.clear()
        return message


class Count:
    """What the senders know."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent, self.told, self.outcomes = {}, {}, collections.Counter()

    def note(self, outcome):
        with self.lock:
            self.outcomes[outcome] += 1


class Sender(threading.Thread):
    def __init__(self, number, count, end):
        super().__init__()
        self.number, self.count, self.end = number, count, end
        self.rng = random.Random(number)
        self.serial = 0
        self.error = None

    def run(self):
        while time.monotonic() < self.end:
            try:
                self.session()
            except (OSError, ssl.SSLError) as error:
                self.count.note(f"connection lost ({type(error).__name__})")
            except AssertionError as error:
                # A 4xx where it can't be helped: the backend is away, or says so.
                if not re.search(r"got '4\d\d", str(error)):
                    self.error = error
                    return
                self.count.note("put off")

    def session(self):
        client = Client(self.rng.choice([CLIENT4, OTHER4, CLIENT6]), timeout=60)
        try:
            client.hello()
            if self.rng.random() < 0.4:
                client.starttls()
            for _ in range(self.rng.choice([1, 1, 1, 2, 5])):
                if not self.message(client):
                    return
            client.cmd("QUIT", 221)
        finally:
            client.close()

    def body(self):
        size = self.rng.choice([10, 100, 1000, 4000, 4000, 20000, 70000, self.rng.randrange(2000000)])
        line = b"%016x" % self.rng.randrange(1 << 64) * 4 + b"\r\n"
        return b"Subject: soak\r\n\r\n" + line * (size // len(line) + 1)

    def message(self, client):
        self.serial += 1
        name = f"n{self.serial}.s{self.number}@sender.example"
        kind = self.rng.random()
        if kind < 0.05:
            client.cmd(f"MAIL FROM:<{name}>", 250)
            client.cmd("RCPT TO:<u@other.example>", 550)
            self.count.note("relaying refused")
            return False
        if kind < 0.5:
            client.send(f"MAIL FROM:<{name}>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n")
            replies = [client.reply()[0] for _ in range(3)]
            if replies[2] != 354:
                self.count.note(f"{replies[1]} to a recipient")
                return replies[2] != 421
        else:
            client.cmd(f"MAIL FROM:<{name}>", 250)
            client.cmd("RCPT TO:<a@example.com>", 250)
            client.cmd("DATA", 354)
        return self.data(client, name, kind)

    def data(self, client, name, kind):
        body = self.body()
        if kind > 0.97:
            client.send(body[:len(body) // 2])
            self.count.note("vanished")
            return False
        if kind > 0.95:
            for start in range(0, 100, 10):
                client.send(body[start:start + 10])
                time.sleep(0.05)
            client.send(body[100:])
        else:
            client.send(body)
        self.count.sent[name] = digest(body)
        client.send(".\r\n")
        code, text = self.count.told[name] = client.reply()
        self.count.note(f"{code} at the end")
        return code != 421


def bounce(bed, relay, backend, end):
    """One thing after the other; what was done, counted."""
    done, turn = collections.Counter(), 0
    while time.monotonic() < end - 5:
        time.sleep(1.3)
        turn += 1
        if turn % 5 == 0:
            backend.crash()
            time.sleep(0.7)
            backend.listen()
            done["crashes of the backend"] += 1
        elif turn % 5 == 1:
            bed.make_certificate("relay", "ec")
            done["certificates"] += 1
        else:
            bad = turn % 5 == 2
            relay.write_conf(**({"inner": "wrokers = 1;"} if bad else {"timeouts": f'line = "{20 + turn % 10}s";'}))
            relay.process.send_signal(signal.SIGHUP)
            done["bad reloads" if bad else "reloads"] += 1
    return done


class Meter(threading.Thread):
    """Memory and descriptors of the relay, every second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.going = pid, [], True
        self.start()

    def run(self):
        while self.going:
            self.samples.append((self.rss_kib(), self.descriptors()))
            time.sleep(1)

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{self.pid}/status")).group(1))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def account(count, backend):
    """Complaints, and what can't be known: messages taken in whose sender heard nothing certain (RFC 1047)."""
    wrong, arrived = list(backend.violations), collections.Counter(m.sender for m in backend.accepted)
    by_sender = {m.sender: m for m in backend.accepted}
    doubtful = 0
    wrong += [f"{sender} came {times} times" for sender, times in arrived.items() if times > 1]
    for sender, message in by_sender.items():
        if sender not in count.sent:
            wrong.append(f"{sender} was not sent to its end")
        elif count.sent[sender] != message.content:
            wrong.append(f"{sender} was changed")
        elif count.told.get(sender, (0,))[0] != 250:
            doubtful += 1
    for sender, (code, text) in count.told.items():
        if code == 250 and (sender not in by_sender or f"queued as {by_sender[sender].serial}" not in text):
            wrong.append(f"{sender} is lost: {text}")
    return wrong, doubtful


def soak(bed):
    backend = CountingBackend(SCRIPTED_PORT, certificate=(bed.cert, bed.key))
    relay = Relay(bed, backend_port=SCRIPTED_PORT,
                  limits="connections_per_client = 1000; errors = 1000;", backend='max_sessions = 20;')
    meter, count, end = Meter(relay.process.pid), Count(), time.monotonic() + SECONDS
    idle = [Client(OTHER4) for _ in range(IDLE)]
    senders = [Sender(i, count, end) for i in range(SENDERS)]
    for sender in senders:
        sender.start()
    done = bounce(bed, relay, backend, end)
    for sender in senders:
        sender.join()
    for client in idle:
        client.close()
    time.sleep(3)
    meter.going = False
    meter.join()
    resting = meter.descriptors()
    wrong, doubtful = account(count, backend)
    wrong += [f"sender: {s.error}" for s in senders if s.error]
    try:
        relay.stop()
    except AssertionError as error:
        wrong.append(str(error))
    backend.close()
    delivered = sum(1 for code, _ in count.told.values() if code == 250)
    memory, most_open = [m for m, _ in meter.samples], max(d for _, d in meter.samples)
    third = len(memory) // 3
    early, late = max(memory[:third] or memory), max(memory[-third:])
    print(f"# {SECONDS:.0f} s: {delivered} messages acknowledged, {len(backend.accepted)} taken in by the backend "
          f"({backend.octets >> 20} MiB), {doubtful} of these in doubt, {len(wrong)} complaints")
    print("# clients: " + ", ".join(f"{what} {times}" for what, times in sorted(count.outcomes.items())))
    print("# bounced: " + ", ".join(f"{what} {times}" for what, times in sorted(done.items())))
    print(f"# memory: at most {early} KiB in the first third, {late} KiB in the last; "
          f"descriptors: at most {most_open}, at rest {resting} (at first {meter.samples[0][1]})")
    if late > early * 1.05 + 1024 and not is_sanitized():
        wrong.append(f"memory grew from {early} to {late} KiB")
    if resting > meter.samples[0][1] + 4:
        wrong.append(f"{resting} descriptors are open at rest")
    if delivered < SECONDS * 10:
        wrong.append(f"only {delivered} messages")
    return wrong


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print("1..1", flush=True)
    bed = Bed()
    try:
        wrong = soak(bed)
    finally:
        bed.close()
    print(f"{'not ' if wrong else ''}ok 1 - soak")
    for line in wrong[:20]:
        print("#", line[:500])
    return 1 if wrong else 0


sys.exit(main())
