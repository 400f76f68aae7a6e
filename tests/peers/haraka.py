"""relayctl import-haraka: moves the two instances of a widespread guide to Postern.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import pwd
import re
import signal
import subprocess

from bed import BACKEND, BUILD, CLIENT4, Client, Postfix, read, wait_for
from tap import scenario

CERT = "/opt/haraka/config/haraka-{side}/tls/{name}.pem"  # it lies elsewhere now
# Haraka never reads half of these files: its plugins/ folder holds code, not settings.
IN = {
    "config": "[server]\nlisten=0.0.0.0:25\ndaemonize=true\n\n[plugins]\nxclient\nqueue/smtp_forward\n",
    "host_list": "# ours\nexample.com\n",
    "plugins/rcpt_to.in_host_list.ini": "[main]\nhost_list=/opt/haraka/config/haraka-in/host_list\n",
    "plugins/smtp_forward.ini": "; not to the internet\nenable_outbound=false\nhost=10.0.0.2\nport=25\n",
    "plugins/tls.ini": "key=/path/to/private.key\ncert=/path/to/certificate.crt\n",
    "plugins/xclient.ini": "enabled=true\nforward=true\ndestination=10.0.0.2:25\n",
    "smtp.ini": "; everywhere\nlisten=[::]:25\n",
    "tls.ini": f"key={CERT}\ncert={CERT}\n",
}
OUT = {
    "host_list": "mailrelay.example.com\n",
    "plugins": "relay\ntls\n",
    "relay.ini": "[relay]\nforce_routing=true\nacl=true\ndest_domains=false\nall=false\n",
    "relay_acl_allow": "10.0.0.2/32\n",
    "smtp.ini": "listen=10.0.0.1:2526\n",
    "tls.ini": f"key={CERT}\ncert={CERT}\n",
}


def write_instance(world, side, name, files):
    world.bed.count += 1
    folder = f"{world.bed.dir}/{world.bed.count}/haraka-{side}"
    for path, text in files.items():
        os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
        with open(f"{folder}/{path}", "w") as file:
            file.write(text.replace("{side}", side).replace("{name}", name))
    if "tls.ini" in files:
        cert, key = world.authority.issue(f"haraka-{side}", name)
        os.makedirs(f"{folder}/tls")
        with open(f"{folder}/tls/{name}.pem", "w") as file:
            file.write(read(cert) + read(key))
    return folder


def run_import(*folders, status=0):
    done = subprocess.run([f"{BUILD}/relayctl", "import-haraka", *folders], capture_output=True, text=True,
                          timeout=20, env=dict(os.environ, LC_ALL="C"))
    assert done.returncode == status, (done.returncode, done.stderr)
    return done.stdout if status == 0 else done.stderr


def option(text, path):
    """The value at `path` ("in.listen"), as written."""
    for name in path.split("."):
        found = re.search(rf"^ *{name} = (.*?)(?:\s+//.*)?$", text, re.M)
        assert found, f"no {path} in:\n{text}"
        text = text[found.start():]
    return found[1]


class Moved:
    """One daemon with the imported file, in the namespace of the VPS."""

    def __init__(self, world, program, conf):
        self.log = f"{world.bed.dir}/moved-{program}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*world.vps.enter, f"{BUILD}/{program}", "-c", conf], stderr=log,
                                            stdin=subprocess.DEVNULL,
                                            env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ})
        world.relays.append(self)
        wait_for(program, lambda: "event=start" in read(self.log) or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(15) == 0


@scenario("import-haraka: the guide's two instances deliver both ways")
def both_ways(world):
    folders = [write_instance(world, "in", "mail.example.com", IN),
               write_instance(world, "out", "mailrelay.example.com", OUT)]
    text = run_import(*reversed(folders))  # their contents tell which is which
    spool = f"{world.bed.dir}/haraka-spool"
    os.mkdir(spool)
    os.chown(spool, pwd.getpwnam("nobody").pw_uid, -1)
    # What Haraka's files do not contain: the user, the resolver, a place for the spool.
    conf = f"{world.bed.dir}/imported.conf"
    with open(conf, "w") as file:
        file.write(text.replace("\nout = {\n", f'\nout = {{\n  spool = "{spool}"; spool_reserve = 0;\n') + f"""
user = "nobody";
dns = {{ servers = [ "203.0.113.53" ]; trust_anchor_file = "{world.bed.dir}/root.key"; }};
control = "{world.bed.dir}";
""")
    subprocess.run([f"{BUILD}/relayctl", "check", "-c", conf], check=True, capture_output=True, timeout=20)
    home = Postfix(world.bed, "home", f"{BACKEND}:25", 
                   f"inet_interfaces = {BACKEND}\nsmtpd_authorized_xclient_hosts = 10.0.0.1")
    world.homes.append(home)
    Moved(world, "relay-in", conf)
    Moved(world, "relay-out", conf)

    assert "plugins/xclient.ini:2 forward (Haraka never read it)" in text

    client = Client(CLIENT4)
    assert "220 mail.example.com" in client.reply()[1]
    client.cmd("EHLO client.example", 250)
    client.starttls()
    assert client.envelope("a@example.com", "a@other.example") == [250, 550]
    assert client.data("Subject: in\r\n\r\nbody\r\n")[0] == 250
    client.close()
    assert f"[{CLIENT4}]" in home.wait_mail("a").decode()

    # The same with relayctl, in both directions. From home, relay-out accepts it.
    def try_out(*arguments, status=0, at=world.vps.enter):
        done = subprocess.run([*at, f"{BUILD}/relayctl", "test", "-c", conf, *arguments], capture_output=True,
                              text=True, timeout=30, env=dict(os.environ, LC_ALL="C"))
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout
    assert re.search(r"-> STARTTLS\n.*TLSv1.3(.*\n)*.*<- 250 2.0.0 Ok: queued as \w+\nDelivered", try_out("a@example.com"))
    assert "550 5.1.1" in try_out("nobody@example.com", status=69) and "relay access" not in try_out(
        "--plain", "--from", "a@sender.example", "a@example.com").lower()
    assert "550 5.7.1" in try_out("a@other.example", status=69)
    assert "out.allow" in try_out("--out", "x@plain.test", status=69)
    assert "Delivered" in try_out(
        "--out", "--source", BACKEND, "--from", "a@example.com", "x@plain.test", at=())
    world.internet.wait_mail("plain.test")
    world.internet.clear()

    # The end of the data comes, however long the addresses are; one that is too long for that is refused.
    assert "\nDelivered" in try_out("--out", "--source", BACKEND, "--from", f"{'s' * 300}@example.com",
                                    f"{'x' * 300}@plain.test", at=())
    world.internet.wait_mail("plain.test")
    world.internet.clear()
    try_out(f"{'x' * 500}@example.com", status=64)

    client = Client(BACKEND, "10.0.0.1", 2526)
    client.hello("home.example")
    assert client.envelope("x@plain.test", sender="a@example.com") == [250]
    assert client.data("Subject: out\r\n\r\nbody\r\n")[0] == 250
    client.close()
    mail = world.internet.wait_mail("plain.test").decode()
    assert "from mailrelay.example.com" in mail, mail


@scenario("import-haraka: each value has its place, each that has none its reason")
def values(world):
    inward = {path: text for path, text in IN.items() if "/" not in path}
    inward.update({
        "me": "mx.example.com\n", "databytes": "26214400\n", "max_received_count": "50\n",
        "early_talker.ini": "[main]\npause=2\n", "plugins": "early_talker\nspamassassin\n",
        "smtp.ini": "listen=[::0]:25,0.0.0.0:465\nnodes=4\nsmtps_port=465\n",
        "smtp_forward.ini": "host=10.0.0.2\nenable_tls=true\n[example.org]\nhost=10.0.0.3\nport=26\n",
        "tls.ini": f"cert={CERT}\nciphers=ECDHE\nminVersion=TLSv1.2\n[no_tls_hosts]\n192.0.2.1\n"})
    outward = dict(OUT)
    outward.update({
        "relay_dest_domains.ini": '[domains]\ntest.com = { "action": "continue", "nexthop": "127.0.0.1:2525" }\n'
                                  'spam.example = { "action": "deny" }\n',
        "smtp_forward.ini": "host=smtp.example.net\nport=587\nauth_user=me\nauth_pass=hidden-word\nenable_tls=1\n",
        "outbound.ini": "concurrency_max=8\ninet_prefer=v4\nalways_split=true\n"})
    text = run_import(write_instance(world, "in", "mail.example.com", inward),
                      write_instance(world, "out", "mailrelay.example.com", outward))
    expected = {"hostname": '"mx.example.com";', "tls.minimum_version": '"1.2";',
                "in.listen": '[ "[::]:25", "0.0.0.0:465 tls" ];', "in.domains": '[ "example.com" ];',
                "in.backend.hosts": '[ "10.0.0.2:25" ];', "in.backend.tls": '"may";',
                "in.backends.domains": '[ "example.org" ];', "in.backends.hosts": '[ "10.0.0.3:26" ];',
                "in.no_tls_hosts": '[ "192.0.2.1" ];', "in.limits.message_size": "26214400;",
                "in.limits.received_headers": "50;", "out.hello": '"mailrelay.example.com";',
                "out.default_route.next_hop": '[ "smtp.example.net:587" ];',
                "out.default_route.tls": '"verify";', "out.default_route.user": '"me";',
                "out.family": '"ipv4";', "out.deliveries": "8;"}
    for path, value in expected.items():
        assert option(text, path) == value, (path, option(text, path), value)
    assert re.search(r"greet_delay = \"2s\";", text), text
    assert '{ domain = [ "test.com" ]; action = "continue"; next_hop = [ "127.0.0.1:2525" ]; }' in text
    assert '{ domain = [ "spam.example" ]; action = "deny"; }' in text
    assert "mailrelay.example.com.pem" in option(text, "out.listen_tls.certificates"), text
    assert "hidden-word" not in text
    for left in ("plugins:2: spamassassin", "smtp.ini:2: nodes=4", "tls.ini:2: ciphers", "outbound.ini:3: always_split"):
        assert left in text, left


@scenario("import-haraka: long lists are taken over whole, and quotes in a user's name do no harm")
def lists(world):
    domains = [f"domain-number-{i}.example.com" for i in range(400)]
    networks = [f"192.0.2.{i}/32" for i in range(255)]
    inward = IN | {"host_list": "\n".join(domains), "tls.ini": f"cert={CERT}\n[no_tls_hosts]\n" + "\n".join(networks)}
    outward = OUT | {"relay_acl_allow": "\n".join(networks),
                     "smtp_forward.ini": "host=smtp.example.net\nauth_user=\"m\\e\nauth_pass=hidden-word\n"}
    text = run_import(write_instance(world, "in", "mail.example.com", inward),
                      write_instance(world, "out", "mailrelay.example.com", outward))
    for path, items in (("in.domains", domains), ("in.no_tls_hosts", networks), ("out.allow", networks)):
        assert re.findall('"(.*?)"', option(text, path)) == items, (path, option(text, path))
    assert option(text, "out.default_route.user") == '"\\"m\\\\e";', text


@scenario("import-haraka: no folder, no files of Haraka's, a file that cannot be read")
def wrong(world):
    empty = f"{world.bed.dir}/empty"
    os.makedirs(empty, exist_ok=True)
    assert "there are no files of Haraka" in run_import(empty, status=66)
    assert "No such file" in run_import(f"{world.bed.dir}/nowhere", status=66)
    assert "give 1 to" in run_import(status=64)
    folder = write_instance(world, "odd", "mail.example.com", {"smtp.ini": 'listen="\x01\\"\n', "host_list": 'a"b\\\n'})
    text = run_import(folder)
    assert "is not an IP address" in text and 'domains = [ "a\\"b\\\\" ];' in text, text


@scenario("import-haraka: whatever a value holds, it stays within its quotes, and a terminal gets no control")
def odd_values(world):
    odd = 'x"; }; y = "\x1b[31m\\'
    inward = {"smtp.ini": "listen=[::0]:25\n", "host_list": f"{odd}\n", "databytes": "3000000000\n",
              "smtp_forward.ini": f"host={odd}\nport={odd}\n[example.org]\nhost={odd}\n",
              f"plugins/{odd}.ini": f"{odd}={odd}\n"}
    outward = {path: OUT[path] for path in OUT if path != "tls.ini"} | {
        "relay_acl_allow": f"{odd}\n",
        "relay_dest_domains.ini": f'[domains]\n{odd} {{"action": "x\x1b", "nexthop": "x\\"}}\n',
        "smtp_forward.ini": f"host={odd}\nport={odd}\nauth_user={odd}\nauth_pass=hidden-word\n[example.org]\nhost={odd}\n"}
    folders = [write_instance(world, "odd-in", "mail.example.com", inward),
               write_instance(world, "odd-out", "mailrelay.example.com", outward)]
    for folder in folders:  # not through write_instance(), which writes a certificate
        with open(f"{folder}/tls.ini", "w") as file:
            file.write(f"cert={odd}.pem\nkey={odd}.key\n[no_tls_hosts]\n{odd}\n")
    text = run_import(*folders)
    assert not re.search("[\\x00-\\x09\\x0b-\\x1f\\x7f]", text), [text]
    # Without its strings and comments, nothing of the values is left.
    bare = re.sub(r"//.*", "", re.sub(r'"(\\.|[^"\\])*"', "", text))
    assert not re.search(r'["\\]|\by\b', bare), bare
    assert option(text, "hostname") == '"mail.example.com";', text
    assert option(text, "in.limits.message_size") == "3000000000L;", text
    conf = f"{world.bed.dir}/odd.conf"
    with open(conf, "w") as file:
        file.write(text)
    said = subprocess.run([f"{BUILD}/relayctl", "check", "-c", conf], capture_output=True, text=True, timeout=20,
                          env=dict(os.environ, LC_ALL="C"))
    assert said.returncode == 78 and "syntax error" not in said.stderr and "in.backend.hosts" in said.stderr, said
