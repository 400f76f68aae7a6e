"""postern-exporter: metrics by both formats, checked by promtool; the page; alert rules and dashboard. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import grp
import html.parser
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys

import tap
from bed import BACKEND, BUILD, CLIENT4, POSTFIX_PORT, SCRIPTED_PORT, Client, ForcedOut, StoringOut, can_connect, read, wait_for
from tap import scenario

PORT = 9925
TREE = os.environ.get("POSTERN_SRCDIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
MONITORING = f"{TREE}/data/monitoring"


class Exporter:
    def __init__(self, world, listen="127.0.0.1:9925", **who):
        world.bed.count += 1
        self.conf, self.log = f"{world.bed.dir}/exporter.conf", f"{world.bed.dir}/exporter-{world.bed.count}.log"
        self.state = f"{world.bed.dir}/exporter-state"
        os.makedirs(self.state, exist_ok=True)
        # Its unit hides the keys and the spool from it.
        hidden = f"{world.bed.dir}/hidden"
        with open(self.conf, "w") as file:
            file.write(f"""hostname = "relay.example"; control = "{world.control}";
tls = {{ certificates = ( {{ cert = "{hidden}.crt"; key = "{hidden}.key"; }} ); }};
out = {{ allow = [ "{BACKEND}" ]; users_file = "{hidden}.users"; spool = "{hidden}"; }};
in = {{ listen = [ "127.0.0.1:25" ]; domains = [ "example.com" ];
  backend = {{ hosts = [ "{BACKEND}:2525" ]; identity = "xclient"; }}; }};
exporter = {{ listen = [ "{listen}" ]; state = "{self.state}"; }};
""")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([f"{BUILD}/postern-exporter", "-c", self.conf], stderr=log,
                                            stdin=subprocess.DEVNULL, env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ}, **who)
        world.relays.append(self)
        wait_for("the exporter", lambda: "event=listen" in read(self.log) or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, read(self.log)
        assert not re.search(r"Sanitizer|runtime error", read(self.log)), read(self.log)


def get(path, accept=None, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    connection.request(method, path, body, headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def both(world, kind=ForcedOut):
    world.control = f"{world.bed.dir}/control"
    os.makedirs(world.control, exist_ok=True)
    os.chown(world.control, pwd.getpwnam("nobody").pw_uid, -1)
    relay = world.relay(top=f'control = "{world.control}";')
    out = kind(world.bed, hosts_out={"far.example": SCRIPTED_PORT}, listen='"10.0.0.1:2526"', top=f'control = "{world.control}";')
    world.relays.append(out)
    return relay, out


def samples(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def deliver(count=1):
    client = Client(CLIENT4)
    client.hello()
    for _ in range(count):
        assert client.envelope("a@example.com") == [250]
        assert client.data("Subject: one\r\n\r\nbody\r\n")[0] == 250
    client.close()


@scenario("exporter: what is counted is what was done, and promtool has nothing to say")
def metrics(world):
    both(world)
    Exporter(world)
    deliver(3)
    answer, text = get("/metrics")
    assert answer.status == 200 and answer.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    found = samples(text)
    assert found['postern_in_messages_total{result="delivered"}'] == "3", found
    assert found['postern_exporter_daemon_up{daemon="relay-out"}'] == "1"
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert lint.returncode == 0 and not lint.stderr.strip(), lint.stderr + lint.stdout
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "a family twice"
    labels = set(re.findall(r'(\w+)="', text))
    assert labels <= {"result", "reason", "state", "version", "certificate", "backend", "le", "daemon", "policy", "type",
                      "kind", "family", "tls", "stage", "class", "by"}, labels


@scenario("exporter: OpenMetrics where it is asked for")
def openmetrics(world):
    both(world)
    Exporter(world)
    answer, text = get("/metrics", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert answer.getheader("Content-Type").startswith("application/openmetrics-text"), answer.getheaders()
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    family = None
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE"):
            family = line.split()[2]
            continue
        if line.startswith("#"):
            continue
        name = re.match(r"[a-z_]+", line)[0]
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[kinds[family]]
        assert name in [family + e for e in endings], (family, kinds[family], name)
    assert len(kinds) == len(set(kinds))


@scenario("exporter: a daemon that is away is told, the other one shown; it comes back")
def down(world):
    relay, out = both(world)
    Exporter(world)
    out.stop()
    found = samples(get("/metrics")[1])
    assert found['postern_exporter_daemon_up{daemon="relay-out"}'] == "0"
    assert found['postern_exporter_daemon_up{daemon="relay-in"}'] == "1"
    assert "Something has failed" in get("/")[1] and "relay-out: it is not running" in get("/")[1]
    relay.stop()
    assert samples(get("/metrics")[1])['postern_exporter_daemon_up{daemon="relay-in"}'] == "0"


class Page(html.parser.HTMLParser):
    """Checks that the page is well-formed, with no script and nothing from other servers."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert tag != "script" and not any(a.startswith("on") or a == "style" for a, _ in attributes), (tag, attributes)
        for name, value in attributes:
            assert name not in ("src", "href") or value.startswith("/"), (name, value)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@scenario("exporter: a daemon that hangs is told, and does not keep the other one from being seen")
def hangs(world):
    relay, out = both(world)
    Exporter(world)
    out.process.send_signal(signal.SIGSTOP)
    try:
        text = get("/metrics")[1]
        assert samples(text)['postern_exporter_daemon_up{daemon="relay-out"}'] == "0"
        assert samples(text)['postern_exporter_daemon_up{daemon="relay-in"}'] == "1"
        assert "relay-out does not answer" in get("/")[1]
    finally:
        out.process.send_signal(signal.SIGCONT)
    wait_for("it to be seen", lambda: samples(get("/metrics")[1])['postern_exporter_daemon_up{daemon="relay-out"}'] == "1")


@scenario("exporter: the page shows what status says, escapes what others said, and wants no script")
def page(world):
    both(world)
    Exporter(world)
    deliver()
    answer, text = get("/")
    assert answer.status == 200
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    seen = Page(text)
    assert seen.tags.count("svg") == 10 and "1 delivered, 0 deferred" in text, text[:3000]
    assert f"{BACKEND}:2525" in text and "viewport" in text
    assert get("/style.css")[0].status == 200 and "prefers-color-scheme:dark" in get("/style.css")[1]


@scenario("exporter: the spool by destination, and a reply that is no HTML")
def queue(world):
    world.backend().ordinary["rcpt"] = "451 4.7.1 <script>alert(1)</script> & more"
    _, out = both(world, kind=StoringOut)
    Exporter(world)
    client = Client(CLIENT4, "10.0.0.1", 2526)
    client.hello()
    assert client.envelope("x@far.example", "y@far.example") == [250, 250]
    assert client.data("Subject: x\r\n\r\nbody\r\n")[0] == 250
    client.close()
    text = wait_for("the reply", lambda: "alert(1)" in get("/")[1] and get("/")[1])
    Page(text)
    assert "<script" not in text and "&lt;script&gt;" in text, text
    assert re.search(r"far.example</td><td class=\"n\">2</td>", text), text


@scenario("exporter: who was asked to come back is listed until he has")
def missed(world):
    both(world)
    Exporter(world)
    world.postfix.stop()
    client = Client(CLIENT4)
    client.hello()
    assert client.envelope("a@example.com", sender="s@sender.example") == [451]
    client.close()
    text = wait_for("the ledger", lambda: "Put off and not back yet" in get("/")[1] and get("/")[1])
    Page(text)
    assert "a@example.com</td>" in text and "sender.example" in text, text
    subprocess.run(["postfix", "-c", world.postfix.config, "start"], check=True, capture_output=True, timeout=60)
    wait_for("Postfix", lambda: can_connect(BACKEND, POSTFIX_PORT))

    def again():
        client = Client(CLIENT4)
        client.hello()
        code = client.envelope("a@example.com", sender="s@sender.example")[0]
        done = code == 250 and client.data("Subject: x\r\n\r\nbody\r\n")[0] == 250
        client.close()
        return done
    wait_for("the backend", again, 30)
    wait_for("the end of it", lambda: "Put off and not back yet" not in get("/")[1])


@scenario("exporter: its user may look, not give orders or read mail; who is not in the daemons' group may do neither")
def rights(world):
    world.backend().ordinary["rcpt"] = "451 4.7.1 later"
    relay, out = both(world, kind=StoringOut)
    client = Client(CLIENT4, "10.0.0.1", 2526)
    client.hello()
    assert client.envelope("x@far.example") == [250] and client.data("Subject: x\r\n\r\nbody\r\n")[0] == 250
    client.close()
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    look, order = dict(user="daemon", group=group, extra_groups=[]), dict(user="nobody", group=group, extra_groups=[])
    member, stranger = dict(user="daemon", group="daemon", extra_groups=[group]), dict(user="daemon", group="daemon", extra_groups=[])

    def ask(conf, *words, **who):
        return subprocess.run([f"{BUILD}/relayctl", words[0], *words[1:], "-c", conf], capture_output=True, text=True, timeout=20, **who)

    number = wait_for("the message", lambda: json.loads(ask(out.conf, "queue", "list", "--json", **look).stdout or "{}").get("id"))
    for who in look, member, order:
        for conf, *words in ((relay.conf, "status"), (relay.conf, "missed"), (relay.conf, "top", "--count", "1"), (out.conf, "hosts"),
                             (out.conf, "top", "--count", "1"), (out.conf, "route", "x@far.example"), (out.conf, "queue", "list")):
            done = ask(conf, *words, **who)
            assert "not permitted" not in done.stdout + done.stderr and "Permission" not in done.stdout + done.stderr, (who, words, done)
    for words in (("queue", "hold", number), ("queue", "release", "all"), ("queue", "retry", "all"), ("queue", "remove", number),
                  ("queue", "show", number), ("tls", "--refresh", "far.example"), ("tls", "--connect", "far.example")):
        for who in look, member:
            done = ask(out.conf, *words, **who)
            assert done.returncode != 0 and "says: not permitted: only root and the daemon's user may" in done.stderr, (who, words, done)
        done = ask(out.conf, *words, **stranger)
        assert done.returncode != 0 and "ermission denied" in done.stderr, (words, done)
    assert "Permission denied" in ask(relay.conf, "status", **stranger).stdout
    for daemon in relay, out:  # even for a user who gets past the file's mode
        os.chmod(f"{world.control}/{daemon.program}.socket", 0o666)
        done = ask(daemon.conf, "status", **stranger)
        assert "not permitted: only root, the daemon's user and its group may ask" in done.stdout, done
    assert '"hold": false' in ask(out.conf, "queue", "list", "--json").stdout
    assert ask(out.conf, "queue", "hold", number, **order).returncode == 0
    assert '"hold": true' in ask(out.conf, "queue", "list", "--json").stdout
    assert json.loads(ask(out.conf, "status", "--json").stdout)["relay-out"]["sample"]['postern_spool_messages{state="held"}'] == 1
    assert "Subject: x" in ask(out.conf, "queue", "show", number, **order).stdout
    state = f"{world.bed.dir}/exporter-state"
    shutil.rmtree(state, ignore_errors=True)  # from another scenario, and owned by root
    os.makedirs(state)
    os.chown(state, pwd.getpwnam("daemon").pw_uid, -1)
    Exporter(world, **look)
    found = samples(get("/metrics")[1])
    assert found['postern_exporter_daemon_up{daemon="relay-out"}'] == found['postern_exporter_daemon_up{daemon="relay-in"}'] == "1"
    assert "far.example" in get("/")[1]


@scenario("exporter: only GET, only its own paths, many at once and slow ones; none costs the daemons anything")
def abuse(world):
    both(world)
    exporter = Exporter(world)
    assert get("/etc/passwd")[0].status == get("/../x")[0].status == 404
    assert get("/", method="POST")[0].status == get("/metrics", method="DELETE")[0].status == 405
    for body in (b"a=b", b"x" * 100000):
        assert get("/metrics", method="POST", body=body)[0].status == 405
    assert get("/metrics", method="HEAD")[1] == ""
    slow = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(20)]
    for sock in slow:
        sock.sendall(b"GET /metr")
    assert get("/metrics")[0].status == 200
    deliver()
    for sock in slow:
        sock.close()
    odd = socket.create_connection(("127.0.0.1", PORT))
    odd.sendall(b"\x16\x03\x01" + bytes(1000) + b"\r\n\r\n")
    odd.close()
    assert get("/metrics")[0].status == 200 and exporter.process.poll() is None


@scenario("exporter: the plots' history outlasts it, kill -9 too; a file that makes no sense is begun anew")
def history(world):
    both(world)
    exporter = Exporter(world)
    file = f"{exporter.state}/history"
    wait_for("the first look", lambda: any(read_octets(file)[24:]))
    before = read_octets(file)
    exporter.process.kill()
    exporter.process.wait(10)
    world.relays.remove(exporter)
    again = Exporter(world)
    assert len(read_octets(file)) == len(before) and sum(x != 0 for x in read_octets(file)) >= sum(x != 0 for x in before)
    again.stop()
    world.relays.remove(again)
    with open(file, "wb") as out:
        out.write(b"nonsense")
    Exporter(world)
    assert len(read_octets(file)) == len(before)


def read_octets(path):
    with open(path, "rb") as file:
        return file.read()


@scenario("exporter: the tunnel's address may come up later; an address that is taken is named")
def addresses(world):
    world.control = world.bed.dir
    exporter = Exporter(world, "10.99.0.1:9925")
    exporter.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken, open(exporter.conf, "r+") as file:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        text = file.read().replace("10.99.0.1:9925", place)
        file.seek(0)
        file.truncate()
        file.write(text)
        file.flush()
        done = subprocess.run([f"{BUILD}/postern-exporter", "-c", exporter.conf], capture_output=True, text=True,
                              timeout=20, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 69 and f"{place}: Address already in use" in done.stderr, done


@scenario("exporter: a public address is refused without a word for it")
def public(world):
    conf = f"{world.bed.dir}/public.conf"
    for listen, word, status in (("203.0.113.5:9925", "", 78), ("0.0.0.0:9925", "", 78), ("[::]:9925", "", 78),
                                 ("10.0.0.1:9925", "", 0), ("203.0.113.5:9925", "public = true;", 0)):
        with open(conf, "w") as file:
            file.write(f"""hostname = "relay.example"; user = "nobody";
in = {{ domains = [ "example.com" ]; backend = {{ hosts = [ "10.0.0.2:25" ]; identity = "xclient"; }}; }};
exporter = {{ listen = [ "{listen}" ]; {word} }};
""")
        done = subprocess.run([f"{BUILD}/relayctl", "check", "-c", conf], capture_output=True, text=True, timeout=20)
        assert done.returncode == status, (listen, word, done.stderr)
        assert status == 0 or f"public.conf:3: exporter.listen: {listen} can be reached" in done.stderr, done.stderr


@scenario("exporter: alert rules fire on their fault and on nothing else; every query names a metric that is there")
def rules(world):
    both(world)
    Exporter(world)
    text = get("/metrics")[1]
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    names |= {f"{n}_bucket" for n in names}
    folder = f"{world.bed.dir}/rules"
    os.makedirs(folder, exist_ok=True)
    shutil.copy(f"{MONITORING}/postern.rules.yml", folder)
    shutil.copy(f"{TREE}/tests/exporter/rules.yml", folder)
    for command in (["check", "rules", "postern.rules.yml"], ["test", "rules", "rules.yml"]):
        done = subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    rules_text, tests = read(f"{folder}/postern.rules.yml"), read(f"{folder}/rules.yml")
    for alert in re.findall(r"alert: (\w+)", rules_text):
        assert f'alertname="{alert}"' in tests, f"{alert} has no test"
    ids = subprocess.run([f"{BUILD}/relayctl", "doctor", "--list"], capture_output=True, text=True, timeout=20).stdout
    for check in re.findall(r'check: "(.*)"', rules_text):
        assert re.search(rf"^{check} ", ids, re.M), f"there is no check {check}"
    with open(f"{MONITORING}/grafana-dashboard.json") as file:
        dashboard = json.load(file)
    panels = [p for p in dashboard["panels"] if p["type"] != "row"]
    assert len(panels) == 16
    queries = [t["expr"] for p in panels for t in p["targets"]] + re.findall(r"expr: (.*)", rules_text)
    for query in queries:
        for name in re.findall(r"postern_[a-z_]+", query):
            assert name in names, f"{name} is no metric: {query}"


if __name__ == "__main__":
    sys.exit(tap.main())
