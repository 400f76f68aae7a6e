"""Forty typical misconfigurations. relayctl check, doctor or status, or the error of a daemon that does not
start, names the cause or the remedy. Uses the bed of doctor.py. Speaks TAP.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time

import doctor as healthy
import tap
from bed import BACKEND, BUILD, read, wait_for
from doctor import MX, PTR4, PTR6, Daemon, zone_with
from internet import BLACK_HOLES, DNS, HOSTS
from tap import scenario

tap.scenarios.clear()  # those of doctor.py


class World(healthy.World):
    def close(self):
        small = f"{self.bed.dir}/small"  # of full_spool()
        if os.path.ismount(small):
            subprocess.run(["umount", "--lazy", small], check=True)
        super().close()

    def relayctl(self, *arguments, at_home=False):
        enter = [] if at_home else self.vps.enter
        return subprocess.run([*enter, f"{BUILD}/relayctl", *arguments], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env=dict(os.environ, LC_ALL="C"))

    def check(self):
        done = self.relayctl("check", "-c", self.conf)
        return done.stdout + done.stderr

    def look(self, *only):
        return self.relayctl("doctor", "-c", self.conf, "--quiet", *(("--only", ",".join(only)) if only else ())).stdout

    def status(self):
        return self.relayctl("status", "-c", self.conf).stdout

    def refusal(self, program):
        """The error of a daemon that does not start."""
        done = subprocess.run([*self.vps.enter, f"{BUILD}/{program}", "-c", self.conf], capture_output=True, text=True,
                              timeout=30, env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ, "LC_ALL": "C"})
        assert done.returncode != 0, "it has started"
        return done.stderr

    def edit(self, old, new):
        text = read(self.conf)
        assert old in text, f"{old} is not in relay.conf"
        with open(self.conf, "w") as file:
            file.write(text.replace(old, new))

    def file(self, name, text="", mode=0o644):
        path = f"{self.bed.dir}/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def nft(self, rule, at_home=False):
        enter = [] if at_home else self.vps.enter
        subprocess.run([*enter, "nft", "-f", "-"], input=rule, check=True, capture_output=True, text=True)


# By number: a change of relay.conf alone, and what `relayctl check` must say.
def edits(*pairs):
    def play(world):
        for old, new in pairs:
            world.edit(old, new)
    return play


def smart_quotes(world):
    text = read(world.conf).replace(f'"{MX}"', f"\u201c{MX}\u201d")
    with open(world.conf, "w", encoding="utf-8-sig") as file:
        file.write(text)


def closed_conf(world):
    os.chown(world.conf, 0, 0)
    os.chmod(world.conf, 0o600)


def closed_key(world):
    key = world.file("closed.key", read(world.key), 0o600)
    world.edit(world.key, key)


def closed_folder(world):
    folder = f"{world.bed.dir}/live"
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o700)
    for path, name in ((world.cert, "fullchain.pem"), (world.key, "privkey.pem")):
        shutil.copy(path, f"{folder}/{name}")
    world.edit(world.cert, f"{folder}/fullchain.pem")
    world.edit(world.key, f"{folder}/privkey.pem")


def other_key(world):
    world.edit(world.key, world.issue("another", MX)[1])


def encrypted_key(world):
    path = f"{world.bed.dir}/encrypted.key"
    subprocess.run(["openssl", "ec", "-in", world.key, "-aes256", "-passout", "pass:x", "-out", path], check=True,
                   capture_output=True)
    os.chmod(path, 0o644)
    world.edit(world.key, path)


def certificate(name, days):
    def play(world):
        cert, key = world.issue(f"pair{days}", name, days)
        world.edit(world.cert, cert)
        world.edit(world.key, key)
    return play


def later_certificate(world):
    cert = f"{world.bed.dir}/later.crt"
    day = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 86400 * days)) for days in (2, 60)]
    conf = world.file("later.conf", f"[ca]\ndefault_ca = own\n[own]\ndatabase = {cert}.index\nrand_serial = yes\n"
                      f"new_certs_dir = {world.bed.dir}\ndefault_md = sha256\npolicy = any\n[any]\n"
                      "commonName = supplied\n")
    world.file("later.crt.index")
    subprocess.run(["openssl", "ca", "-batch", "-config", conf, "-in", f"{world.bed.dir}/mail.csr", "-cert",
                    world.authority.cert, "-keyfile", world.authority.key, "-startdate", day[0], "-enddate", day[1],
                    "-extfile", f"{world.bed.dir}/mail.ext", "-notext", "-out", cert], check=True, capture_output=True)
    world.edit(world.cert, cert)


def roots_spool(world):
    folder = f"{world.bed.dir}/rootspool"
    os.makedirs(folder, exist_ok=True)
    world.edit(world.spool, folder)


def full_spool(world):
    folder = f"{world.bed.dir}/small"
    os.makedirs(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1M,uid={pwd.getpwnam('nobody').pw_uid},mode=700", "small",
                    folder], check=True)
    world.edit(world.spool, folder)
    world.edit("spool_reserve = 0", 'spool_reserve = "100M"')


def closed_users(world):
    path = world.file("users", "", 0o600)
    world.edit('allow = [', f'users_file = "{path}"; allow = [')


def closed_password(world):
    path = world.file("password", "secret\n", 0o600)
    world.edit('allow = [', 'default_route = { next_hop = [ "smtp.example.net:587" ]; user = "me"; tls = "verify"; '
               f'password_file = "{path}"; }}; allow = [')


FILES = {
    "1, a BOM and smart quotes": (smart_quotes, r"relay\.conf:\d+: .*(BOM|byte order|quot|editor)"),
    "2, an option misspelt": (edits(("workers = 64", "worker = 64")), r"relay\.conf:\d+: in\.worker: .*workers"),
    "2, a value misspelt": (edits(('"xclient"', '"xcleint"')), r"relay\.conf:\d+: in\.backend\.identity: .*xclient"),
    "3, a domain with an @": (edits(('"example.com"', '"@example.com"')), r"relay\.conf:\d+: in\.domains: .*@example"),
    "3, a domain with a *": (edits(('"example.com"', '"*.example.com"')),
                             r"relay\.conf:\d+: in\.domains: .*\*\.example"),
    "5, the backend by its name": (edits((f'"{BACKEND}:25"', '"home.example:25"')),
                                   r"in\.backend\.hosts.*expected an IP address"),
    "6, nobody in out.allow": (edits((f'allow = [ "{BACKEND}" ]', "allow = [ ]")), r"relay\.conf:\d+: out\.allow"),
    "6, everybody in out.allow": (edits((f'allow = [ "{BACKEND}" ]', 'allow = [ "0.0.0.0/0" ]')),
                                  r"out\.allow: .*open relay"),
    "7, another host in out.allow": (edits((f'allow = [ "{BACKEND}" ]', 'allow = [ "10.0.0.7" ]')),
                                     rf"out\.allow: .*{BACKEND}"),
    "8, an address that is not ours": (edits(("10.0.0.1:2526", "10.0.0.9:2526")),
                                       r"out\.listen: no interface.*10\.0\.0\.9"),
    "9, relay-out everywhere": (edits(("10.0.0.1:2526", "0.0.0.0:2526")), r"out\.listen: .*from the internet"),
    "10, no tls group": (lambda world: world.write_conf(tls=""), r"tls\.certificates: there is none.*STARTTLS"),
    "12, relay.conf is root's": (closed_conf, r"as user nobody: .*relay\.conf.*(Permission|cannot be read)"),
    "13, the key is root's": (closed_key, r"as user nobody: .*closed\.key.*Permission denied"),
    "14, the certificate in a closed folder": (closed_folder, r"as user nobody: .*live.*(Permission|not readable)"),
    "15, the key of another certificate": (other_key, r"another\.key.*(match|belong)"),
    "16, an encrypted key": (encrypted_key, r"encrypted\.key.*(encrypted|pass)"),
    "17, an expired certificate": (certificate(MX, -1), r"pair-1\.crt has expired on \d{4}-\d\d-\d\d"),
    "18, it will expire soon": (certificate(MX, 5), r"pair5\.crt expires on \d{4}-\d\d-\d\d"),
    "19, it is not valid yet": (later_certificate, r"later\.crt is not valid before \d{4}.*clock"),
    "20, the certificate of another name": (certificate("other.example", 60),
                                            rf"no certificate is for {re.escape(MX)}"),
    "29, identity none": (edits(('identity = "xclient"', 'identity = "none"')), r'in\.backend\.identity: "none"'),
    "35, a hostname of one word": (edits((f'"{MX}"', '"vps"')), r'hostname: "vps" is a single word'),
    "36, no room for the spool": (full_spool, r"out\.spool_reserve: .*less room"),
    "37, a spool that is root's": (roots_spool, r"out\.spool: .*nobody.*\n(.*\n)*.*chown -R nobody"),
    "37, a spool that is not there": (lambda world: world.edit(world.spool, "/nowhere/spool"), r"/nowhere"),
    "38, a users_file that is root's": (closed_users, r"as user nobody: .*out\.users_file.*Permission denied"),
    "38, a password_file that is root's": (closed_password, r"as user nobody: .*password.*Permission denied"),
}


@scenario("forty: what the file alone shows is named by relayctl check")
def files(world):
    world.write_conf()
    sound = world.check()
    failures = [] if sound.strip().endswith("valid") and sound.count("\n") == 1 else [f"the sound file: {sound}"]
    for name, (play, pattern) in FILES.items():
        world.write_conf()
        play(world)
        said = world.check()
        if not re.search(pattern, said):
            failures.append(f"{name}: {said}")
        os.chmod(world.conf, 0o644)
    assert not failures, "\n".join(failures)


@contextlib.contextmanager
def ruleset(world, rules, at_home=False):
    world.nft(f"table ip forty {{\n{rules}\n}}\n", at_home)
    try:
        yield
    finally:
        world.nft("delete table ip forty\n", at_home)


def end_home(world):
    if world.home is not None:
        world.home.stop()
        shutil.rmtree(world.home.dir)
        world.home = None


def named(name, pattern, said, failures):
    """Does one finding contain all of it? doctor's findings begin at the margin."""
    if not any(re.search(pattern, finding) for finding in re.split(r"\n(?=\S)", said)):
        failures.append(f"{name}: nothing like {pattern!r} in: {said}")


# The DNS around it, and what `relayctl doctor` must say.
NAMES = {
    "4, a domain misspelt": ({"domains": "exmaple.com"}, {}, r"exmaple\.com"),
    "33, the provider blocks port 25": ({}, zone_with({("mx.gmail.com.", "A"): [BLACK_HOLES[0]]},
                                                      [("outlook.com.", "MX")]), r"out25-4(.*\n)*.*(provider|smarthost)"),
    "35, the hostname is not in the DNS": ({"hostname": "vps.example.com"}, {}, r"vps\.example\.com has no address"),
    "35, the PTR is the provider's": ({}, zone_with({PTR4: ["vps7.example."], PTR6: ["vps7.example."]}),
                                      r"fcrdns4.*\n?.*vps7\.example"),
    "40, a blocklist that does not exist": ({"inner": 'dnsbl = { zones = [ "zen.spamhaus.example" ]; };'}, {},
                                            r"zen\.spamhaus\.example does not list(.*\n)*.*in\.dnsbl\.zones"),
}


@scenario("forty: what the DNS shows is named by relayctl doctor")
def names(world):
    for host in ("plain", "six", "valid"):
        world.remote(HOSTS[host])
    failures = []
    world.start(daemons=())
    for name, (conf, published, pattern) in NAMES.items():
        world.write_conf(**conf)
        world.zone.publish(published or zone_with({}))
        named(name, pattern, world.look("ground", "dns", "name", "backend"), failures)
    world.write_conf()
    world.edit(f'servers = [ "{DNS}" ]', f'servers = [ "{BLACK_HOLES[0]}" ]')
    named("32, a dead resolver", r"resolver(.*\n)*.*dns\.servers", world.look("dns"), failures)
    assert not failures, "\n".join(failures)


POSTSCREEN = f"{BACKEND}:25 inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n"
# Settings for the mail server and relay.conf, and what `relayctl doctor` must say.
HOMES = {
    "23, no mail server": (None, {}, rf"{BACKEND}:25.*refused(.*\n)*.*(is it running|firewall)"),
    "24, XCLIENT not authorised": ("smtpd_authorized_xclient_hosts =", {},
                                   r"smtpd_authorized_xclient_hosts = 10\.0\.0\.1"),
    "26, inet_protocols = ipv4 at home": ("inet_protocols = ipv4", {}, r"introduce6(.*\n)*.*inet_protocols = all"),
    "29, identity none": ("", {"backend": 'identity = "none";'}, r'identity is "none"(.*\n)*.*xclient'),
    "30, PROXY to an XCLIENT port": ("", {"backend": 'identity = "proxy-v2";'}, r"let that port expect PROXY headers"),
    "the tunnel in mynetworks": ("mynetworks = 127.0.0.0/8, 10.0.0.0/24", {}, r"relay-as-us(.*\n)*.*mynetworks"),
}


@scenario("forty: what the mail server shows is named by relayctl doctor")
def homes(world):
    failures = []
    for name, (home, conf, pattern) in HOMES.items():
        world.start(home, (), **conf)
        named(name, pattern, world.look("backend"), failures)
        end_home(world)
    world.start(daemons=())
    world.edit(f'"{BACKEND}:25"', f'"{BACKEND}:26"')
    named("23, a wrong port", rf"{BACKEND}:26.*refused", world.look("backend"), failures)
    world.vps.here("route add 172.22.1.1 dev tunnel src 10.0.0.2")
    # Docker's proxy at home: connections do not seem to come from 10.0.0.1.
    world.write_conf()
    with ruleset(world, f"chain c {{ type nat hook input priority 100; ip daddr {BACKEND} tcp dport 25 snat to "
                 "172.22.1.1; }", at_home=True):
        named("25, Docker hides the relay", r"smtpd_authorized_xclient_hosts = 10\.0\.0\.1(.*\n)*.*Docker",
              world.look("backend"), failures)
    with ruleset(world, 'chain c { type filter hook output priority 0; oifname "wg0" meta length > 1200 drop; }'):
        named("39, packets too large for the tunnel", r"mtu(.*\n)*.*MTU = 1380", world.look("backend"), failures)
    assert not failures, "\n".join(failures)


# Settings for postscreen, and what `relayctl doctor` must say.
POSTSCREENS = {
    "28, postscreen's list lacks the relay": ("", r"backend-up(.*\n)*.*postscreen"),
    # Postfix's smtpd does not count clients that may send XCLIENT; postscreen does, by the same limit.
    "27, connection_count_limit too low": ("smtpd_client_connection_count_limit = 2",
                                           r"too many connections(.*\n)*.*smtpd_client_connection_count_limit"),
}


@scenario("forty: postscreen tests and counts the relay")
def postscreen(world):
    failures = []
    for name, (setting, pattern) in POSTSCREENS.items():
        world.start(home=None, daemons=())
        world.home = healthy.Postfix(world.bed, "home", "127.0.0.1:2525", f"""inet_interfaces = {BACKEND}, 127.0.0.1
smtpd_authorized_xclient_hosts = 10.0.0.1
postscreen_greet_action = enforce
{setting}""", POSTSCREEN)
        named(name, pattern, world.look("backend"), failures)
        end_home(world)
    assert not failures, "\n".join(failures)


@scenario("forty: what runs is shown by relayctl status, and by doctor from home")
def running(world):
    failures = []
    soon = world.issue("soon", MX, 5)
    world.start(daemons=(), cert=soon[0], key=soon[1])
    control = f"{world.bed.dir}/control"
    os.mkdir(control)
    shutil.chown(control, "nobody")
    world.edit(f'control = "{world.bed.dir}"', f'control = "{control}"')
    world.daemons = [Daemon(world, program) for program in ("relay-in", "relay-out")]
    assert "newer" not in world.look("config"), "a false alarm"
    other = world.issue("shop", "shop.example")
    done = world.relayctl("certificate", "--config", world.conf, *other)
    named("21, another host's certificate for the hook", rf"{re.escape(MX)}|shop\.example", done.stdout + done.stderr,
          failures)
    assert done.returncode != 0
    named("18, a certificate that nobody renews", r"! .*certificate for .* expires in [45] days \(.*soon\.crt\)",
          world.status(), failures)
    later = time.time() + 2
    os.utime(world.conf, (later, later))
    named("11, edited, not reloaded", r"relay\.conf is newer than the configuration in use: systemctl reload relay-in",
          world.status(), failures)
    named("11, by doctor", r"newer than the configuration in use(.*\n)*.*systemctl reload", world.look("ground"), failures)
    world.edit('listen = [ "[::]:25" ]', 'listen = [ "[::]:25", "[::]:2525" ]')
    for daemon in world.daemons:
        daemon.process.send_signal(signal.SIGHUP)
    wait_for("both to have read it", lambda: "newer" not in world.status())
    named("a new listener, reloaded", r"relay-in: a new address in listen .*systemctl restart relay-in", world.status(),
          failures)
    named("a new listener, by doctor", r"nothing listens on .*:2525(.*\n)*.*systemctl restart relay-in", world.look("ground"), failures)
    world.edit('listen = [ "[::]:25", "[::]:2525" ]', 'listen = [ "[::]:25" ]')
    with ruleset(world, "chain c { type filter hook input priority 0; tcp dport 2526 drop; }"):
        said = world.relayctl("doctor", "--home", "10.0.0.1", "--quiet", at_home=True).stdout
        named("34, the firewall drops 2526", r"home-2526(.*\n)*.*2526 accept", said, failures)
    said = world.relayctl("doctor", "--home", "10.0.0.1", "--quiet", at_home=True).stdout
    if re.search("^(warning|FAILED)", said, re.M):
        failures.append(f"34, without that firewall: {said}")
    world.vps.here("link set tunnel down")
    try:
        named("22, the tunnel is down", r"backend-up(.*\n)*.*wg show", world.look("backend"), failures)
    finally:
        world.vps.here("link set tunnel up")
        world.vps.here("route replace 10.0.0.1 dev tunnel src 10.0.0.2")
    assert not failures, "\n".join(failures)


@contextlib.contextmanager
def another_mta(world, address, name):
    """A program of that name that listens there on port 25."""
    holder = subprocess.Popen([*world.vps.enter, sys.executable, "-c", "import socket, sys\n"
                               "open('/proc/self/comm', 'w').write(sys.argv[2])\n"
                               "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
                               "s = socket.create_server((sys.argv[1], 25), family=family)\nprint(flush=True)\n"
                               "sys.stdin.read()", address, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        yield
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()


@scenario("forty: port 25 is another's, at the relay's own address")
def taken(world):
    failures = []
    world.write_conf()
    for name, advice in (("exim4", r": systemctl disable --now exim4\n"), ("master", r": systemctl disable --now postfix\n"),
                         ("docker-proxy", r" \(ss -ltnp\)\n"), ("python3", r" \(ss -ltnp\)\n")):
        with another_mta(world, "::", name):
            named(f"31, by check, {name}", rf"in\.listen: {name} holds port 25{advice}", world.check(), failures)
            named("31, by the start", r"another program listens \(ss -ltnp\)|ss -ltnp", world.refusal("relay-in"), failures)
    # A local MTA at 127.0.0.1 is no hindrance to a relay at the public address.
    world.edit("[::]:25", f"{healthy.FOUR}:25")
    with another_mta(world, "127.0.0.1", "master"):
        said = world.check()
        if "holds port" in said:
            failures.append(said)
    with another_mta(world, "0.0.0.0", "master"):
        named("31, by check, an address", r"in\.listen: master holds port 25", world.check(), failures)
    assert not failures, "\n".join(failures)


if __name__ == "__main__":
    tap.World = World
    sys.exit(tap.main())
