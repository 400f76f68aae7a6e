"""Scenarios about what the daemons count: each label moves with its cause, and no other of its metric does. life.py runs
them. SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import ssl
import subprocess

from bed import BACKEND, BUILD, CLIENT4, CLIENT6, OTHER4, RELAY4, SCRIPTED_PORT, Client, ForcedOut, StoringOut, wait_for
from control import control_folder, stats
from fakes import MailServer, NameServer
from tap import scenario

BODY = "Subject: x\r\n\r\nx\r\n"
CONNECTIONS = 'connections_total{{family="{}",tls="{}"}}'.format
REJECTED = 'connections_rejected_total{{reason="{}"}}'.format
HANDSHAKES = 'tls_handshakes_total{{version="{}",result="{}"}}'.format


def counts(folder, metrics, program):
    """The totals of some metrics, without their common beginning."""
    return {name.removeprefix("postern_").removeprefix("in_").removeprefix("out_"): value
            for name, value in stats(folder, program)[0].items() if any(metric in name for metric in metrics)}


class Watch:
    """What moves while the body runs, and nothing else may."""

    def __init__(self, folder, what, metrics, expected, program="relay-in"):
        self.folder, self.what, self.metrics, self.program = folder, what, metrics, program
        self.expected = {name: 1 for name in expected} if not isinstance(expected, dict) else expected

    def moved(self):
        now = counts(self.folder, self.metrics, self.program)
        return {name: value - self.before[name] for name, value in now.items() if value != self.before[name]}

    def __enter__(self):
        self.before = counts(self.folder, self.metrics, self.program)

    def __exit__(self, kind, *rest):
        if kind is None:
            wait_for(f"{self.what} to be counted", lambda: sum(self.moved().values()) >= sum(self.expected.values()))
            assert self.moved() == self.expected, (self.what, self.moved(), self.expected)


def stop(world, relay):
    """Makes room for the next one."""
    relay.stop()
    world.relays.remove(relay)


def session(source=CLIENT4, host=None, port=25):
    client = Client(source, host, port)
    client.hello()
    return client


def under_tls(version):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # the old versions, too
    context.minimum_version = context.maximum_version = version
    client = session()
    client.cmd("STARTTLS", 220)
    client.sock = context.wrap_socket(client.sock)
    client.file = client.sock.makefile("rb")
    client.cmd("EHLO client.example", 250)
    client.close()


def no_tls(world):
    client = session()
    client.cmd("STARTTLS", 220)
    client.send("this is no handshake\r\n\r\n")
    while client.sock.recv(1000):
        pass
    client.close()


def implicit(world):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = Client(CLIENT4, port=465)
    client.sock = context.wrap_socket(client.sock)
    client.file = client.sock.makefile("rb")
    client.hello()
    client.close()


@scenario("counted: clients by family and TLS, handshakes by version")
def families(world):
    folder = control_folder(world)
    world.relay(listen='"[::]:25", "[::]:465 tls"', top=f'control = "{folder}";', tls='minimum_version = "1.0";')
    for what, action, expected in (
            ("plain IPv4", lambda _: session().close(), [CONNECTIONS("ipv4", "none")]),
            ("plain IPv6", lambda _: session(CLIENT6).close(), [CONNECTIONS("ipv6", "none")]),
            ("TLS 1.0", lambda _: under_tls(ssl.TLSVersion.TLSv1), [CONNECTIONS("ipv4", "starttls"), HANDSHAKES("1.0", "ok")]),
            ("TLS 1.1", lambda _: under_tls(ssl.TLSVersion.TLSv1_1), [CONNECTIONS("ipv4", "starttls"), HANDSHAKES("1.1", "ok")]),
            ("TLS 1.2", lambda _: under_tls(ssl.TLSVersion.TLSv1_2), [CONNECTIONS("ipv4", "starttls"), HANDSHAKES("1.2", "ok")]),
            ("TLS 1.3", lambda _: under_tls(ssl.TLSVersion.TLSv1_3), [CONNECTIONS("ipv4", "starttls"), HANDSHAKES("1.3", "ok")]),
            ("a bad handshake", no_tls, None),
            ("implicit TLS", implicit, [CONNECTIONS("ipv4", "implicit"), HANDSHAKES("1.3", "ok")])):
        if expected is None:
            with Watch(folder, what, ["tls_handshakes"], [HANDSHAKES("none", "failed")]):
                action(world)
        else:
            with Watch(folder, what, ["in_connections_total", "tls_handshakes"], expected):
                action(world)


@scenario("counted: clients that are rejected, by reason, and those that are open, by state")
def rejections(world):
    folder = control_folder(world)
    names = NameServer("10.0.0.9", 53, {("7.100.51.198.list.example", "A"): ["127.0.0.2"]})
    world.backends.append(names)
    for reason, settings, clients in (
            ("dnsbl", dict(inner='dnsbl = { zones = [ "list.example" ]; };'), [CLIENT4]),
            ("proxy", dict(listen='"[::]:25 proxy"', inner=f'proxy_hosts = [ "{OTHER4}" ];'), [CLIENT4]),
            ("early_talker", dict(inner='greet_delay = "20s";'), [CLIENT4]),
            ("denied", dict(inner=f'clients = {{ deny = [ "{OTHER4}" ]; }};'), [OTHER4]),
            ("private", {}, ["10.0.0.9"]),
            ("limit_client", dict(limits="connections_per_client = 1;"), [CLIENT4, CLIENT4]),
            ("limit_network", dict(limits="connections_per_client = 1; connections_per_network = 1;"), [CLIENT4, OTHER4]),
            ("rate", dict(limits="rate_per_client = 1;"), [CLIENT4, CLIENT4]),
            ("busy", dict(limits="connections = 1; connections_per_client = 1;"), [CLIENT4, OTHER4])):
        relay = world.relay(top=f'control = "{folder}"; dns = {{ servers = [ "10.0.0.9" ]; validate = false; }};', **settings)
        with Watch(folder, reason, ["connections_rejected"], [REJECTED(reason)]):
            held = []
            for source in clients[:-1]:
                held.append(session(source))
            last = Client(clients[-1], RELAY4 if clients[-1][0] != "1" or clients[-1][1] == "9" else "10.0.0.2")
            if reason == "early_talker":
                wait_for("it to be seen", lambda: stats(folder)[0]['postern_in_open_connections{state="greeting"}'] == 1)
                last.send("EHLO early.example\r\n")
            assert last.gone() if reason == "proxy" else last.reply()[0] in (421, 554)
            wait_for("its end", lambda: stats(folder)[0]['postern_in_open_connections{state="greeting"}'] == 0)
            if held:
                wait_for("its rest", lambda: stats(folder)[0]['postern_in_open_connections{state="parked"}'] == 1)
            last.close()
        stop(world, relay)


@scenario("counted: recipients by who refused them, messages by the stages that they came to")
def recipients(world):
    folder = control_folder(world)
    backend = world.backend()
    world.relay(backend_port=SCRIPTED_PORT, backend="spares = 0;", top=f'control = "{folder}";')
    name = 'recipients_total{{result="{}"}}'.format
    for recipient, reply, result in (("a@example.com", "250 2.1.5 Ok", "accepted"), ("a@example.com", "550 5.1.1 who", "refused_backend"),
                                     ("a@example.com", "450 4.2.0 later", "deferred"), ("a@elsewhere.example", None, "refused_domain"),
                                     ("no address at all", None, "refused_other")):
        backend.ordinary["rcpt"] = reply or "250 2.1.5 Ok"
        with Watch(folder, result, ["in_recipients"], [name(result)]):
            client = session()
            client.envelope(recipient)
            client.close()
    backend.ordinary["rcpt"] = "250 2.1.5 Ok"
    stage = 'message_duration_seconds_count{{stage="{}"}}'.format
    octets = {"octets_total": len(BODY)}
    with Watch(folder, "a message", ["duration_seconds_count{stage"], [stage(s) for s in ("dialog", "data", "final")]):
        client = session()
        client.envelope("a@example.com")
        assert client.data(BODY)[0] == 250
    with Watch(folder, "its octets", ["_octets_total"], octets):
        client.envelope("a@example.com")
        assert client.data(BODY)[0] == 250
    with Watch(folder, "a message that breaks off", ["duration_seconds_count{stage"], [stage(s) for s in ("dialog", "data")]):
        client.envelope("a@example.com")
        client.cmd("DATA", 354)
        client.send("Subject: half")
        client.close()


@scenario("counted: a message in chunks has the stages of any other, each once")
def chunks(world):
    folder = control_folder(world)
    world.relay(top=f'control = "{folder}";')
    stage = 'message_duration_seconds_count{{stage="{}"}}'.format
    wait_for("the backend's offer", lambda: "CHUNKING" in offer())
    with Watch(folder, "a message in chunks", ["duration_seconds_count{stage"], [stage(s) for s in ("dialog", "data", "final")]):
        client = session()
        client.envelope("a@example.com")
        for chunk in (BODY, "y\r\n"):
            client.send(f"BDAT {len(chunk)}\r\n{chunk}")
            assert client.reply()[0] == 250
        client.cmd("BDAT 0 LAST", 250)
        client.close()


def offer():
    client = Client()
    said = client.hello()
    client.close()
    return said


@scenario("counted: failures of the mail server, by reason")
def failures(world):
    folder = control_folder(world)
    for reason, script, settings in (
            ("greeting", {"banner": "554 5.7.1 not you"}, ""),
            ("greeting", {"banner": "421 4.3.2 busy"}, ""),
            ("timeout", {"banner": "stall"}, ""),
            ("timeout", {"mail": "stall"}, ""),
            ("identity", {"xclient": "550 5.7.0 insufficient authorization"}, ""),
            ("tls", {}, 'tls = "encrypt";'),
            ("lost", {"mail": "close"}, ""),
            ("unreachable", None, ""),
            ("busy", {"mail": "250 2.1.0 Ok"}, "max_sessions = 1;")):
        backend = world.backend(script) if script is not None else None
        relay = world.relay(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";',
                            backend=f'spares = 0; command_timeout = "1s"; {settings}')
        clients = [session() for _ in range(2 if reason == "busy" else 1)]
        with Watch(folder, f"{reason} by {script}", ["backend_failures"], [f'backend_failures_total{{reason="{reason}"}}']):
            codes = [client.envelope("a@example.com") for client in clients]
            assert codes[-1] == [451], (reason, codes)
        for client in clients:
            client.close()
        stop(world, relay)
        if backend is not None:
            backend.close()
            world.backends.remove(backend)


@scenario("counted: what the last run of doctor found")
def doctor(world):
    folder, state = control_folder(world), f"{world.bed.dir}/doctor-state"
    os.makedirs(state)
    os.chmod(state, 0o777)
    world.relay(state=state, top=f'control = "{folder}";')
    assert stats(folder)[0]["postern_doctor_timestamp_seconds"] == stats(folder)[0]["postern_doctor_failed"] == 0
    with open(f"{state}/doctor", "w") as file:
        file.write("ptr4 failed\nspf warning\nmx-to-us failed\n")
    os.utime(f"{state}/doctor", (1000, 1000))
    assert stats(folder)[0]["postern_doctor_failed"] == 2 and stats(folder)[0]["postern_doctor_timestamp_seconds"] == 1000


def relay_out(world, folder, kind=ForcedOut, **settings):
    relay = kind(world.bed, listen='"[::]:25"', top=f'control = "{folder}";', **settings)
    world.relays.append(relay)
    return relay


@scenario("counted: relay-out's recipients by class and by whose reply it is")
def far_and_us(world):
    folder = control_folder(world)
    backend = world.backend()
    relay_out(world, folder, hosts_out={"example.com": SCRIPTED_PORT, "nobody.example": 2599})
    name = 'recipients_total{{result="{}",class="{}",by="{}"}}'.format
    for recipient, script, *labels in (
            ("a@example.com", {"banner": "554 5.7.1 not you"}, "deferred", "4xx", "far"),
            ("a@example.com", {"rcpt": "250 2.1.5 Ok"}, "accepted", "2xx", "far"),
            ("a@example.com", {"rcpt": "450 4.2.0 later"}, "deferred", "4xx", "far"),
            ("a@example.com", {"rcpt": "550 5.1.1 who"}, "refused", "5xx", "far"),
            ("a@nobody.example", {}, "deferred", "4xx", "us"),
            ("a@elsewhere.example", {}, "refused", "5xx", "us")):
        backend.ordinary = {**backend.ORDINARY, **script}
        with Watch(folder, f"{recipient} with {script}", ["out_recipients"], [name(*labels)], "relay-out"):
            client = session()
            client.envelope(recipient)
            client.close()


@scenario("counted: the time of a delivery by stage, over a new connection and over a kept one")
def stages(world):
    folder = control_folder(world)
    world.backend()
    relay_out(world, folder, hosts_out={"example.com": SCRIPTED_PORT}, outer='tls = { level = "none"; };')
    stage = 'delivery_duration_seconds_count{{stage="{}"}}'.format
    kept = [stage(s) for s in ("dialog", "data", "final")]
    new = [stage(s) for s in ("dns", "connect", "greeting")] + kept + ['tls_sessions_total{policy="none",result="ok"}']
    for expected in new, kept:
        with Watch(folder, f"a message: {expected}", ["delivery_duration_seconds_count", "out_tls_sessions"], expected, "relay-out"):
            client = session()
            client.envelope("b@example.com")
            assert client.data(BODY)[0] == 250
            client.cmd("QUIT", 221)
            client.close()


@scenario("counted: TLS with next hops by the level in force")
def levels(world):
    folder = control_folder(world)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.bed.cert, world.bed.key)
    server = MailServer(BACKEND, SCRIPTED_PORT, context)
    plain = MailServer(BACKEND, SCRIPTED_PORT + 1)
    world.backends += [server, plain]
    name = 'tls_sessions_total{{policy="{}",result="{}"}}'.format
    for level, domain, result in (("may", "example.com", "ok"), ("may", "plain.example", "failed"), ("encrypt", "example.com", "ok"),
                                  ("encrypt", "plain.example", "failed")):
        relay = relay_out(world, folder, hosts_out={"example.com": SCRIPTED_PORT, "plain.example": SCRIPTED_PORT + 1},
                          outer=f'tls = {{ level = "{level}"; }};')
        tls = ['delivery_duration_seconds_count{stage="tls"}'] if domain == "example.com" else []
        with Watch(folder, (level, domain), ["out_tls_sessions", 'delivery_duration_seconds_count{stage="tls"'], [name(level, result)] + tls,
                   "relay-out"):
            client = session()
            client.envelope(f"a@{domain}")
            client.close()
        stop(world, relay)


@scenario("counted: messages, recipients and octets in the spool by state; files in its quarantine")
def spool(world):
    folder = control_folder(world)
    backend, other = world.backend(), MailServer(BACKEND, SCRIPTED_PORT + 1)
    world.backends.append(other)
    backend.ordinary["rcpt"] = "451 4.2.0 later"
    relay = relay_out(world, folder, StoringOut, hosts_out={"example.com": SCRIPTED_PORT, "plain.example": SCRIPTED_PORT + 1})

    def share(*states):
        now = stats(folder, "relay-out")[0]
        return tuple(sum(now[f'postern_spool_{what}{{state="{state}"}}'] for state in states)
                     for what in ("messages", "recipients", "octets"))

    assert share("waiting", "due", "held") == (0, 0, 0)
    client = session()
    assert client.envelope("a@example.com", "b@example.com", "c@plain.example") == [250, 250, 250]
    assert client.data(BODY)[0] == 250
    client.close()
    number = wait_for("the file", lambda: [n for n in os.listdir(f"{relay.spool}/queue") if n.endswith(".data")])[0][:-5]
    octets = os.stat(f"{relay.spool}/queue/{number}.data").st_size
    wait_for("one recipient to be settled", lambda: share("waiting", "due") == (1, 2, octets))
    wait_for("a time without a try", lambda: share("waiting") == (1, 2, octets))
    held = subprocess.run([f"{BUILD}/relayctl", "queue", "hold", number, "-c", relay.conf], capture_output=True, text=True, timeout=20)
    assert held.returncode == 0, held
    assert share("held") == (1, 2, octets) and share("waiting", "due") == (0, 0, 0)
    assert stats(folder, "relay-out")[0]["postern_spool_quarantined"] == 0
    with open(f"{relay.spool}/quarantine/no-message", "w"):
        pass
    assert stats(folder, "relay-out")[0]["postern_spool_quarantined"] == 1
