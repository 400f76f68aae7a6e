"""The gatekeeper: a real load balancer in front, lists and limits, slow clients. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import subprocess
import sys

import tap
from bed import CLIENT4, CLIENT6, OTHER4, RELAY4, RELAY6, Client, can_connect, read, wait_for
from tap import scenario

BALANCER = "10.0.0.9"  # HAProxy's address towards the relay
FRONT_PORT, RELAY_PORT = 2526, 2527


class HAProxy:
    """The configuration of the README with the addresses of the test."""

    def __init__(self, bed, send, check="", backend=""):
        bed.count += 1
        self.log = f"{bed.dir}/haproxy-{bed.count}.log"
        conf = f"{bed.dir}/haproxy-{bed.count}.cfg"
        with open(conf, "w") as file:
            file.write(f"""
global
    log stderr format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 11m
    timeout server 11m
frontend smtp
    bind {RELAY4}:{FRONT_PORT}
    bind {RELAY6}:{FRONT_PORT}
    default_backend relays
backend relays
    source {BALANCER}
    {backend}
    server relay1 10.0.0.1:{RELAY_PORT} {send} {check}
""")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", conf], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_for("HAProxy", lambda: can_connect(RELAY4, FRONT_PORT))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def behind_haproxy(world, hosts=BALANCER, inner="", **settings):
    return world.relay(listen=f'"10.0.0.1:{RELAY_PORT} proxy"',
                       inner=f'proxy_hosts = [ "{hosts}" ]; {inner}', **settings)


def send_one(client, body="Subject: x\r\n\r\nhello\r\n"):
    assert client.envelope("a@example.com") == [250]
    return client.data(body)


@scenario("haproxy: Postfix sees the client's address through send-proxy and send-proxy-v2, IPv4, IPv6, TLS")
def through_haproxy(world):
    relay = behind_haproxy(world)
    for send in ("send-proxy", "send-proxy-v2"):
        balancer = HAProxy(world.bed, send)
        try:
            for source, host, shown in ((CLIENT4, RELAY4, "198.51.100.7"),
                                        (CLIENT6, RELAY6, "IPv6:2001:db8::7")):
                client = Client(source, host, FRONT_PORT)
                client.hello("mx1.sender.example")
                client.starttls("mx1.sender.example")
                assert send_one(client)[0] == 250
                mail = world.postfix.wait_mail("a").decode()
                assert f"from mx1.sender.example (unknown [{shown}])" in re.sub(r"\s+", " ", mail), mail
                world.postfix.clear()
        finally:
            balancer.stop()
    log = read(relay.log)
    assert "client=198.51.100.7:" in log and f"client=[{CLIENT6}]:" in log and "client=10.0.0.9" not in log


@scenario("haproxy: connections per client are counted by the client's address")
def limits_behind_haproxy(world):
    behind_haproxy(world, limits="connections_per_client = 2;")
    balancer = HAProxy(world.bed, "send-proxy-v2")
    try:
        held = [Client(CLIENT4, RELAY4, FRONT_PORT) for _ in range(2)]
        for client in held:
            client.hello()
        assert Client(CLIENT4, RELAY4, FRONT_PORT).reply()[0] == 421
        Client(OTHER4, RELAY4, FRONT_PORT).hello()
    finally:
        balancer.stop()


@scenario("haproxy: its own SMTP health check passes, and fails when the relay drains or is gone")
def health_check(world):
    relay = behind_haproxy(world, inner=f'private_clients = [ "{BALANCER}" ];')
    balancer = HAProxy(world.bed, "send-proxy-v2", "check inter 200ms fall 1 rise 1",
                       "option smtpchk EHLO haproxy.example")
    try:
        client = Client(CLIENT4, RELAY4, FRONT_PORT)
        client.hello()
        wait_for("a check as itself", lambda: f"event=proxy peer={BALANCER}" in read(relay.log) and
                 f"client={BALANCER}" in read(relay.log))
        assert "is DOWN" not in read(balancer.log), read(balancer.log)
        relay.process.terminate()
        wait_for("the end to be seen", lambda: "relays/relay1 is DOWN" in read(balancer.log))
    finally:
        balancer.stop()


@scenario("proxy: others than in.proxy_hosts are closed and the log names the option; no header is no session")
def not_a_balancer(world):
    relay = behind_haproxy(world)
    stranger = Client(CLIENT4, "10.0.0.1", RELAY_PORT)
    stranger.send("PROXY TCP4 198.51.100.9 203.0.113.5 1025 25\r\n")
    assert stranger.gone()
    line = next(l for l in read(relay.log).splitlines() if "event=proxy-refused" in l)
    assert "in.proxy_hosts" in line and f"client={CLIENT4}:" in line, line
    plain = Client(BALANCER, "10.0.0.1", RELAY_PORT)
    plain.send("EHLO x.example\r\n")
    assert plain.gone()
    assert "event=proxy-failed" in read(relay.log)


if __name__ == "__main__":
    sys.exit(tap.main())
