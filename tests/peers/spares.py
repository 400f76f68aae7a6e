"""Spares: how many, how long they live, and what has been sent on them.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import time

from bed import BACKEND, CLIENT4, OTHER4, Client, Postfix, read, wait_for
from interpose import Page
from mirror import GATHER, PORT, introduced, learned, mirror, wait_spares
from tap import scenario

OTHER_HOST = "10.0.0.9"


@scenario("spares: as many as asked for, replaced when used, and when the backend closes them")
def spares(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 3; tls = "none";')
    most = 0

    def settled():
        nonlocal most
        most = max(most, sum(not d.introduced for d in backend.held()))
        return len(backend.held()) == 3 and len(backend.idle()) == 3

    wait_for("three spares", settled)
    wait_spares(backend, 3)
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [250]
    taken, = introduced(backend)
    assert taken in backend.dialogs[:3], "the session did not take a spare"
    wait_for("the used one's replacement", lambda: len(backend.idle()) == 3)
    assert client.data("x\r\n")[0] == 250
    client.close()
    wait_for("three again", settled)
    # a spare closed by the backend is replaced, but not at once if it was young
    backend.drop(backend.idle()[:1])
    time.sleep(0.5)
    assert len(backend.held()) == 2
    for _ in range(3):
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        assert client.data("x\r\n")[0] == 250
        client.close()
    wait_for("three again", settled, 25)
    time.sleep(0.5)
    assert len(backend.held()) == 3 and most <= 3, (len(backend.held()), most)
    assert backend.violations == [], backend.violations
    assert relay.process.poll() is None


@scenario("spares: none under PROXY, where the client must be known first; the keeper speaks for itself")
def no_spares_for_proxy(world):
    for identity in ("proxy-v1", "proxy-v2"):
        backend = mirror(world, proxy=True)
        relay = world.relay(backend_port=PORT, identity=identity, backend="spares = 3;")
        learned()
        time.sleep(0.5)
        assert backend.held() == [], identity
        assert [d.proxy[1] in (None, "10.0.0.1", BACKEND) for d in backend.dialogs] == [True], backend.dialogs
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        assert [d.proxy for d in introduced(backend)] == [(int(identity[-1]), CLIENT4)]
        client.close()
        assert backend.violations == [], backend.violations
        relay.stop()
        backend.close()


@scenario("spares: one that died in silence, or fell silent, costs the client no refusal")
def dead_spares(world):
    for how in ("close", "stall"):
        dead = []

        def judge(dialog, step, text):
            return how if dialog in dead and step == "xclient" else None

        backend = mirror(world, judge=judge)
        relay = world.relay(backend_port=PORT, backend='spares = 2; tls = "none"; connect_timeout = "4s";')
        wait_spares(backend, 2)
        dead += backend.dialogs
        times = []
        for _ in range(3):
            client = Client()
            client.hello()
            began = time.monotonic()
            assert client.envelope("a@example.com") == [250], how
            times.append(time.monotonic() - began)
            assert client.data("x\r\n")[0] == 250
            client.close()
        print(f"# {how}: {max(times) * 1000:.0f} ms until the recipient was accepted")
        # only one client finds out, not every one
        assert len([t for t in times if t > 3.5]) == (how == "stall") and max(times) < 12, times
        assert len(backend.accepted) == 3
        relay.stop()
        backend.close()


@scenario("spares: those that have grown too old are replaced before the backend ends them")
def old_spares(world):
    page = Page(f"{world.bed.dir}/page")
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 2; tls = "none";', **page.environment())
    wait_spares(backend, 2)
    old = list(backend.dialogs)
    for age, replaced in ((200, False), (241, True)):
        page.age(age)
        client = Client()
        client.hello()
        client.close()
        # a session wakes the keeper
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        client.close()
        if replaced:
            wait_for("new spares", lambda: len(backend.idle()) == 2 and not any(d.open for d in old), 20)
            assert len(backend.held()) == 2
        else:
            time.sleep(0.5)
            assert sum(d.open for d in old) == 1, "only the used one was to go"
    assert relay.process.poll() is None and backend.violations == []


@scenario("spares: max_sessions counts them, and a session goes before a spare")
def spares_and_max(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 3; max_sessions = 3; tls = "none";')
    wait_spares(backend, 3)
    clients = []
    for _ in range(3):
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        clients.append(client)
        # A connection closed by the relay counts until the backend's thread has noticed.
        wait_for("three at most", lambda: len(backend.held()) <= 3, 2)
    time.sleep(0.3)
    assert len(backend.held()) == 3 and len(introduced(backend)) == 3, (backend.held(), introduced(backend))
    fourth = Client(OTHER4)
    fourth.hello()
    fourth.cmd("MAIL FROM:<s@sender.example>", 250)
    began = time.monotonic()
    code, text = fourth.cmd("RCPT TO:<a@example.com>")
    assert code == 451 and "4.3.2" in text and time.monotonic() - began >= 4.5, text
    clients[0].close()
    fourth.cmd("RSET", 250)
    assert fourth.envelope("a@example.com") == [250]
    # a spare that had taken the slot meanwhile gave it up before this one was connected
    wait_for("three at most", lambda: len(backend.held()) <= 3, 2)
    for client in clients[1:]:
        client.close()
    assert relay.process.poll() is None


def hellos(backend):
    """The connections on which the relay said EHLO in its own name."""
    return [d for d in backend.dialogs if d.lines[:1] == ["EHLO relay.example"]]


def deliver(expected=250):
    """Sends a message with its own client."""
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", expected)
    if expected == 250:
        assert client.data("Subject: x\r\n\r\nhello\r\n")[0] == 250
    client.close()


@scenario("spares: the offer is asked for once a minute, after a refusal, and of each host; else a greeting is enough")
def greeted_only(world):
    page = Page(f"{world.bed.dir}/page-offer")
    first = mirror(world)
    relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}", "{OTHER_HOST}:{PORT + 1}"',
                        retry_after='"60s"', backend='spares = 2; tls = "none";', **page.environment())
    wait_spares(first, 2)
    assert sorted(d.lines for d in first.dialogs) == [[], ["EHLO relay.example"]], [d.lines for d in first.dialogs]
    for _ in range(4):
        deliver()
        wait_spares(first, 2)
    assert len(hellos(first)) == 1 and len(first.accepted) == 4
    silent = [d for d in introduced(first) if d not in hellos(first)]
    assert len(silent) >= 3 and all(d.lines[0].startswith("XCLIENT NAME=") and d.lines[1] == "EHLO client.example"
                                    for d in silent), [d.lines for d in silent]

    # The attributes are only learned in our own name: a relay that still uses the old ones has not asked.
    first.extensions = [e.replace(" DESTADDR DESTPORT", "") for e in first.extensions]
    page.age(61)
    for _ in range(4):
        deliver()
        wait_spares(first, 2)
    assert len(hellos(first)) == 2, [d.lines for d in first.dialogs]
    assert "DESTADDR" in [c for c in first.commands if c.startswith("XCLIENT")][0]
    assert "DESTADDR" not in [c for c in first.commands if c.startswith("XCLIENT")][-1]

    first.script = {"xclient": "550 5.7.0 insufficient authorization"}
    deliver(451)
    first.script = {}
    wait_spares(first, 2)  # the spare in its place may have been made before the refusal
    deliver()
    wait_spares(first, 2)
    # Once by the refused session, on a fresh connection, and once for the spares, or twice if one is made
    # meanwhile.
    assert len(hellos(first)) in (4, 5), [d.lines for d in first.dialogs]

    last = first
    # The refused session has tried these two in vain, a minute ago; the last one's offer is 14 s old.
    for age, host in ((125, BACKEND), (139, OTHER_HOST)):
        backend = mirror(world, PORT + 1, host=host)
        page.age(age)  # spares that end young would not be replaced at once
        last.say_goodbye()
        wait_spares(backend, 2)
        assert len(hellos(backend)) == 1, [d.lines for d in backend.dialogs]
        deliver()
        wait_spares(backend, 2)  # none is made behind the clock's next step, and young
        assert len(backend.accepted) == 1 and backend.violations == []
        last = backend
    assert first.violations == []
    assert relay.process.poll() is None


@scenario("spares: in our own name, and under TLS, each has said all that the session need not say")
def spares_that_ask(world):
    for settings, tls, own in (('tls = "none";', False, ["EHLO relay.example"]),
                               ('tls = "encrypt";', True, ["EHLO relay.example", "STARTTLS", "EHLO relay.example"])):
        for identity in ("none", "xclient") if tls else ("none",):
            backend = mirror(world, gather=GATHER, certificate=(world.bed.cert, world.bed.key))
            relay = world.relay(backend_port=PORT, identity=identity, backend=f"spares = 2; {settings}")
            wait_for("all that they say", lambda: [d.lines for d in backend.dialogs] == [own, own])
            wait_spares(backend, 2)
            deliver()
            after, = [d.lines[len(own):] for d in backend.dialogs if any(c.startswith("MAIL") for c in d.lines)]
            assert after[0].startswith("XCLIENT" if identity == "xclient" else "MAIL"), after
            assert backend.violations == [] and len(backend.accepted) == 1
            relay.stop()
            backend.close()


@scenario("spares: Postfix, by smtpd and behind postscreen, takes the XCLIENT that follows its greeting")
def greeted_by_postfix(world):
    screened = f"{BACKEND}:2619"
    postfix = Postfix(world.bed, "greeting", f"{BACKEND}:2618", """
smtpd_authorized_xclient_hosts = 10.0.0.1, 10.0.0.2
postscreen_greet_wait = 1s
postscreen_greet_action = enforce""", f"""{screened} inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
""")
    try:
        for host in (f"{BACKEND}:2618", screened):
            # the probe has been recorded
            wait_for("rest", lambda: 0 < read(postfix.log).count(": connect from") ==
                     read(postfix.log).count(": disconnect from"))
            before = len(read(postfix.log))
            relay = world.relay(hosts=f'"{host}"', backend='spares = 2; tls = "none";')

            def log():
                return read(postfix.log)[before:]

            for count in range(1, 5):
                # two spares wait, besides those used up
                wait_for("two spares", lambda: len(re.findall(r"smtpd\[\d+\]: connect from", log())) == count + 1, 15)
                time.sleep(0.1)
                deliver()
                wait_for("the mail", lambda: len(postfix.mails("a")) == count)
                # the one that asked is used first or second
                wait_for("its end", lambda: log().count(" mail=1 rcpt=1 data=1 quit=1 ") == count)
            ends = re.findall(r"disconnect from \S+\[\S+\] (.*mail=1.*)", log())
            assert len(ends) == 4 and sum(e.startswith("ehlo=1 xclient=") for e in ends) >= 3, ends
            assert log().count(f"client=unknown[{CLIENT4}]") == 4, log()
            for bad in ("PREGREET", "synchronization", "improper", "lost connection", "timeout"):
                assert bad not in log(), log()
            postfix.clear()
            relay.stop()
    finally:
        postfix.stop()


@scenario("spares: made again after an outage before a client asks, whose message then takes five round trips")
def spares_after_outage(world):
    page = Page(f"{world.bed.dir}/page")
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 2; tls = "none";', retry_after="1", **page.environment())
    wait_spares(backend, 2)
    page.age(15)  # those that end young would not be replaced at once
    backend.say_goodbye()
    wait_for("the outage", lambda: "event=backend status=down" in read(relay.log))
    began = time.monotonic()
    backend = mirror(world, gather=GATHER)
    wait_spares(backend, 2)
    assert time.monotonic() - began < 10, "no sooner than after other failures"
    before = {id(d): len(d.flights) for d in backend.dialogs}
    deliver()
    taken, = introduced(backend)
    flights = [f.split()[0] for f in taken.flights[before[id(taken)]:]]
    assert flights[:5] == [b"XCLIENT", b"EHLO", b"MAIL", b"DATA", b"Received:"], flights


@scenario("spares: a client that finds the backend up again has the keeper, which rests, make them")
def spares_after_recovery(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 2; tls = "none";')
    wait_spares(backend, 2)
    backend.say_goodbye()  # they end young, so the keeper rests
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [451]
    client.close()
    assert "event=backend status=down" in read(relay.log)
    began = time.monotonic()
    backend = mirror(world)
    deliver()
    wait_spares(backend, 2)
    assert time.monotonic() - began < 10, "the keeper was not told"
