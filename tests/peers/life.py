"""Scenarios about start, reload and shutdown; speaks TAP. SPDX-License-Identifier: GPL-3.0-or-later"""
import shutil
import signal
import socket
import subprocess
import sys
import time

import tap
from bed import BACKEND, BUILD, CLIENT4, RELAY4, SCRIPTED_PORT, Client, read, wait_for
from servers import NameServer
from tap import scenario


def reload(relay):
    done = read(relay.log).count("event=reload status=")
    relay.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: read(relay.log).count("event=reload status=") > done)
    assert read(relay.log).count("status=failed") == 0, read(relay.log)[-600:]


def refused_at_once():
    """Without a listener the kernel says so; one that stays would let the client wait."""
    try:
        socket.create_connection((RELAY4, 25), 5, source_address=(CLIENT4, 0)).close()
        return False
    except ConnectionRefusedError:
        return True


def end_in_transaction(world, relay):
    """SIGTERM in the middle of a message: new clients are refused while it goes on, and the process
    is gone when it is over, whatever the keepers of the backends wait for."""
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
        silent.accept()  # the keeper is there, and waits
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


@scenario("reload: what it can't change is named, each time, until a restart")
def reload_restart(world):
    relay = world.relay()
    relay.write_conf(inner="workers = 7; greet_delay_ms = 1;")
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


@scenario("start: a second relay-out with the same spool ends without having listened")
def second_spool(world):
    world.side = "out"
    first = world.relay(listen=f'"{RELAY4}:2526"')
    second, trace = f"{world.bed.dir}/second.conf", f"{world.bed.dir}/trace"
    with open(second, "w") as file:
        file.write(read(first.conf).replace(":2526", ":2527"))
    result = subprocess.run(["strace", "-f", "-e", "trace=bind,listen", "-o", trace, f"{BUILD}/relay-out",
                             "-c", second], capture_output=True, text=True, timeout=20)
    assert result.returncode == 69 and first.spool in result.stderr, (result.returncode, result.stderr)
    assert "htons(2527)" in read(trace) and "listen(" not in read(trace), read(trace)


if __name__ == "__main__":
    sys.exit(tap.main())
