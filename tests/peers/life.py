"""Scenarios about start, reload and shutdown; speaks TAP. SPDX-License-Identifier: GPL-3.0-or-later"""
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import counted  # runs its scenarios here too
import tap
from bed import BACKEND, BUILD, CLIENT4, OTHER4, RELAY4, SCRIPTED_PORT, Client, Postfix, read, wait_for
from control import control_folder, stats
from fakes import NameServer
from tap import scenario


def reload(relay):
    done = read(relay.log).count("event=reload status=")
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: read(relay.log).count("event=reload status=") > done)
    assert read(relay.log).count("status=failed") == 0, read(relay.log)[-600:]


def refused_at_once():
    """Without a listener the kernel refuses at once; a leftover one would let the client wait."""
    try:
        socket.create_connection((RELAY4, 25), 5, source_address=(CLIENT4, 0)).close()
        return False
    except ConnectionRefusedError:
        return True


def end_in_transaction(world, relay):
    """SIGTERM in the middle of a message: new clients are refused while it continues, and the process ends with
    it, whatever the backends' keepers wait for."""
    client = Client()
    client.hello()
    client.envelope("a@example.com")
    client.cmd("DATA", 354)
    relay.process.terminate()
    wait_for("the refusal", refused_at_once)
    assert relay.process.poll() is None
    client.send("Subject: x\r\n\r\nx\r\n.\r\n")
    assert client.reply()[0] == 250
    client.cmd("QUIT")
    began = time.monotonic()
    assert relay.process.wait(9) == 0
    print("# ended %.2f s after the last transaction" % (time.monotonic() - began))


def second_group(address):
    return (f'backends = ( {{ domains = [ "two.example" ]; hosts = [ "{address}" ]; identity = "xclient"; '
            'connect_timeout = "30s"; } );')


@scenario("end: refused at once, gone with the last transaction, with a backend that never greets")
def end_ungreeted(world):
    world.backend()
    with socket.create_server((BACKEND, 2601), backlog=100) as silent:
        relay = world.relay(backend_port=SCRIPTED_PORT, inner=second_group(f"{BACKEND}:2601"),
                            timeouts='drain = "60s";')
        silent.accept()  # the keeper has connected, and waits
        end_in_transaction(world, relay)


@scenario("end: the same with a backend that takes no connection, as behind a dead tunnel")
def end_unconnected(world):
    world.backend()
    # with a full backlog the kernel answers no SYN
    with socket.create_server((BACKEND, 2601), backlog=0) as full, \
            socket.create_connection((BACKEND, 2601), 5):
        assert full
        relay = world.relay(backend_port=SCRIPTED_PORT, inner=second_group(f"{BACKEND}:2601"),
                            timeouts='drain = "60s";')
        syn_sent = f"dst {BACKEND} dport = :2601"
        wait_for("the keeper", lambda: subprocess.run(["ss", "-Htn", "state", "syn-sent", *syn_sent.split()],
                                                      capture_output=True, text=True).stdout)
        end_in_transaction(world, relay)


@scenario("reload: a CA that was put right under the same name is read again")
def reload_ca(world):
    cert, key = world.bed.make_certificate("other")
    ca = f"{world.bed.dir}/ca.pem"
    shutil.copy(cert, ca)
    relay = world.relay(backend=f'tls = "verify"; ca_file = "{ca}"; tls_name = "relay.example"; spares = 0;')
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [451]
    shutil.copy(world.bed.cert, ca)
    reload(relay)
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [250]


@scenario("reload: a new certificate for the backend is shown to it, under the same name or another")
def reload_client_certificate(world):
    mine = f"{world.bed.dir}/mine"
    keys = 'tls = "encrypt"; spares = 1; cert = "{0}.crt"; key = "{0}.key";'
    asks = Postfix(world.bed, "asks", f"{BACKEND}:2541", "smtpd_authorized_xclient_hosts = 10.0.0.2\n"
                   "smtpd_tls_ask_ccert = yes\nsmtpd_tls_received_header = yes")

    def shown():
        asks.clear()
        client = Client()
        client.hello()
        assert client.envelope("a@example.com") == [250]
        assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
        client.close()
        return re.search(r'Client CN "(\w+)\.example"', asks.wait_mail("a").decode())[1]

    def put(name):
        for old, suffix in zip(world.bed.make_certificate(name), ("crt", "key")):
            shutil.copy(old, f"{mine}.{suffix}")

    try:
        put("first")
        relay = world.relay(backend_port=2541, backend=keys.format(mine))
        assert shown() == "first"
        put("second")
        reload(relay)
        assert shown() == "second"
        world.bed.make_certificate("third")
        relay.write_conf(backend=keys.format(f"{world.bed.dir}/third"))
        reload(relay)
        assert shown() == "third"
    finally:
        asks.stop()


@scenario("reload: what it can't change is named, each time, until a restart")
def reload_restart(world):
    relay = world.relay()
    relay.write_conf(inner='workers = 7; greet_delay = "1ms";')
    for _ in range(2):
        reload(relay)
    lines = [l for l in read(relay.log).splitlines() if "event=reload option=" in l]
    assert len(lines) == 2, lines
    for line in lines:
        assert 'option=in.workers effect="after a restart"' in line, line


@scenario("backends: groups with one mail server share it, before and after a reload")
def one_server(world):
    backend = world.backend()
    group = '{ domains = [ "%s" ]; hosts = [ "' + f"{BACKEND}:{SCRIPTED_PORT}" + \
        '" ]; identity = "xclient"; retry_after = 0; }'
    relay = world.relay(backend_port=SCRIPTED_PORT,
                        inner="backends = ( " + ", ".join(group % d for d in ("two.example", "3.example")) + " );")
    for _ in range(2):
        client = Client()
        client.hello()
        assert client.envelope("a@example.com", "a@two.example", "a@3.example") == [250, 250, 250]
        assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
        reload(relay)
    assert len(backend.messages) == 2


@scenario("names: resolv.conf is filled after the start, with an odd line first; no restart, no reload")
def resolv_conf(world):
    path = f"{world.bed.dir}/resolv.conf"
    with open(path, "w") as file:
        file.write("# nothing yet\n")
    names = NameServer("10.0.0.9", 53, {("7.100.51.198.in-addr.arpa", "PTR"): ["client.test"],
                                        ("client.test", "A"): [CLIENT4]})
    subprocess.run(["mount", "--bind", path, "/etc/resolv.conf"], check=True)
    try:
        relay = world.relay(reverse_dns="true", top="dns = { validate = false; };")

        def send():
            client = Client()
            client.hello()
            assert client.envelope("a@example.com") == [250]
            assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
            return f"client=client.test[{CLIENT4}]" in read(world.postfix.log)

        assert not send() and not names.asked
        with open(path, "w") as file:
            file.write("nameserver dns.example\nnameserver 10.0.0.9\n")
        wait_for("the client's name at Postfix", send, 20)
        assert "event=dns-server-ignored" in read(relay.log) and "dns.example" in read(relay.log)
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
        names.close()


@scenario("control: relay-in tells its numbers, what its backend is like, and its certificates")
def numbers(world):
    folder = control_folder(world)
    relay = world.relay(top=f'control = "{folder}";')
    wait_for("the backend", lambda: stats(folder)[0]['postern_backend_up{backend="0"}'] == 1)
    client = Client()
    client.hello()
    client.starttls()
    assert client.envelope("a@example.com", "nobody@example.com", "a@elsewhere.example") == [250, 550, 550]
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    samples, today, lines = stats(folder)
    for name, value in (('messages_total{result="delivered"}', 1), ('recipients_total{result="accepted"}', 1),
                        ('recipients_total{result="refused_backend"}', 1), ('recipients_total{result="refused_domain"}', 1),
                        ('tls_handshakes_total{version="1.3",result="ok"}', 1), ('message_duration_seconds_count{stage="final"}', 1)):
        assert samples["postern_in_" + name] == value, (name, samples)
        assert today.get("postern_in_" + name, value) == value, (name, today)
    assert samples["postern_in_open_connections_limit"] == 1000
    text = "\n".join(lines)
    assert re.search(rf"^certificate 0 \d+ {world.bed.cert} relay\.example$", text, re.M), text
    assert re.search(rf"^backend 0 up \d+ \d+ {BACKEND}:2525 -$", text, re.M), text
    assert re.search(r"^daemon relay-in \d", text, re.M) and f"config {int(samples['postern_in_reload_timestamp_seconds'])} {relay.conf}" in lines, text
    relay.write_conf(inner="wrokers = 7;")
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "status=failed" in read(relay.log))
    assert stats(folder)[0]["postern_in_reload_success"] == 0


def status(conf, *more):
    return subprocess.run([f"{BUILD}/relayctl", "status", "-c", conf, *more], capture_output=True, text=True,
                          timeout=20)


@scenario("status: one screen; 0 when all is well, 1 with warnings, 2 with failures; all numbers as JSON")
def one_look(world):
    folder = control_folder(world)
    state = f"{world.bed.dir}/status-state"
    os.makedirs(state)
    os.chown(state, pwd.getpwnam("nobody").pw_uid, -1)
    backend = world.backend()
    relay = world.relay(backend_port=SCRIPTED_PORT, state=state, top=f'control = "{folder}";')
    wait_for("the backend", lambda: "event=backend status=up" in read(relay.log))
    client = Client()
    client.hello()
    assert client.envelope("a@example.com") == [250]
    assert client.data("Subject: x\r\n\r\nx\r\n")[0] == 250
    result = status(relay.conf)
    assert result.returncode == 0 and result.stdout.endswith("all is well\n"), result
    assert "last doctor" not in result.stdout, "another state folder's"
    for part in (f"backend      {BACKEND}:{SCRIPTED_PORT} up for", "1 delivered, 0 deferred", "1 of 1000 connected",
                 "relay.example, 89 days left"):
        assert part in result.stdout, result.stdout
    assert len(result.stdout.splitlines()) <= 24, result.stdout
    # doctor's findings are in this daemon's state folder.
    doctor = subprocess.run([f"{BUILD}/relayctl", "doctor", "-c", relay.conf, "--only", "hostname,ptr4", "--changes"],
                            capture_output=True, text=True, timeout=60)
    assert doctor.returncode in (0, 1, 2) and os.path.exists(f"{state}/doctor"), doctor
    assert re.search(r"last doctor +\d+ s ago: ", status(relay.conf).stdout), status(relay.conf)
    answer = json.loads(status(relay.conf, "--json").stdout)
    assert answer["doctor"]["failed"] + answer["doctor"]["warnings"] == len(
        re.findall(r" (?:failed|warning)$", read(f"{state}/doctor"), re.M)), answer["doctor"]
    # Nobody reads "all is well" beside a doctor who found failures, unless that was long ago.
    with open(f"{state}/doctor", "w") as file:
        file.write("mx-to-us ok\nptr4 warning\n")
    answer = json.loads(status(relay.conf, "--json").stdout)
    assert answer["status"] == 0 and answer["problems"] == [], answer
    with open(f"{state}/doctor", "a") as file:
        file.write("fcrdns4 failed\n")
    result = status(relay.conf)
    assert result.returncode == 1 and re.search(r"! doctor failures \d+ s ago: 1;", result.stdout), result
    os.utime(f"{state}/doctor", (time.time() - 3 * 86400,) * 2)
    assert status(relay.conf).returncode == 0
    assert answer["relay-in"]["today"]['postern_in_messages_total{result="delivered"}'] == 1, answer
    os.utime(relay.conf, (time.time() + 60,) * 2)
    result = status(relay.conf)
    assert result.returncode == 1 and "systemctl reload relay-in" in result.stdout, result
    backend.close()

    def attempt():  # each uses up one of the spares, which no longer have a server
        client = Client(OTHER4)
        client.hello()
        codes = client.envelope("a@example.com")
        client.close()
        return codes

    wait_for("451", lambda: attempt() == [451])
    result = status(relay.conf)
    assert result.returncode == 2 and re.search(r"! backend .* has been down for .*refused", result.stdout), result
    answer = json.loads(status(relay.conf, "--json").stdout)
    assert answer["status"] == 2 and answer["relay-in"]["sample"]['postern_backend_up{backend="0"}'] == 0, answer
    relay.stop()
    result = status(relay.conf)
    assert result.returncode == 2 and "relay-in does not run" in result.stdout, result


@scenario("status: a renewed certificate that cannot be loaded is told, until it can or the old one is back")
def unfit_certificate(world):
    relay = world.relay(top=f'control = "{control_folder(world)}";')
    told = "files have changed but cannot be loaded"
    assert told not in status(relay.conf).stdout
    cert = read(world.bed.cert)
    with open(world.bed.cert, "w") as file:
        file.write("-----BEGIN half\n")
    wait_for("the warning", lambda: told in status(relay.conf).stdout, 15)
    assert status(relay.conf).returncode > 0
    with open(world.bed.cert, "w") as file:
        file.write(cert)
    wait_for("its end", lambda: told not in status(relay.conf).stdout, 15)


@scenario("status: a backend not tried yet has no reason; whatever octets the daemon's lines have, the JSON is valid")
def odd_lines(world):
    folder = control_folder(world)
    conf = f"{world.bed.dir}/odd.conf"
    with open(conf, "w") as file:
        file.write(f'''hostname = "relay.example"; control = "{folder}";
in = {{ listen = [ "127.0.0.1:2525" ]; domains = [ "example.com" ];
  backend = {{ hosts = [ "127.0.0.1:2600" ]; identity = "xclient"; }}; }};
''')
    odd = b'"\\ \x01\x1b\x7f\xff \xc3\xbc \xe2\x80\xae \xf3\xa0\x80\x81'
    # Daemons mask such octets; only the JSON does not rely on it.
    answer = b"ok\ndaemon relay-in " + odd + b"\nbackend 0 unknown 0 -1 127.0.0.1:2600 -" \
        b'\nsample postern_in_x{reply="' + odd + b'"} 1\nend\n'
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/relay-in.socket")
    listener.listen()
    listener.settimeout(20)

    def ask(*words):
        process = subprocess.Popen([f"{BUILD}/relayctl", "status", "-c", conf, *words], stdout=subprocess.PIPE,
                                   env=dict(os.environ, LC_ALL="C"))
        with listener.accept()[0] as asked:
            asked.settimeout(20)
            asked.recv(100)
            asked.sendall(answer)
        return process.communicate(timeout=20)[0]
    try:
        said = json.loads(ask("--json"))
        assert said["relay-in"]["daemon"] == ["relay-in " + '"\\ \x01\x1b\x7f\xff \xfc \u202e \U000e0001'], said
        text = ask().decode(errors="replace")
        assert "2600 not tried yet" in text and ": -" not in text, text
    finally:
        os.unlink(listener.getsockname())
        listener.close()


@scenario("relayctl: a daemon that hangs is told within seconds, by every subcommand that shows what it has at hand")
def hanging(world):
    folder = control_folder(world)
    conf = f"{world.bed.dir}/hanging.conf"
    with open(conf, "w") as file:
        file.write(f'''hostname = "relay.example"; control = "{folder}";
in = {{ listen = [ "127.0.0.1:2525" ]; domains = [ "example.com" ];
  backend = {{ hosts = [ "127.0.0.1:2600" ]; identity = "xclient"; }}; }};
out = {{ listen = [ "127.0.0.1:2526" ]; allow = [ "127.0.0.1" ]; spool = ""; state = ""; }};
''')
    mute = []
    for program in ("relay-in", "relay-out"):
        mute.append(socket.socket(socket.AF_UNIX))
        mute[-1].bind(f"{folder}/{program}.socket")
        mute[-1].listen()
    asked = {words: subprocess.Popen([f"{BUILD}/relayctl", *words.split(), "-c", conf], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
             for words in ("status", "top --count 1", "hosts", "missed", "status --json")}
    try:
        answer = asked.pop("status --json").communicate(timeout=30)[0]
        assert [json.loads(answer)[program]["running"] for program in ("relay-in", "relay-out")] == [None] * 2, answer
        for words, process in asked.items():
            assert "does not answer" in process.communicate(timeout=30)[0], words
    finally:
        for process in asked.values():
            process.kill()
        for listener in mute:
            os.unlink(listener.getsockname())
            listener.close()


@scenario("backend: an idle relay notices within 30 s that the tunnel is cut, and that it is back")
def idle_cut(world):
    for more in ("spares = 2;", "spares = 0;"):
        world.backend()
        relay = world.relay(backend_port=SCRIPTED_PORT, backend=more)
        wait_for("up", lambda: "event=backend status=up" in read(relay.log))
        time.sleep(0.5)  # the spares exist
        # nothing passes any more, and neither side is told
        subprocess.run("tc qdisc add dev lo root tbf rate 8bit burst 1 limit 1".split(), check=True)
        began = time.monotonic()
        try:
            wait_for("down", lambda: f"event=backend status=down backend={BACKEND}" in read(relay.log), 40)
            down = time.monotonic() - began
        finally:
            subprocess.run("tc qdisc del dev lo root".split(), check=True)
        began = time.monotonic()
        wait_for("up again", lambda: re.search("event=backend status=up .*down_s=", read(relay.log)), 40)
        up = time.monotonic() - began
        print("# %s down after %.1f s, up after %.1f s" % (more, down, up))
        assert down < 30 and up < 30, (down, up)
        relay.stop()
        world.backends.pop().close()


@scenario("missed: of a message for many, each recipient comes back, or does not, by itself")
def missed_many(world):
    folder = control_folder(world)
    backend = world.backend()
    relay = world.relay(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";', backend="spares = 0;",
                        limits="errors = 1000;")
    wait_for("up", lambda: "event=backend status=up" in read(relay.log))
    backend.close()
    world.backends.remove(backend)
    everybody = [f"r{i}-{'x' * 50}@example.com" for i in range(40)]

    def attempt(recipients):
        client = Client()
        client.hello()
        codes = set(client.envelope(*recipients, sender="s@many.example"))
        if codes == {250}:
            codes = {client.data("Subject: x\r\n\r\nx\r\n")[0]}
        client.close()
        return codes

    def pending():
        rows = subprocess.run([f"{BUILD}/relayctl", "missed", "-c", relay.conf, "--json"], capture_output=True, text=True,
                              timeout=20).stdout.splitlines()
        states = {row["recipient"]: row["state"] for row in map(json.loads, rows)}
        assert set(states) == set(everybody), states
        return [recipient for recipient in everybody if states[recipient] != "came-back"]

    wait_for("451", lambda: attempt(everybody) == {451})
    assert pending() == everybody
    world.backend()
    wait_for("250", lambda: attempt(everybody[3:4]) == {250}, 30)
    assert pending() == everybody[:3] + everybody[4:]
    assert attempt(everybody[:39]) == {250}
    assert pending() == everybody[39:]


@scenario("missed: a recipient that strangers made up does nothing to the terminal that it is shown on")
def missed_terminal(world):
    folder = control_folder(world)
    backend = world.backend()
    backend.ordinary["ehlo"] = backend.ordinary["ehlo"].replace("8BITMIME", "SMTPUTF8")
    relay = world.relay(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";', backend="spares = 0;")
    wait_for("the offer", lambda: "extensions=SMTPUTF8" in read(relay.log))
    backend.close()
    world.backends.remove(backend)
    client = Client()
    client.hello()
    client.cmd("MAIL FROM:<s@sender.example> SMTPUTF8", 250)
    # CSI as one character, right-to-left override, and a harmless letter
    client.cmd("RCPT TO:<\xc2\x9b31mx\xe2\x80\xae\xc3\xbc@example.com>", 451)
    client.close()
    plain = [f"{BUILD}/relayctl", "missed", "-c", relay.conf]
    text = subprocess.run(plain, capture_output=True, timeout=20).stdout
    assert b"to ??31mx???\xc3\xbc@example.com" in text, text
    for hours in ("yesterday", "-1", "1h", "nan", ""):
        assert subprocess.run([*plain, "--since", hours], capture_output=True, timeout=20).returncode == 64, hours


@scenario("missed: after an outage, with kill -9 in the middle, the ledger says exactly who has come back")
def ledger(world):
    folder, state = control_folder(world), f"{world.bed.dir}/state"
    os.makedirs(state)
    shutil.chown(state, "nobody", "nogroup")
    backend = world.backend({"rcpt": "250 2.1.5 Ok"})
    settings = dict(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";', state=state,
                    backend="spares = 0;", limits="errors = 1000;")
    relay = world.relay(**settings)
    wait_for("up", lambda: "event=backend status=up" in read(relay.log))
    backend.close()
    senders = {f"s{i}@d{i}.example": f"r{i}@example.com" for i in range(50)}

    def attempt(sender):
        client = Client()
        client.hello()
        codes = client.envelope(senders[sender], sender=sender)
        if codes == [250]:
            codes = [client.data("Subject: x\r\n\r\nx\r\n")[0]]
        client.close()
        return codes[0]

    def killed():
        relay.process.kill()
        relay.process.wait()
        world.relays.remove(relay)
        return world.relay(**settings)

    for number, sender in enumerate(senders):
        assert attempt(sender) == 451
        if number % 2 == 0:
            assert attempt(sender) == 451
        if number == 30:
            relay = killed()
    assert "event=backend status=down" in read(relay.log)
    world.backends.remove(backend)
    backend = world.backend({"rcpt": "250 2.1.5 Ok"})
    back, refused = set(list(senders)[:40]), set(list(senders)[40:45])
    wait_for("delivery", lambda: attempt("s0@d0.example") == 250, 30)
    for number, sender in enumerate(sorted(back - {"s0@d0.example"})):
        assert attempt(sender) == 250
        if number == 20:
            relay = killed()
            wait_for("up", lambda: "event=backend status=up" in read(relay.log))
    backend.script = {"rcpt": "550 5.1.1 No such user"}
    for sender in refused:
        assert attempt(sender) == 550

    def missed(*more):
        result = subprocess.run([f"{BUILD}/relayctl", "missed", "-c", relay.conf, *more], capture_output=True,
                                text=True, timeout=20)
        assert result.returncode == 0, result
        return result.stdout

    rows = {row["recipient"]: row for row in map(json.loads, missed("--json").splitlines())}
    for number, (sender, recipient) in enumerate(senders.items()):
        row = rows.pop(recipient)
        state_then = "came-back" if sender in back else "refused" if sender in refused else "pending"
        assert row["state"] == state_then and row["sender"] == sender.partition("@")[2], (sender, row)
        if state_then == "pending":
            assert row["tries"] == (2 if number % 2 == 0 else 1) and row["reason"] == "unreachable", row
    assert not rows, rows
    text = missed()
    assert "50 messages to single recipients were put off: 40 have come back" in text and \
        "5 were refused then, 5 have not come back:" in text and len(text.splitlines()) == 6, text
    assert missed("--all").count(" to r") == 50
    assert "s1@" not in read(f"{state}/missed")
    assert stats(folder)[0]["postern_missed_pending"] == 5
    assert not [path for path in os.listdir(state) if "Subject: x" in read(f"{state}/{path}")], "no mail is stored"
    # the backend's own deferrals are not ours
    backend.script = {"rcpt": "450 4.2.0 Greylisted"}
    client = Client(OTHER4)
    client.hello()
    assert client.envelope("grey@example.com") == [450]
    assert "grey" not in missed("--all")
    # an outage that a running relay sees from beginning to end
    backend.close()
    world.backends.remove(backend)
    client.close()
    senders["late@late.example"] = "late@example.com"
    wait_for("451", lambda: attempt("late@late.example") == 451)
    world.backend()
    wait_for("its end", lambda: re.search(r"event=outage status=over .*seconds=\d+ missed=[1-9]", read(relay.log)), 40)
    relay.stop()
    off = world.relay(**{**settings, "inner": "missed = false;"})
    result = subprocess.run([f"{BUILD}/relayctl", "missed", "-c", off.conf], capture_output=True, text=True, timeout=20)
    assert result.returncode == 69 and "in.missed" in result.stderr, result


@scenario("route: what both daemons would do with an address, by the rules of now")
def routes(world):
    folder = control_folder(world)
    world.backend()
    inbound = world.relay(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";')
    world.side = "out"
    outbound = world.relay(listen=f'"{RELAY4}:2526"', hosts_out={"example.com": 2600, "two.example": 2601},
                           top=f'control = "{folder}";')

    def route(relay, *address):
        return subprocess.run([f"{BUILD}/relayctl", "route", "-c", relay.conf, *address], capture_output=True,
                              text=True, timeout=30)

    wait_for("up", lambda: "event=backend status=up" in read(inbound.log))
    result = route(inbound, "a@example.com")
    assert result.returncode == 0 and f"goes to the backend {BACKEND}:{SCRIPTED_PORT}, up" in result.stdout, result
    for address in ("a@elsewhere.example", "a%b.example@example.com"):
        assert "refused: 550 5.7.1" in route(inbound, address).stdout, address
    assert "goes to the backend" in route(inbound, f"{'a' * 1100}@example.com").stdout
    assert "too long" in route(inbound, f"{'a' * 2100}@example.com").stdout
    result = route(outbound, "x@two.example")
    assert "goes by a route" in result.stdout and f"host {BACKEND} {BACKEND}:2601" in result.stdout, result
    assert "refused: " in route(outbound, "x@elsewhere.example").stdout
    text = read(outbound.conf)
    with open(outbound.conf, "w") as file:
        file.write(text.replace('domain = "*"', 'domain = "denied.example"')
                   .replace("bounce_route", "default_route"))
    reload(outbound)
    assert "goes by out.default_route" in route(outbound, "x@elsewhere.example").stdout
    assert route(outbound).returncode == 64 and route(outbound, "no address").returncode == 64
    inbound.write_conf(domains='"example.com", "elsewhere.example"', top=f'control = "{folder}";')
    reload(inbound)
    assert "goes to the backend" in route(inbound, "a@elsewhere.example").stdout
    inbound.stop()
    result = route(inbound, "a@example.com")
    assert result.returncode == 69 and "does not run" in result.stdout, result


@scenario("top: live numbers, and the sessions with their states")
def live(world):
    folder = control_folder(world)
    world.backend()
    relay = world.relay(backend_port=SCRIPTED_PORT, top=f'control = "{folder}";')
    silent, parked = Client(), Client(OTHER4)
    parked.hello()

    def picture(count="1"):
        result = subprocess.run([f"{BUILD}/relayctl", "top", "-c", relay.conf, "--count", count], capture_output=True,
                                text=True, timeout=30)
        assert result.returncode == 0, result
        return result.stdout

    wait_for("the states", lambda: re.search(rf"{CLIENT4}:\d+ +silent +\d", picture()) and
             re.search(rf"{OTHER4}:\d+ +parked +\d", picture()))
    text = picture("2")
    assert text.count("relay-in: 2 connected, 0 of ") == 2 and f"backend {BACKEND}:{SCRIPTED_PORT} up" in text, text
    silent.close()


@scenario("start: a second relay-out with the same spool ends without having listened")
def second_spool(world):
    world.side = "out"
    first = world.relay(listen=f'"{RELAY4}:2526"')
    second, trace = f"{world.bed.dir}/second.conf", f"{world.bed.dir}/trace"
    with open(second, "w") as file:
        file.write(read(first.conf).replace(":2526", ":2527"))
    result = subprocess.run(["strace", "-f", "-e", "trace=bind,listen", "-o", trace, f"{BUILD}/relay-out",
                             "-c", second], capture_output=True, text=True, timeout=20,
                            env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ})  # it cannot under ptrace
    assert result.returncode == 69 and first.spool in result.stderr, (result.returncode, result.stderr)
    assert "htons(2527)" in read(trace) and "listen(" not in read(trace), read(trace)


if __name__ == "__main__":
    sys.exit(tap.main())
