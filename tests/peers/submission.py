"""Submission: users log in to the backend through relay-in, which neither keeps nor logs any of it.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import base64
import os
import re
import subprocess
import threading
import time

from bed import BACKEND, CLIENT4, CLIENT6, RELAY4, Client, Postfix, fail2ban_finds, read, wait_for
from mirror import FULL, PORT, introduced, learned, mirror
from servers import Server
from tap import scenario

SUBMISSION_PORT = 2587
USER, PASSWORD = "phone@example.com", "Tr0ub4dor-horse"
WRONG = "not-this-one"
LISTEN = '"[::]:25", "[::]:587 submission", "[::]:465 tls submission"'


def submission_to(port, more=""):
    return f'submission = {{ hosts = [ "{BACKEND}:{port}" ]; identity = "xclient"; retry_after = 0; {more} }};'


class Dovecot(Server):
    """Dovecot's auth service only, in its own folder."""

    def __init__(self, bed):
        super().__init__(bed, "dovecot")
        self.log, self.socket = f"{self.dir}/log", f"{self.dir}/auth-postfix"
        os.chmod(self.dir, 0o755)
        self.write("users", f"{USER}:{{PLAIN}}{PASSWORD}\n")
        version = subprocess.run(["dovecot", "--version"], check=True, capture_output=True, text=True).stdout
        self.write("conf", self.settings(version >= "2.4"))
        self.start(["dovecot", "-F", "-c", self.conf], lambda: os.path.exists(self.socket))

    def settings(self, renamed):
        """Version 2.4 renamed many settings."""
        if renamed:
            top, passdb, clear = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0", f"""passdb passwd-file {{
  passwd_file_path = {self.dir}/users
}}""", "auth_allow_cleartext = yes"
        else:
            top, passdb, clear = "", f"""passdb {{
  driver = passwd-file
  args = {self.dir}/users
}}""", "disable_plaintext_auth = no"
        return f"""{top}
base_dir = {self.dir}/run
state_dir = {self.dir}/state
log_path = {self.log}
protocols =
ssl = no
{clear}
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
{passdb}
service auth {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
"""


def sasl_postfix(world, dovecot):
    return Postfix(world.bed, f"submission-{os.path.basename(dovecot.dir)}", f"{BACKEND}:{SUBMISSION_PORT}", f"""
smtpd_authorized_xclient_hosts = 10.0.0.1, {BACKEND}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {dovecot.socket}
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
relayhost = [{BACKEND}]:{PORT}
smtp_tls_security_level = none""")


def swaks(port, *arguments, source=CLIENT4, password=PASSWORD, tls=("--tls",)):
    return subprocess.run(["swaks", "--server", RELAY4, "--port", str(port), "--local-interface", source, *tls,
                           "--from", USER, "--to", "somebody@far.example", "--auth-user", USER, "--auth-password",
                           password, *arguments], capture_output=True, text=True, timeout=60)


def secrets():
    """Everything that none of our logs may contain, plain or as the mechanisms encode it."""
    out = {USER, PASSWORD, WRONG}
    for text in (USER, PASSWORD, WRONG, f"\0{USER}\0{PASSWORD}", f"\0{USER}\0{WRONG}"):
        out.add(base64.b64encode(text.encode()).decode().rstrip("="))
    return out


@scenario("submission: PLAIN, LOGIN and CRAM-MD5 at Postfix with Dovecot, by STARTTLS and implicit TLS")
def log_in(world):
    dovecot = Dovecot(world.bed)
    postfix = sasl_postfix(world, dovecot)
    try:
        final = mirror(world, PORT, extensions=("8BITMIME",))
        relay = world.relay(listen=LISTEN, inner=submission_to(SUBMISSION_PORT))
        count = 0
        for port, tls in ((587, ("--tls",)), (465, ("--tlsc",))):
            wait_for("the mechanisms", lambda: "CRAM-MD5" in swaks(port, "--quit-after", "HELO", tls=tls).stdout)
            for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
                result = swaks(port, "--auth", mechanism, tls=tls)
                assert result.returncode == 0 and "235 " in result.stdout, result.stdout + result.stderr
                count += 1
                wait_for("the mail", lambda: len(final.accepted) == count, 20)
                bad = swaks(port, "--auth", mechanism, password=WRONG, tls=tls)
                assert bad.returncode != 0 and re.search(r"<[~*]\*? *535 5\.7\.8", bad.stdout), bad.stdout
        assert {tuple(m.recipients) for m in final.accepted} == {("somebody@far.example",)}
        log = read(postfix.log)
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            assert f"client=unknown[{CLIENT4}], sasl_method={mechanism}, sasl_username={USER}" in log, log
        ours = read(relay.log)
        assert ours.count("event=auth status=ok") == 6, ours
        # the log line of a failure is what bans rely on
        failures = [line for line in ours.splitlines() if "SASL" in line and "authentication failed" in line]
        assert len(failures) == 6 and f"[{CLIENT4}]" in failures[0], failures
        path = f"{world.bed.dir}/auth.log"
        with open(path, "w") as file:
            file.writelines(time.strftime("%b %d %H:%M:%S ") + "host postfix/smtpd[123]: " + f + "\n" for f in failures)
        out = subprocess.run(["fail2ban-regex", path, "postfix[mode=auth]"], capture_output=True, text=True, timeout=60)
        assert "6 matched" in out.stdout, out.stdout[-600:]
        assert fail2ban_finds(world.bed, ours, "relay-in") == [CLIENT4] * 6
        # MAIL's own address may be in the log; nothing else of the user, and nothing of the password
        shown = ours.replace(f"from=<{USER}>", "")
        assert [s for s in secrets() if s in shown] == []
        # what relay-in ends itself is no wrong password to the server, whose log may ban the client
        client = Client(port=587)
        client.hello()
        client.starttls()
        client.cmd("AUTH LOGIN", 334)
        failed = read(postfix.log).count("authentication failed")
        client.cmd("not base64", 501)
        client.close()
        wait_for("the end of the dialog", lambda: "authentication aborted" in read(postfix.log))
        assert read(postfix.log).count("authentication failed") == failed, read(postfix.log)
    finally:
        postfix.stop()
        dovecot.stop()


@scenario("submission: the rules around AUTH: TLS first, log-in before MAIL, once, any recipient only then")
def rules(world):
    backend = mirror(world, extensions=FULL + ("AUTH PLAIN LOGIN SCRAM-SHA-256-PLUS EXTERNAL",))
    relay = world.relay(backend_port=PORT, listen=LISTEN, inner=submission_to(PORT, 'tls = "none";'),
                        limits="errors = 100;")
    learned()
    client = Client(port=587)
    assert "AUTH" not in client.hello().replace("AUTHENT", "")
    client.cmd("MAIL FROM:<s@sender.example>", 530)
    code, text = client.cmd("AUTH PLAIN AGEAYg==")
    assert code == 530 and "STARTTLS" in text, text
    offer = client.starttls()
    assert re.search(r"^250.AUTH PLAIN LOGIN$", offer, re.M), offer
    code, text = client.cmd("MAIL FROM:<s@sender.example>")
    assert code == 530 and "5.7.0" in text, text
    client.cmd("RCPT TO:<a@example.com>", 503)
    client.cmd("AUTH EXTERNAL =", 504)
    client.cmd("AUTH SCRAM-SHA-256-PLUS x", 504)
    client.cmd("AUTH", 501)
    backend.script = {"auth": "535 5.7.8 no"}
    client.cmd("AUTH PLAIN AGEAYg==", 535)
    client.cmd("MAIL FROM:<s@sender.example>", 530)
    backend.script = {}
    client.cmd("AUTH PLAIN AGEAYg==", 235)
    client.cmd("AUTH PLAIN AGEAYg==", 503)
    assert client.envelope("x@far.example", "y@[192.0.2.1]", "z%far.example@example.com") == [250] * 3
    assert client.data("x\r\n")[0] == 250
    # its EHLO sends no identity again, and it may wait in the gate and continue
    client.cmd("EHLO client.example", 250)
    time.sleep(0.6)
    assert client.envelope("x@far.example") == [250]
    assert client.data("x\r\n")[0] == 250
    assert [d.client for d in introduced(backend)] == [CLIENT4], "one connection has it all"
    assert "authenticated" in backend.accepted[0].content.decode() or "ESMTPSA" in backend.accepted[0].content.decode()
    # port 25 offers no login and relays nothing
    other = Client()
    assert "AUTH" not in other.hello().replace("AUTHENT", "")
    assert "250-AUTH" not in other.starttls()
    other.cmd("AUTH PLAIN AGEAYg==", 502)
    other.cmd("MAIL FROM:<s@sender.example>", 250)
    other.cmd("RCPT TO:<x@far.example>", 550)
    assert backend.violations == [] and relay.process.poll() is None, backend.violations


@scenario("submission: a dialog is passed on line by line, cancelled by *, and bounded")
def dialog(world):
    answers = []

    def judge(dialog, step, text):
        if step != "auth":
            return None
        return "334 " + base64.b64encode(b"more").decode()

    backend = mirror(world, extensions=FULL + ("AUTH PLAIN LOGIN",), judge=judge)
    relay = world.relay(backend_port=PORT, listen=LISTEN, inner=submission_to(PORT, 'tls = "none";'),
                        limits="errors = 100;", timeouts='line = "3s";')
    learned()

    def on_answer(self, line, _):
        answers.append(line)
        self.say("501 5.7.0 cancelled" if line == "*" else "235 2.7.0 in" if line == "bGFzdA==" else "334 bW9yZQ==")

    kind = type(backend.dialogs[0])
    for word in ("*", "bGFzdA==", "Zmlyc3Q=", "e" * 9000):
        setattr(kind, "on_" + word.lower(), on_answer)
    try:
        for said, heard in ((["*"], 501), (["Zmlyc3Q=", "Zmlyc3Q=", "bGFzdA=="], 235)):
            client = Client(port=587)
            client.hello()
            client.starttls()
            assert client.cmd("AUTH LOGIN", 334)[1] == "334 bW9yZQ=="
            answers.clear()
            codes = [client.cmd(word)[0] for word in said]
            assert codes[-1] == heard and answers == said, (codes, answers)
            assert set(codes[:-1]) <= {334}
            client.cmd("NOOP", 250)
            client.close()
        # input that is not base64 ends the dialog, and none of it is passed on
        for said in ("Zm9v\rMAIL FROM:<x@y.example>", "Zm9v\0", "Zm9v\r\rQUIT", "Zm9v bar", "Zm\xe4v", "**", "\t"):
            client = Client(port=587)
            client.hello()
            client.starttls()
            client.cmd("AUTH LOGIN", 334)
            answers.clear()
            assert client.cmd(said)[0] == 501
            wait_for("the dialog to be cancelled", lambda: answers == ["*"])
            client.cmd("MAIL FROM:<s@sender.example>", 530)
            client.cmd("AUTH PLAIN Zm9v!", 501)
            client.close()
        # nor is a line that is too long, and what follows it is a command again
        client = Client(port=587)
        client.hello()
        client.starttls()
        client.cmd("AUTH LOGIN", 334)
        answers.clear()
        assert client.cmd("e" * 12300)[0] == 500
        wait_for("the dialog to be cancelled", lambda: answers == ["*"])
        client.cmd("NOOP", 250)
        # a client that falls silent in mid-dialog is told why it is cut off
        client.cmd("AUTH LOGIN", 334)
        assert client.reply()[0] == 421 and client.gone()
        client.close()
        endless = Client(port=587)
        endless.hello()
        endless.starttls()
        endless.cmd("AUTH LOGIN", 334)
        for _ in range(30):
            code = endless.cmd("Zmlyc3Q=")[0]
            if code != 334:
                break
        assert code == 454, code
    finally:
        for word in ("*", "bGFzdA==", "Zmlyc3Q=", "e" * 9000):
            delattr(kind, "on_" + word.lower())
    assert relay.process.poll() is None


@scenario("submission: what is offered before STARTTLS says nothing of log-ins, and mirror means TLS")
def offered_under_tls(world):
    hold = threading.Event()

    def offers(*keywords):
        lines = ["backend", *FULL, *keywords]
        return "\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])

    def judge(dialog, step, text):
        if step == "starttls" and hold.is_set():
            wait_for("the other one", lambda: not hold.is_set(), 20)
        # like smtpd_tls_auth_only
        return offers("AUTH PLAIN" if dialog.tls else "STARTTLS") if step == "ehlo" else None

    backend = mirror(world, certificate=(world.bed.cert, world.bed.key), judge=judge)
    relay = world.relay(backend_port=PORT, listen=LISTEN, inner=submission_to(PORT, "spares = 0;"))

    def offer():
        client = Client(port=587)
        client.hello()
        return client, client.starttls()

    wait_for("the mechanisms", lambda: "AUTH PLAIN" in offer()[1])
    # one has sent EHLO to the backend but not STARTTLS when another one asks
    first, _ = offer()
    hold.set()
    asked = len(backend.dialogs)
    first.send("AUTH PLAIN AGEAYg==\r\n")
    wait_for("STARTTLS", lambda: len(backend.dialogs) > asked and "STARTTLS" in backend.dialogs[-1].lines)
    assert "AUTH PLAIN" in offer()[1]
    hold.clear()
    assert first.reply()[0] == 235
    # without TLS at the backend there is no login
    backend.judge = lambda dialog, step, text: offers("AUTH PLAIN") if step == "ehlo" else None
    client, text = offer()
    assert client.cmd("AUTH PLAIN AGEAYg==")[0] == 454
    assert "event=backend-tls" in read(relay.log)


@scenario("submission: the backend is lost after the log-in: 421, and nobody sends on as nobody")
def lost(world):
    backend = mirror(world, extensions=FULL + ("AUTH PLAIN",))
    world.relay(backend_port=PORT, listen=LISTEN, inner=submission_to(PORT, 'tls = "none";'))
    learned()
    for source in (CLIENT4, CLIENT6):
        client = Client(source, port=587)
        client.hello()
        client.starttls()
        client.cmd("AUTH PLAIN AGEAYg==", 235)
        assert client.envelope("x@far.example") == [250]
        assert client.data("x\r\n")[0] == 250
        gone = introduced(backend)[-1]
        backend.drop([gone])
        wait_for("its end", lambda: not gone.open)
        client.cmd("MAIL FROM:<s@sender.example>", 250)
        code, text = client.cmd("RCPT TO:<x@far.example>")
        assert code == 421 and "4.4.2" in text and client.gone(), text
    assert len(backend.accepted) == 2 and backend.violations == []
    # nor if it cannot be reached at all
    backend.say_goodbye()
    client = Client(port=587)
    client.hello()
    client.starttls()
    code, text = client.cmd("AUTH PLAIN AGEAYg==")
    assert code == 454 and "4.7.0" in text, text
