"""Faults: system calls that fail, a backend that breaks off anywhere, descriptors, clocks, files, signals.

After each fault the promises hold: the process lives; no 250 without a delivery; no delivery without the client's end
of data; the next session is served. Speaks TAP. FAULT_SAMPLES limits how many places of a call are tried (default 40,
spread evenly; a large number tries all).
SPDX-License-Identifier: GPL-3.0-or-later
"""
import errno
import os
import re
import resource
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "peers")]

import tap  # noqa: E402
from attempts import Attempts, judge, under_load  # noqa: E402
from bed import OTHER4, SCRIPTED_PORT, Client, read, wait_for  # noqa: E402
from interpose import SHORT, Page  # noqa: E402
from recorder import Recorder  # noqa: E402
from tap import scenario  # noqa: E402

PARKED = 0.5  # seconds after which a silent session is back with the gate
SAMPLES = int(os.environ.get("FAULT_SAMPLES", 40))


def recorder(world, **more):
    backend = Recorder(SCRIPTED_PORT, **more)
    world.backends.append(backend)
    return backend


def places(total, samples=SAMPLES):
    """Which places out of `total` are tried."""
    if total <= samples:
        return list(range(1, total + 1))
    # All of the first ones; the others are spread.
    half = samples // 2
    return sorted({*range(1, half + 1), *(1 + i * total // half for i in range(half))})


def relay_with_page(world, name, **settings):
    page = Page(f"{world.bed.dir}/{name}.page")
    if world.side != "in":
        settings["outer"] = 'reuse_for = "0s";'  # each message has its own connection, as with relay-in
    relay = world.relay(backend_port=SCRIPTED_PORT, limits="errors = 1000; connections_per_client = 1000;",
                        **settings, **page.environment())
    if world.side == "in":
        wait_for("the keeper's look", lambda: len(world.backends[-1].commands) >= 2)
    return relay, page


# call, what it does, whether the message must get through all the same
FAULTS = [
    ("recv", errno.EINTR, True), ("recv", SHORT, True), ("recv", errno.ECONNRESET, False), ("recv", errno.ENOMEM, False),
    ("send", errno.EINTR, False), ("send", errno.EPIPE, False),
    ("sendmsg", errno.EINTR, True), ("sendmsg", SHORT, True), ("sendmsg", errno.EPIPE, False), ("sendmsg", errno.ENOBUFS, False),
    ("poll", errno.EINTR, True), ("poll", errno.ENOMEM, False),
    ("epoll_wait", errno.EINTR, True), ("epoll_add", errno.ENOSPC, False), ("epoll_ctl", errno.ENOMEM, False),
    ("accept", errno.EINTR, True), ("accept", errno.ECONNABORTED, True), ("accept", errno.EMFILE, True),
    ("accept", errno.ENOMEM, True), ("socket", errno.EMFILE, False),
    ("connect", errno.ECONNREFUSED, False), ("connect", errno.ENETUNREACH, False), ("malloc", errno.ENOMEM, False),
]
TLS_FAULTS = [
    ("recv", errno.EINTR, True), ("recv", SHORT, True), ("recv", errno.ECONNRESET, False),
    ("sendmsg", errno.EINTR, True), ("sendmsg", SHORT, True), ("sendmsg", errno.EPIPE, False),
    ("sendmsg", errno.ENOBUFS, False), ("poll", errno.EINTR, True), ("malloc", errno.ENOMEM, False),
]


# On the spool. A write that is interrupted or short continues; all other faults lead to a 4xx.
SPOOL_FAULTS = [
    ("writev", errno.EINTR, True), ("writev", SHORT, True), ("writev", errno.ENOSPC, False), ("writev", errno.EIO, False),
    ("write", errno.EINTR, True), ("write", SHORT, True), ("write", errno.ENOSPC, False), ("write", errno.EIO, False),
    ("fsync", errno.EIO, False), ("fsync", errno.ENOSPC, False), ("rename", errno.EIO, False),
    ("rename", errno.ENOSPC, False), ("openat", errno.ENOSPC, False), ("openat", errno.EMFILE, False),
    ("unlink", errno.EIO, False), ("unlink", errno.EROFS, False),
]


def stored_by(world, relay):
    """The relay whose spool counts, or None."""
    return relay if world.side == "spool" else None


def fail_at(relay, page, attempts, fault, place, tls, counted):
    """Makes one fault, then a session that must be served. Returns a complaint or None, and whether the fault struck."""
    call, error, harmless = fault
    name = f"{call}.{errno.errorcode.get(error, 'short')}.{place}"
    page.arm(call, place, error)
    attempt = attempts.add(name, tls, pause=PARKED * (call in ("epoll_ctl", "poll")))
    # The keeper makes a new spare in its own time, and beyond what was counted perhaps never.
    end = time.monotonic() + (10 if place <= counted else 0.5)
    while call in ("socket", "connect") and page.calls(call) < place and time.monotonic() < end:
        time.sleep(0.01)
    struck = page.disarm()
    assert relay.process.poll() is None, f"{relay.program} died of {name}"
    attempts.must_deliver(f"after.{name}", tls)
    if attempt.stuck:
        attempt.stuck = False  # reported once
        return f"{name}: left without an answer", struck
    return f"{name}: {attempt.last}" if harmless and not attempt.delivered() else None, struck


def fail_everywhere(world, faults, tls):
    backend = recorder(world, certificate=(world.bed.cert, world.bed.key) if tls else None)
    relay, page = relay_with_page(world, "tls" if tls else "plain")
    attempts, wrong, strikes = Attempts(), [], {}
    for fault in faults:
        call = fault[0]
        if call == "malloc" and world.sanitized:
            continue
        page.arm(call, 1 << 40, fault[1])
        attempts.must_deliver(f"count.{len(attempts)}", tls, pause=PARKED * (call in ("epoll_ctl", "poll")))
        counted = page.calls(call)
        total = counted + 2  # calls at the end of the session may come later
        for place in places(total, SAMPLES // 2 if tls else SAMPLES):
            complaint, struck = fail_at(relay, page, attempts, fault, place, tls, counted)
            strikes[call] = strikes.get(call, 0) + struck
            if complaint:
                wrong.append(complaint)
                print(f"# {complaint}; the log: {read(relay.log)[-600:]!r}")
    judge(backend, attempts, stored_by(world, relay))
    print("# faults that struck: " + ", ".join(f"{call} {count}" for call, count in strikes.items()))
    assert not wrong, "\n".join(wrong[:20])
    # Deliveries from the spool connect in their own time.
    missed = {call for call, count in strikes.items() if not count} - ({"socket", "connect"} if world.side == "spool" else set())
    assert not missed, strikes


@scenario("system calls: each fails at each place of a message, plain")
def calls_plain(world):
    fail_everywhere(world, FAULTS, False)


@scenario("system calls: each on the spool fails at each place of a message, once and for a while")
def calls_spool(world):
    backend = recorder(world)
    relay, page = relay_with_page(world, "spool")
    attempts, struck = Attempts(), 0
    attempts.must_deliver("first")
    for call, error, harmless in SPOOL_FAULTS:
        page.arm(call, 1 << 40, error)
        attempts.must_deliver(f"count.{len(attempts)}")
        wait_for("its end", lambda: not relay.waiting())
        for place in places(page.calls(call)):
            for times in (1, 3):
                page.arm(call, place, error, times=times)
                attempt = attempts.add(f"{call}.{errno.errorcode.get(error, 'short')}.{place}.{times}")
                time.sleep(0.05)  # its delivery, which makes the later calls
                struck += page.disarm()
                assert relay.process.poll() is None, f"relay-out died of {attempt.sender}"
                assert attempt.told is not None or attempt.last[0] in (451, 452), attempt.last
                assert attempt.delivered() or not harmless and attempt.last[0] in (451, 452), (attempt.sender, attempt.last)
                attempts.must_deliver(f"after.{attempt.sender.split('@')[0]}")
    refused = sum(1 for a in attempts if not a.delivered())
    judge(backend, attempts, relay)
    assert not relay.waiting(), "what was stored is not delivered"
    print(f"# {struck} faults struck, {refused} messages refused of {len(attempts)}")
    assert struck > 20 and refused > 5


calls_spool.sides = ("spool",)


@scenario("system calls: each fails at each place of a message, under TLS on both legs")
def calls_tls(world):
    fail_everywhere(world, TLS_FAULTS, True)


def in_parallel(count, work):
    """Runs work(i) for each i below count, eight at a time."""
    numbers, lock, errors = iter(range(count)), threading.Lock(), []

    def run():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]


def break_off(world, kind):
    backend = recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT, limits="connections_per_client = 1000;",
                        # There are few silences, and spares would use them up instead of messages.
                        backend='command_timeout = "300ms"; reply_timeout = "300ms";' + " spares = 0;" * (kind == "stall"),
                        **({} if world.side == "in" else {"outer": 'reuse_for = "0s";'}))
    if world.side == "in":
        wait_for("the keeper's look", lambda: len(backend.commands) >= 2)
    backend.most_given = backend.most_taken = 0
    attempts = Attempts()
    attempts.must_deliver("first")
    wait_for("the end of it", lambda: backend.most_given and backend.most_taken)
    given, taken = backend.most_given, backend.most_taken
    samples = 1000 if kind == "close" else SAMPLES
    faults = ([(place - 1, None, kind) for place in places(given, samples)] +
              [(None, place - 1, kind) for place in places(taken, samples // 2)])
    backend.faults.extend(faults)
    in_parallel(len(faults), lambda i: attempts.add(f"{kind}.{i}"))
    if world.side == "spool":
        time.sleep(3)  # a failing destination is not tried for a while, so not all faults are reached
        backend.faults.clear()
    assert not backend.faults
    attempts.must_deliver("last")
    judge(backend, attempts, stored_by(world, relay))
    refused = [a for a in attempts if not a.delivered()]
    # The last octets that it sends belong to its QUIT: the message is already delivered then.
    assert world.side == "spool" or len(refused) >= len(faults) * 3 // 4 and all(a.last is None or a.last[0] in (250, 354, 451, 554) for a in refused)
    print(f"# broken off at {len(faults)} places of {given} octets given and {taken} taken")
    assert relay.process.poll() is None


@scenario("backend: closes after each octet that it says, and anywhere in what it is told")
def backend_closes(world):
    break_off(world, "close")


@scenario("backend: falls silent after octets that it says, and anywhere in what it is told")
def backend_stalls(world):
    break_off(world, "stall")


def descriptors(relay):
    return len(os.listdir(f"/proc/{relay.process.pid}/fd"))


def descriptors_at_rest(relay):
    """The number of descriptors once it has not changed for a second: spare connections take a moment."""
    seen = []

    def steady():
        seen.append(descriptors(relay))
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    wait_for("the descriptors to come to rest", steady)
    return seen[-1]


def limit_descriptors(relay, number):
    _, hard = resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (number, hard))


SPARES = 2  # the default of spares: connections that are made again after each outage


@scenario("descriptors: exhausted in every measure, clients get 4xx or wait, the next is served")
def descriptors_exhausted(world):
    backend = recorder(world)
    relay, page = relay_with_page(world, "descriptors", user="root")  # so that we may change its limits
    attempts = Attempts()
    attempts.must_deliver("first")
    before = descriptors_at_rest(relay)
    struck = 0
    for round in range(24):
        # On a busy machine it may take more than one round to hit the pause.
        if round >= 6 and struck > 0:
            break
        spare = round % 6
        limit_descriptors(relay, before + spare)
        in_parallel(8, lambda i: attempts.add(f"spare.{round}.{i}", timeout=0.7))
        # Watching the listeners again fails at first too.
        page.arm("epoll_add", 1, errno.ENOMEM, times=3)
        time.sleep(0.35)
        struck += page.disarm()
        limit_descriptors(relay, 1024)
        attempts.must_deliver(f"after.{round}")
    for attempt in attempts:
        attempt.stuck = False  # some stay in the backlog until there are descriptors for them
    wait_for("the descriptors to come back", lambda: descriptors(relay) <= before + SPARES)
    time.sleep(0.5)
    judge(backend, attempts, stored_by(world, relay))
    assert "event=accept-failed" in read(relay.log) and struck > 0, struck


DAY = 86400


@scenario("clock: a day forth or back moves no deadline")
def clock_jumps(world):
    backend = recorder(world)
    relay, page = relay_with_page(world, "clock", timeouts='command = "1500ms"; line = "1s"; data = "1s";',
                                  backend='command_timeout = "1s";')
    for jump in (DAY, -DAY):
        page.move_clock(0)
        client = Client()
        client.hello()
        page.move_clock(jump)
        time.sleep(0.7)
        client.cmd("NOOP", 250)  # no deadline has passed early
        began = time.monotonic()
        assert client.reply()[0] == 421  # and this one is not late
        assert 1 < time.monotonic() - began < 4
        page.move_clock(0)
        client = Client()
        client.hello()
        client.envelope("a@example.com")
        client.cmd("DATA", 354)
        page.move_clock(jump)
        began = time.monotonic()
        assert client.reply()[0] == 421
        assert 0.7 < time.monotonic() - began < 4
        backend.faults.append((40, None, "stall"))
        page.move_clock(0)
        client = Client()
        client.hello()
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        client.send("RCPT TO:<a@example.com>\r\n")
        time.sleep(0.2)
        page.move_clock(jump)
        began = time.monotonic()
        assert client.reply()[0] == 451
        assert 0.3 < time.monotonic() - began < 4
    assert backend.messages == []


@scenario("clock: while it drains, the watchdog is told in time even if the clock moves")
def clock_in_drain(world):
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(f"{world.bed.dir}/notify-clock")
    os.chmod(f"{world.bed.dir}/notify-clock", 0o777)
    told.settimeout(3)
    backend = recorder(world)
    page = Page(f"{world.bed.dir}/drain.page")
    relay = world.relay(backend_port=SCRIPTED_PORT, NOTIFY_SOCKET=f"{world.bed.dir}/notify-clock",
                        WATCHDOG_USEC="400000", **page.environment())
    client = Client()
    client.hello()
    client.envelope("a@example.com")
    client.cmd("DATA", 354)
    page.move_clock(DAY)
    relay.process.send_signal(signal.SIGTERM)
    while told.recv(200) != b"STOPPING=1":
        pass
    heard = [told.recv(200) for _ in range(4)]
    assert b"WATCHDOG=1" in heard, heard
    client.send("x\r\n.\r\n")
    assert client.reply()[0] == 250
    relay.stop()
    assert len(backend.messages) == 1
    told.close()


def reload_and_wait(relay, outcome):
    before = read(relay.log).count(outcome)
    relay.process.send_signal(signal.SIGHUP)
    wait_for(outcome, lambda: read(relay.log).count(outcome) > before)


FAILED, DONE = "event=reload status=failed", "event=reload status=done"


@scenario("certificates: missing, half written, unfit, empty, expired at a reload: the old ones serve on")
def certificates(world):
    backend = recorder(world, certificate=(world.bed.cert, world.bed.key))
    relay, page = relay_with_page(world, "certificates")
    good = {path: read(path) for path in (world.bed.cert, world.bed.key)}
    other = {path: read(path) for path in world.bed.make_certificate("other")}
    attempts = Attempts()

    def put(path, text):
        with open(path + ".new", "w") as file:
            file.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def restore():
        for path, text in good.items():
            put(path, text)
        reload_and_wait(relay, DONE)

    def work():
        for path, text in good.items():
            os.unlink(path)
            reload_and_wait(relay, FAILED)
            attempts.must_deliver(f"missing.{len(attempts)}", tls=True)
            for wrong in (text[:len(text) // 2], "", list(other.values())[0 if path == world.bed.cert else 1], "x" * 100000):
                put(path, wrong)
                reload_and_wait(relay, FAILED)
                attempts.must_deliver(f"wrong.{len(attempts)}", tls=True)
            restore()
        assert "expire" not in read(relay.log)
        page.move_clock(400 * DAY)
        reload_and_wait(relay, DONE)
        attempts.must_deliver("expired", tls=True)
        assert "expire" in read(relay.log), "nobody was told"
        page.move_clock(0)

    try:
        under_load(attempts, work, threads=2)
    finally:
        for path, text in good.items():
            put(path, text)
    judge(backend, attempts, stored_by(world, relay))
    assert all(a.delivered() for a in attempts), [a.last for a in attempts if not a.delivered()][:3]
    print(f"# {len(attempts)} messages meanwhile")


@scenario("reload: files that can't be opened and memory that can't be had change nothing")
def reload_faults(world):
    backend = recorder(world)
    relay, page = relay_with_page(world, "reload")
    attempts, struck = Attempts(), {}
    for call, error in (("open", errno.EMFILE), ("open", errno.EIO), ("malloc", errno.ENOMEM)):
        if call == "malloc" and world.sanitized:
            continue
        page.arm(call, 1 << 40, error)
        reload_and_wait(relay, DONE)
        for place in places(page.calls(call)):
            page.arm(call, place, error)
            reload_and_wait(relay, "event=reload status=")
            struck[call] = struck.get(call, 0) + page.disarm()
            assert relay.process.poll() is None, f"{relay.program} died of {call}.{place}"
            attempts.must_deliver(f"{call}.{error}.{place}")
    judge(backend, attempts, stored_by(world, relay))
    print(f"# {len(attempts)} reloads, faults that struck: {struck}, {read(relay.log).count(FAILED)} reloads failed")
    # configuration, certificate and key, with both errors
    assert struck["open"] >= 6 and struck.get("malloc", 99) >= 10, struck


@scenario("SIGHUP storm under load: nothing lost, nothing doubled, nothing leaks")
def hup_storm(world):
    backend = recorder(world, certificate=(world.bed.cert, world.bed.key))
    relay = world.relay(backend_port=SCRIPTED_PORT, limits="connections_per_client = 1000;")
    attempts = Attempts()
    attempts.must_deliver("first")
    before = descriptors_at_rest(relay)

    def storm():
        for _ in range(200):
            relay.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)

    under_load(attempts, storm)
    judge(backend, attempts, stored_by(world, relay))
    assert all(a.delivered() for a in attempts), [a.last for a in attempts if not a.delivered()][:3]
    assert len(backend.messages) == len(attempts)
    wait_for("the descriptors to come back", lambda: descriptors(relay) <= before)
    workers = int(re.search(r"event=start .* workers=(\d+)", read(relay.log))[1])
    most = workers + (4 if world.side == "in" else 4 + 18)  # relay-out has deliveries
    threads = wait_for("the keepers to go", lambda: len(os.listdir(f"/proc/{relay.process.pid}/task")) <= most and
                       len(os.listdir(f"/proc/{relay.process.pid}/task")))
    print(f"# {len(attempts)} messages during {read(relay.log).count(DONE)} reloads; {threads} threads")


@scenario("SIGTERM: at every stage of a message: what is complete is delivered, what is not is not")
def sigterm(world):
    backend, waiting = recorder(world), []
    for stage in range(7):
        relay = world.relay(backend_port=SCRIPTED_PORT, timeouts='drain = "800ms";')
        client, late = Client(), Client(OTHER4)
        late.hello()
        late.envelope("a@example.com", sender=f"late{stage}@sender.example")
        late.cmd("DATA", 354)
        late.send("x\r\n")
        steps = [lambda: client.hello(), lambda: client.cmd("MAIL FROM:<never@sender.example>", 250),
                 lambda: client.cmd("RCPT TO:<a@example.com>", 250), lambda: client.cmd("DATA", 354),
                 lambda: client.send("half of it\r\n"), lambda: client.send(".")]
        for step in steps[:stage]:
            step()
        time.sleep(0.05)
        relay.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        late.send(".\r\n")
        assert late.reply()[0] == 250, stage
        began = time.monotonic()
        relay.stop()
        assert time.monotonic() - began < 5, stage
        world.relays.remove(relay)
        client.close()
        waiting += relay.waiting() if world.side == "spool" else []
    time.sleep(0.2)
    assert sorted([m.sender for m in backend.messages] + waiting) == [f"late{i}@sender.example" for i in range(7)], backend.messages


def main():
    return tap.main(with_postfix=False)


if __name__ == "__main__":
    sys.exit(main())
