"""Round trips, several hosts, several backends, TLS towards them.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import select
import socket
import subprocess
import threading
import time

from bed import BACKEND, CLIENT6, OTHER4, RELAY4, Client, Postfix, read, wait_for
from interpose import Page
from mirror import FULL, GATHER, PORT, introduced, learned, mirror, wait_spares
from tap import scenario

FIRST = "MAIL FROM:<s@sender.example>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n"
BODY = "Subject: x\r\n\r\nhello\r\n.\r\n"
STRANGERS = {"xclient": "550 5.7.0 insufficient authorization"}  # how Postfix answers hosts that it does not list


def pipelined(client, again=False):
    """A message as a pipelining client sends it: two writes."""
    client.send(FIRST)
    codes = [client.reply()[0] for _ in range(3)]
    client.send(BODY)
    codes.append(client.reply()[0])
    assert codes == [250, 250, 354, 250], codes


def flights(dialog):
    """The number of flights without QUIT, which nobody waits for."""
    return [f for f in dialog.flights if not f.startswith(b"QUIT")]


def one_session(world, backend, tls):
    client = Client()
    client.hello()
    if tls:
        client.starttls()
    pipelined(client)
    dialog, = introduced(backend)
    assert dialog.tls == tls
    first = flights(dialog)
    assert first[-3].startswith(b"EHLO client.example") and first[-2].startswith(b"MAIL FROM") \
        and b"RCPT" in first[-2] + b"RCPT" and first[-1].startswith(b"Received"), first
    pipelined(client)
    second = flights(dialog)[len(first):]
    assert len(second) == 2, second
    client.close()
    assert backend.violations == [], backend.violations
    assert len(backend.accepted) == 2
    return first


@scenario("round trips: 4 on a spare and 2 for the session's next message, plain and under TLS")
def warm(world):
    for tls in (False, True):
        backend = mirror(world, gather=GATHER, certificate=(world.bed.cert, world.bed.key))
        relay = world.relay(backend_port=PORT, backend="spares = 4;")
        wait_for("spares of both kinds", lambda: {d.tls for d in backend.idle()} == {False, True})
        wait_spares(backend, 4)
        before = {id(d): len(d.flights) for d in backend.dialogs}
        client = one_session
        first = client(world, backend, tls)
        dialog, = introduced(backend)
        used = len(first) - before[id(dialog)]
        print(f"# {'TLS' if tls else 'plain'}: {used} round trips on a spare")
        assert used == 4, first
        relay.stop()
        backend.close()


@scenario("round trips: 6 cold, plain; TLS costs EHLO, STARTTLS and a handshake more")
def cold(world):
    for tls in (False, True):
        backend = mirror(world, gather=GATHER, certificate=(world.bed.cert, world.bed.key))
        relay = world.relay(backend_port=PORT, backend="spares = 0;")
        learned()
        first = one_session(world, backend, tls)
        # TCP's handshake and the wait for the greeting do not count as flights; TLS 1.3 takes one.
        dialog, = introduced(backend)
        used = 2 + len(first) + (1 if tls else 0)
        print(f"# {'TLS' if tls else 'plain'}: {used} round trips cold")
        assert not tls or dialog.version == "TLSv1.3"
        assert used == (9 if tls else 6), first
        relay.stop()
        backend.close()


@scenario("354: a client that waits for it has it before the backend's, and nothing goes on before that")
def early_354(world):
    may_answer = threading.Event()

    def judge(dialog, step, text):
        if step == "data":
            may_answer.wait(5)

    backend = mirror(world, judge=judge)
    world.relay(backend_port=PORT, backend='spares = 1; tls = "none";')
    learned()

    def commands():
        dialog, = introduced(backend)
        return [line.split(":")[0] for line in dialog.lines[-3:]]

    client = Client()
    client.hello()
    for parameters, early in (("", True), (" SIZE=1048576", True), (" SIZE=1048577", False)):
        may_answer.clear()
        client.cmd(f"MAIL FROM:<s@sender.example>{parameters}", 250)
        client.cmd("RCPT TO:<a@example.com>", 250)
        client.send("DATA\r\n")
        wait_for("DATA", lambda: commands()[-1] == "DATA")
        heard = bool(select.select([client.sock], [], [], 2 if early else 0.3)[0])
        assert heard == early, (parameters, heard)
        if early:
            assert client.reply()[0] == 354
            client.send(BODY)
            time.sleep(0.2)
            dialog, = introduced(backend)
            assert commands() == ["MAIL FROM", "RCPT TO", "DATA"] and not dialog.pending
            assert not select.select([dialog.sock], [], [], 0)[0], "mail data before the backend's 354"
            assert not select.select([client.sock], [], [], 0)[0], "answered before the backend"
        may_answer.set()
        if not early:
            assert client.reply()[0] == 354
            client.send(BODY)
        assert client.reply()[0] == 250
    assert len(backend.accepted) == 3 and backend.violations == [], backend.violations
    # A client that sends everything at once waits for the backend in any case: nothing is gained.
    may_answer.clear()
    client.send(FIRST)
    wait_for("DATA", lambda: commands()[-1] == "DATA")
    assert not select.select([client.sock], [], [], 0.3)[0], "answered before the backend"
    may_answer.set()
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 354]
    client.send(BODY)
    assert client.reply()[0] == 250


@scenario("354: a client that vanishes, or waits, before the backend was heard leaves nothing behind")
def early_354_left(world):
    backend = mirror(world)
    relay = world.relay(backend_port=PORT, backend='spares = 0; tls = "none"; command_timeout = "1s";')
    learned()

    def begin():
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        client.cmd("DATA", 354)
        return client, introduced(backend)[-1]

    for leave in Client.close, Client.kill:
        client, dialog = begin()
        leave(client)
        wait_for("the end at the backend", lambda: not dialog.open)
        assert not backend.messages and dialog.lines[-1] == "DATA", dialog.lines
    # the backend's 354 was in time, whenever the client comes
    client, dialog = begin()
    time.sleep(1.5)
    client.send(BODY)
    assert client.reply()[0] == 250 and len(backend.accepted) == 1
    client.close()
    # the backend goes away while the client pauses
    client, dialog = begin()
    backend.drop([dialog])
    wait_for("the end at the backend", lambda: not dialog.open)
    client.send(BODY)
    assert client.reply()[1].startswith("451 4.4.2")
    # a refusal costs no connection: the next message uses the same one
    assert client.envelope("a@example.com") == [250]
    backend.script = {"data": "554 5.7.1 not today"}
    dialog = introduced(backend)[-1]
    client.cmd("DATA", 354)
    client.send(BODY)
    assert client.reply()[1] == "554 5.7.1 not today"
    assert dialog.lines[-1] == "DATA", dialog.lines
    backend.script = {}
    assert client.envelope("b@example.com") == [250]
    assert client.data("x\r\n")[0] == 250
    assert introduced(backend)[-1] is dialog and "RSET" in dialog.lines
    assert [m.recipients for m in backend.accepted] == [["a@example.com"], ["b@example.com"]]
    assert backend.violations == [] and relay.process.poll() is None


@scenario("hosts: the next takes over at once, the first is asked again after retry_after")
def failover(world):
    second = mirror(world, PORT + 1)
    relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"', retry_after='"2s"', backend="spares = 0;")

    def deliver():
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        assert client.data("x\r\n")[0] == 250
        client.close()

    deliver()
    assert len(second.accepted) == 1
    first = mirror(world, PORT)
    deliver()
    assert len(second.accepted) == 2 and first.accepted == [], "the first was asked again too soon"
    wait_for("the first to be used again", lambda: deliver() or len(first.accepted) > 0, 6)
    count = len(second.accepted)
    deliver()
    assert len(second.accepted) == count
    # a host that accepts connections but serves none counts as down
    for greeting in ("close", "421 4.3.2 going down", "554 5.3.2 in maintenance", "garbage"):
        first.script = {"banner": greeting}
        deliver()
    first.say_goodbye()
    deliver()
    assert relay.process.poll() is None and second.violations == []


@scenario("hosts: one that takes connections and never greets costs one session its time now and then, not all of them")
def silent_host(world):
    with socket.create_server((BACKEND, PORT), backlog=100) as first:
        first.settimeout(0.1)
        second = mirror(world, PORT + 1)
        world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"', retry_after='"1s"',
                    backend='spares = 0; command_timeout = "2s";')
        kept = []

        def tried():
            before = len(kept)
            try:
                while True:
                    kept.append(first.accept()[0])
            except TimeoutError:
                return len(kept) - before

        def deliver():
            client = Client()
            client.hello()
            codes = client.envelope("a@example.com") + [client.data("x\r\n")[0]]
            client.close()
            return codes

        def go_on():
            while time.monotonic() < until:
                assert deliver() == [250, 250]

        assert deliver() == [250, 250]
        tried()
        until = time.monotonic() + 8
        clients = [threading.Thread(target=go_on) for _ in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        count = tried()
        print(f"# tried {count} times, {len(second.accepted)} messages")
        # one session every three seconds, and the keeper; all of them would be 30
        assert 1 <= count <= 8 and len(second.accepted) > 100, (count, len(second.accepted))
        for sock in kept:
            sock.close()


@scenario("hosts: a client on which they hang up after its PROXY header, or whose EHLO they refuse, costs nobody else a thing")
def banned(world):
    def ban(step, said):
        return lambda dialog, at, text: said if at == step and dialog.proxy[1] == OTHER4 else None

    hosts = [mirror(world, port, proxy=True, certificate=(world.bed.cert, world.bed.key)) for port in (PORT, PORT + 1)]
    relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"', identity="proxy-v2", retry_after='"60s"',
                        backend='tls = "encrypt";')
    learned()
    for step, said in (("banner", "close"), ("ehlo", "550 5.7.1 not you")):
        for host in hosts:
            host.judge = ban(step, said)
        for _ in range(3):
            client = Client(OTHER4)
            client.hello()
            assert client.envelope("a@example.com") == [451], step
            client.close()
            client = Client()
            client.hello()
            assert client.envelope("a@example.com") == [250], step
            client.close()
    assert "status=down" not in read(relay.log)


def without(word):
    return tuple(keyword for keyword in FULL if not keyword.startswith(word))


@scenario("hosts: one that cannot serve us, or hangs up, is passed over for the next, at any step before MAIL")
def unfit_host(world):
    own = (world.bed.cert, world.bed.key)
    encrypt, mirrored = 'tls = "encrypt";', 'tls = "mirror";'
    # TLS, client under TLS?, the first host's settings
    table = [
        (mirrored, False, dict(script=STRANGERS, extensions=without("XCLIENT"))),
        (mirrored, False, dict(script=STRANGERS)),
        (mirrored, False, dict(script={"xclient": "501 5.5.4 bad"})),
        (mirrored, False, dict(script={"xclient": "close"})),
        (mirrored, False, dict(script={"ehlo": "close"})),
        (encrypt, False, dict()),
        (encrypt, False, dict(certificate=own, script={"starttls": "454 4.7.0 not now"})),
        (encrypt, False, dict(certificate=own, script={"starttls": "close"})),
        (mirrored, True, dict(certificate=own, script={"starttls": "454 4.7.0 not now"})),
    ]
    wrong = []
    for spares_wanted in (0, 1):
        for tls, client_tls, settings in table:
            first, second = mirror(world, PORT, **settings), mirror(world, PORT + 1, certificate=own)
            relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"',
                                backend=f"{tls} spares = {spares_wanted};")
            for _ in range(2):
                client = Client()
                client.hello()
                if client_tls:
                    client.starttls()
                codes = client.envelope("a@example.com")
                if codes == [250]:
                    codes.append(client.data("x\r\n")[0])
                client.close()
                if codes != [250, 250]:
                    wrong.append((spares_wanted, tls, settings, codes))
            if len(second.accepted) != 2 or "status=down" in read(relay.log):
                wrong.append((spares_wanted, tls, settings, len(second.accepted)))
            relay.stop()
            for backend in (first, second):
                backend.say_goodbye()
    assert not wrong, "\n".join(map(str, wrong))


@scenario("hosts: one that hangs at any step before MAIL is passed over for the next, and the only one is not asked twice")
def hanging_host(world):
    def hang_at_own_hello(dialog, step, _):
        return "stall" if step == "ehlo" and not dialog.introduced else None

    wrong = []
    for spares_wanted in (0, 1):
        for settings in (dict(judge=hang_at_own_hello), dict(script={"xclient": "stall"}), dict(script={"ehlo": "stall"})):
            first, second = mirror(world, PORT, **settings), mirror(world, PORT + 1)
            relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"',
                                backend=f'spares = {spares_wanted}; command_timeout = "1s";')
            for _ in range(2):
                client = Client()
                client.hello()
                codes = client.envelope("a@example.com")
                client.close()
                if codes != [250]:
                    wrong.append((spares_wanted, settings, codes))
            relay.stop()
            for backend in (first, second):
                backend.say_goodbye()
    assert not wrong, "\n".join(map(str, wrong))
    only = mirror(world, PORT, script={"ehlo": "stall"})
    world.relay(backend_port=PORT, backend='spares = 0; command_timeout = "1s";')
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [451] and len(introduced(only)) == 1
    client.close()


@scenario("hosts: one for which no time is left is not taken for one that is down")
def no_time_left(world):
    page = Page(f"{world.bed.dir}/page")

    def hang_for_long(dialog, step, _):
        if step != "ehlo" or not dialog.introduced:
            return None
        page.age(181)
        return "stall"

    mirror(world, PORT, judge=hang_for_long)
    mirror(world, PORT + 1)
    relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"',
                        backend='spares = 0; command_timeout = "1s";', **page.environment())
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [451]
    client.close()
    log = read(relay.log)
    assert log.count("event=backend-lost") == 1 and "status=down" not in log


@scenario("hosts: a standby that does not know us is no reason to refuse mail for good when the first goes down")
def unknown_at_standby(world):
    first, _ = mirror(world, PORT), mirror(world, PORT + 1, script=STRANGERS, extensions=without("XCLIENT"))
    relay = world.relay(hosts=f'"{BACKEND}:{PORT}", "{BACKEND}:{PORT + 1}"', backend="spares = 0;")
    learned()
    first.script = {"banner": "421 4.3.2 going down"}
    for _ in range(3):
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [451]
        client.close()
    assert "smtpd_authorized_xclient_hosts" in read(relay.log)


@scenario("tls: XCLIENT that is offered under TLS only")
def xclient_under_tls(world):
    def offer(dialog, at, _):
        return "250-backend\r\n250-PIPELINING\r\n250 XCLIENT NAME ADDR PORT" if at == "ehlo" and dialog.tls else None

    for spares_wanted in (0, 1):
        backend = mirror(world, certificate=(world.bed.cert, world.bed.key), judge=offer, extensions=without("XCLIENT"))
        relay = world.relay(backend_port=PORT, backend=f'tls = "encrypt"; spares = {spares_wanted};')
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250], read(relay.log)[-600:]
        assert client.data("x\r\n")[0] == 250 and backend.accepted[0].tls
        relay.stop()
        backend.say_goodbye()


@scenario("hosts: IPv6, and the source address of each family")
def source(world):
    for host, hosts, own in (("2001:db8::1", f'"[2001:db8::1]:{PORT}"', "2001:db8::9"),
                             (BACKEND, f'"{BACKEND}:{PORT}"', "10.0.0.9")):
        backend = mirror(world, host=host)
        relay = world.relay(hosts=hosts, backend='source = [ "10.0.0.9", "2001:db8::9" ];')
        client = Client(CLIENT6)
        client.hello()
        assert client.envelope("a@example.com") == [250]
        assert client.data("x\r\n")[0] == 250
        assert {d.peer[0] for d in backend.dialogs} == {own}, backend.dialogs
        assert "IPV6:2001:db8::7" in backend.accepted[0].client
        client.close()
        relay.stop()
        backend.close()


SECOND = f"""backends = ( {{ domains = [ "other.example", ".sub.example" ]; hosts = [ "{BACKEND}:{PORT + 1}" ];
             identity = "xclient"; retry_after = 0; }} );"""


@scenario("domains: each has its own backend; recipients of two in one transaction are told why not")
def domains(world):
    one, two = mirror(world, PORT), mirror(world, PORT + 1)
    world.relay(backend_port=PORT, inner=SECOND)
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    client.cmd("RCPT TO:<a@example.com>", 250)
    code, text = client.cmd("RCPT TO:<b@other.example>")
    assert code == 452 and "4.5.3" in text and "has a different mail server" in text, text
    client.cmd("RCPT TO:<c@deep.sub.example>", 452)
    client.cmd("RCPT TO:<d@example.com>", 250)
    assert client.data("x\r\n")[0] == 250
    assert client.envelope("b@other.example", "c@deep.sub.example", "a@example.com") == [250, 250, 452]
    assert client.data("x\r\n")[0] == 250
    # in one write: replies come in the order of the client's commands
    client.send("MAIL FROM:<s@sender.example>\r\nRCPT TO:<b@other.example>\r\nRCPT TO:<a@example.com>\r\n"
                "RCPT TO:<e@other.example>\r\nDATA\r\n")
    assert [client.reply()[0] for _ in range(5)] == [250, 250, 452, 250, 354]
    client.send("x\r\n.\r\n")
    assert client.reply()[0] == 250
    assert [m.recipients for m in one.accepted] == [["a@example.com", "d@example.com"]]
    assert [m.recipients for m in two.accepted] == [["b@other.example", "c@deep.sub.example"],
                                                    ["b@other.example", "e@other.example"]]
    assert one.violations == two.violations == []


@scenario("domains: <postmaster> without a domain goes to the backend of the first domain, if another has it too")
def domains_postmaster(world):
    one, two = mirror(world, PORT), mirror(world, PORT + 1)
    world.relay(backend_port=PORT, inner=SECOND.replace('"other.example"', '"example.com"'))
    client = Client()
    client.hello()
    assert client.envelope("postmaster") == [250]
    assert client.data("x\r\n")[0] == 250
    assert [m.recipients for m in two.accepted] == [["postmaster@example.com"]] and one.accepted == []


@scenario("domains: the first backend refuses its recipient, so the transaction is the other's")
def domains_refused(world):
    one, two = mirror(world, PORT, script={"rcpt": "550 5.1.1 unknown"}), mirror(world, PORT + 1)
    world.relay(backend_port=PORT, inner=SECOND)
    client = Client()
    client.hello()
    assert client.envelope("a@example.com", "b@other.example") == [550, 250]
    assert client.data("x\r\n")[0] == 250
    assert [m.recipients for m in two.accepted] == [["b@other.example"]] and one.accepted == []
    client.send("MAIL FROM:<s@sender.example>\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<b@other.example>\r\nDATA\r\n")
    assert [client.reply()[0] for _ in range(4)] == [250, 550, 250, 354]
    client.send("x\r\n.\r\n")
    assert client.reply()[0] == 250 and len(two.accepted) == 2
    assert one.violations == two.violations == []


@scenario("domains: a real Postfix as client delivers to both in the end")
def domains_by_postfix(world):
    one, two = mirror(world, PORT), mirror(world, PORT + 1)
    world.relay(backend_port=PORT, inner=SECOND)
    sender = Postfix(world.bed, "outgoing", "10.0.0.1:2551", f"""
relayhost = [{RELAY4}]:25
virtual_mailbox_domains =
smtp_bind_address = {OTHER4}
mynetworks = 10.0.0.9/32""")
    try:
        client = Client("10.0.0.9", "10.0.0.1", 2551)
        client.hello()
        assert client.envelope("a@example.com", "b@other.example", "c@example.com") == [250] * 3
        assert client.data("Subject: x\r\n\r\nto both\r\n")[0] == 250
        wait_for("the first half", lambda: one.accepted or two.accepted)
        wait_for("the deferral", lambda: "status=deferred" in read(sender.log))
        assert "said: 452 4.5.3" in read(sender.log), read(sender.log)

        def flush():
            subprocess.run(["postqueue", "-c", sender.config, "-f"], check=True, timeout=20)
            time.sleep(0.5)
            return one.accepted and two.accepted

        wait_for("the second half", flush, 30)
        assert sorted(one.accepted[0].recipients) == ["a@example.com", "c@example.com"]
        assert two.accepted[0].recipients == ["b@other.example"]
        assert len(one.accepted) == len(two.accepted) == 1
    finally:
        sender.stop()


def make_ca(bed, name, host):
    """Makes a CA and a server certificate for `host` with openssl."""
    base = f"{bed.dir}/{name}"
    ca_cert, ca_key = bed.make_certificate(name)
    with open(base + ".ext", "w") as file:
        file.write(f"subjectAltName=DNS:{host}\n")
    run = dict(check=True, capture_output=True, timeout=20)
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    f"/CN={host}", "-keyout", base + "-leaf.key", "-out", base + "-leaf.csr"], **run)
    subprocess.run(["openssl", "x509", "-req", "-in", base + "-leaf.csr", "-CA", ca_cert, "-CAkey", ca_key,
                    "-CAcreateserial", "-days", "30", "-extfile", base + ".ext", "-out", base + "-leaf.crt"], **run)
    return ca_cert, (base + "-leaf.crt", base + "-leaf.key")


@scenario("tls: every level towards the backend does what it says, and what fails is named in the log")
def tls_levels(world):
    ca, right = make_ca(world.bed, "ca", "backend.example")
    other_ca, _ = make_ca(world.bed, "otherca", "backend.example")
    _, renamed = make_ca(world.bed, "ca2", "wrong.example")
    verify = 'tls = "verify"; tls_name = "backend.example"; ca_file = '
    ca2 = f"{world.bed.dir}/ca2.crt"
    # settings; the backend's certificate; client under TLS?; TLS at the backend, or what the log must say
    table = [
        ('tls = "mirror";', right, False, False), ('tls = "mirror";', right, True, True),
        ('tls = "mirror";', None, True, False),
        ('tls = "none";', right, True, False), ('tls = "none";', right, False, False),
        ('tls = "may";', right, False, True), ('tls = "may";', None, False, False),
        ('tls = "encrypt";', right, False, True),
        ('tls = "encrypt";', None, False, r"STARTTLS is not offered.*backend\.tls"),
        (f'{verify} "{ca}";', right, False, True), (f'{verify} "{ca}";', right, True, True),
        (f'{verify} "{other_ca}";', right, False, r"issuer is unknown.*backend\.ca_file"),
        (f'{verify} "{ca2}";', renamed, False, r"name in the certificate does not match.*backend\.tls_name"),
        (f'{verify} "{ca}";', None, False, r"STARTTLS is not offered.*backend\.tls"),
    ]
    wrong = []
    for spares_wanted in (0, 2):
        for settings, certificate, client_tls, expected in table:
            backend = mirror(world, certificate=certificate)
            relay = world.relay(backend_port=PORT, backend=f"{settings} spares = {spares_wanted};")
            client = Client()
            client.hello()
            if client_tls:
                client.starttls()
            client.cmd("MAIL FROM:<s@sender.example>", 250)
            code, text = client.cmd("RCPT TO:<a@example.com>")
            case = (settings, certificate and certificate[0], client_tls, spares_wanted)
            if isinstance(expected, str):
                if code != 451 or "4.3.5" not in text:
                    wrong.append((case, "the reply", text))
                client.cmd("DATA", 554)
                # the session's own line, not only the keeper's
                if not re.search(r"session=.*" + expected, read(relay.log)):
                    wrong.append((case, "the log", expected, read(relay.log)[-600:]))
                if backend.messages:
                    wrong.append((case, "delivered"))
            elif code != 250 or client.data("x\r\n")[0] != 250 or backend.accepted[0].tls != expected:
                wrong.append((case, text, [m.tls for m in backend.accepted]))
            wrong += backend.violations
            client.close()
            relay.stop()
            backend.say_goodbye()
    assert not wrong, "\n".join(map(str, wrong))


@scenario("kept replies: what was decided for a transaction holds while its client takes its time")
def decided_for_slow(world):
    backend = mirror(world, judge=lambda dialog, step, text:
                     "550 5.7.1 not from there" if step == "mail" and "refused" in text else None)
    world.relay(backend_port=PORT, backend='tls = "none";', inner="workers = 1;")
    slow = Client()
    slow.hello()
    slow.cmd("MAIL FROM:<refused@sender.example>", 250)
    for _ in range(3):
        assert slow.cmd("RCPT TO:<a@example.com>") == (550, "550 5.7.1 not from there"), "the refusal of MAIL"
        # the only worker serves another one meanwhile
        time.sleep(0.5)
        other = Client(OTHER4)
        other.hello()
        assert other.envelope("a@example.com") == [250]
        assert other.data("x\r\n")[0] == 250
        other.close()
    slow.close()
    assert len(backend.accepted) == 3 and backend.violations == []
