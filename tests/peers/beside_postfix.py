"""Beside Postfix: relay-in and relay-out accept and deliver what Postfix does with its default settings.

Each case goes to the machine's Postfix and to a relay, and both pass mail on to the same recording server.
Postfix's result is the expectation: refused or accepted, and if accepted, the same sender, recipient,
parameters and text there. DIFFERENCES lists the remaining differences with their reasons; one that no case
shows any more is an error too. Speaks TAP. SPDX-License-Identifier: GPL-3.0-or-later
"""
import collections
import os
import random
import re
import subprocess
import sys

import tap
from bed import BACKEND, CLIENT4, OTHER4, RELAY4, Client, Postfix, Relay, read, wait_for
from mirror import FULL, Mirror
from tap import scenario

SINK, MEASURE, OUT_PORT = 2600, 2525, 2526
SEED, CASES = int(os.environ.get("BESIDE_SEED", "1")), int(os.environ.get("BESIDE_CASES", "150"))

# Addresses. D is a domain that is relayed.
LOCALS = ["a", "a.b", "a..b", ".a", "a.", "..", "a+b=c", "bounce-1=x.example", "'a'", "a`b", "|a", "/a/b", "=?utf-8?q?a?=", "l" * 64,
          "l" * 65, "l" * 300, "l" * 1900, '"a b"', '"ab"', '"a\\"b"', '"a\\\\b"', "a\\b", "a\\ b", '"a"."b"', 'a."b c".d', '"a>b"',
          '"a@b"', '"(a)"', "a:b", "mailto:a", "a]b", "a)b", "", '""', "prvs=0123456789=a", "SRS0=abcd=XY=d.example=a", "msprvs1=x=",
          "a%b", "b!a", "a%b%c", "-a", "postmaster", "a(b)", "(b)a", "a@b", "ä"]
DOMAINS = ["D", "D.", "D..", ".D", "a..D", "-a.D", "a-.D", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[2001:db8::1]", "192.0.2.1", "1.2", "a_b.D",
           "D:25", "D/x", "a$b.D", "xn--bcher-kva.example", "bücher.example", "l" * 63 + ".D", "l" * 64 + ".D", '"D"', "localhost", " D",
           "D ", "#1", "[192.0.2.999]", "[D]"]
WRAPPERS = ["<{}>", "{}", " <{}>", " {}", "<{}", "{}>", "<<{}>>", "<{}>>", "< {} >", "<{}>(c)", "<(c){}>", '"Joe"<{}>', "Joe<{}>",
            "Joe <{}>", "<Joe <{}>>", '<"Joe D." <{}>>', "<{}>;", "<{}>,", "<{}>x", "<{}><b@D>", "<{},b@D>", "[{}]", "'{}'",
            "<@x.example:{}>", "<@x.example,@y.example:{}>", "<@:{}>", "@x.example:{}", "<{}>SIZE=1", ":<{}>", "<{}\\>", "\"<{}>\""]
WHOLE = ["<>", "< >", '<"">', "<@>", "", "<a>", "a", "<a@>", "<postmaster>", "<PostMaster>", "<a%D>", "<D!a>", '<"a@D">', "<a\\@D>", "<a b@D>",
         "<a@D@>", "<a@@D>", "<@a.example@D>", "<>x", "<a,b@D>", "<a;b@D>", '<"a""b"@D>', "<a[b]@D>", "<a(b@D>", "<a . b@D>", "<a @D>"]
HELLOS = ["client.example", "MÜLLER-PC", "", "a b", "[192.0.2.1]", "192.0.2.1", "[IPv6:2001:db8::1]", "[::1]", "my_pc", "(x)", "<x>", "x;y",
          '"x"', "x\\y", "x,y", "x/y", "x..y", "x.", ".", "-x", "#1", "=", "x" * 255, "x" * 256, "x" * 1000, "x" * 1900, " x", "x\ty",
          "$(hostname)", "{x}", "x:y", "x@y", "x\x01y", "x\x7f", "<<x>>", "[", "]", "[x y]", ":", '"a b"', "'x'", "x> to=<y", "x\x00y"]
MAIL_PARAMETERS = ["AUTH=<>", "AUTH=a@b", "AUTH=a+40b", "RET=HDRS ENVID=QQ==", "RET=FULL", "RET=X", "RET=", "ENVID=", "ENVID=abc", "ret=hdrs",
                   "ENVID=" + "x" * 100, "ENVID=" + "x" * 101, "ENVID=a+", "ENVID=a+zz", "ENVID=ä", "ENVID=a b", "ENVID=a ENVID=b",
                   "SIZE=", "SIZE=0", "SIZE=abc", "SIZE=-1", "SIZE=1 SIZE=2", "SIZE=99999999999999999999", "SIZE=+5", "SIZE", "SIZE= 5",
                   "SIZE =5", "BODY=7BIT", "BODY=8bitmime", "BODY=", "BODY", "BODY=X", "BODY=7BIT BODY=8BITMIME", "SMTPUTF8",
                   "SMTPUTF8=x", "SMTPUTF8 SMTPUTF8", "FOO", "FOO=bar", "X=", "=", "NOTIFY=NEVER", "RET=HDRS RET=FULL", "MT-PRIORITY=3",
                   "HOLDFOR=10", "BY=10;R", "TRANSID=<a@b>", "<x>", "(c)", "REQUIRETLS"]
RCPT_PARAMETERS = ["NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE", "NOTIFY=DELAY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=", "NOTIFY", "NOTIFY=X",
                   "NOTIFY=SUCCESS,SUCCESS", "NOTIFY=SUCCESS,", "NOTIFY=,SUCCESS", "notify=never", "NOTIFY=DELAY NOTIFY=DELAY",
                   "ORCPT=rfc822;a@b", "ORCPT=a@b", "ORCPT=", "ORCPT=rfc822;", "ORCPT=;a", "ORCPT=rfc822;a=b@c", "ORCPT=rfc822;a+b@c",
                   "ORCPT=rfc822;" + "a" * 450, "ORCPT=rfc822;" + "a" * 600, "ORCPT=rfc822;ä@b", "ORCPT=utf-8;ä@b",
                   "ORCPT=rfc822;<a@b>", "ORCPT=x_y;a@b", "ORCPT=rfc822;a\\b", "ORCPT=rfc822;a ORCPT=rfc822;b", "FOO", "FOO=bar",
                   "SIZE=5", "BODY=8BITMIME", "RRVS=2014-04-03T23:01:00Z", "AUTH=<>"]
# What a client that says HELO may use all the same.
HELO_CLIENTS = [("<s@sender.example> BODY=8BITMIME", "<a@example.com>"), ("<s@sender.example>", "<a@example.com> NOTIFY=NEVER"),
                ("<s@sender.example> RET=HDRS ENVID=x", "<a@example.com>"), ("<s@sender.example> SMTPUTF8", "<a@example.com>"),
                ("<ä@sender.example> SMTPUTF8", "<a@example.com>"), ("<s@sender.example> SMTPUTF8", "<ä@example.com>"),
                ("<s@sender.example> SIZE=5 BODY=7BIT", "<a@example.com>")]
# Whole lines, for what surrounds the address.
MAIL_LINES = ["mail from:<s@D>", "MAIL From: <s@D>", "MAIL FROM :<s@D>", "MAIL FROM<s@D>", "MAIL FROM <s@D>", "MAIL  FROM:<s@D>",
              "MAIL\tFROM:\t<s@D>", "MAIL <s@D>", "MAIL FROM:<s@D>  SIZE=5", "MAIL FROM:<s@D>\tSIZE=5", "MAIL FROM=<s@D>", " MAIL FROM:<s@D>",
              "\tMAIL FROM:<s@D> ", "MAIL FROM:<s@D>\r", "MAIL FROM:<s@D> \r ", "MAIL FROM:<s@D>\x01", "MAIL FROM:<s\rx@D>", "MAIL FROM:<s@D>\x00"]
SHAPES = {"plain": "Subject: x\r\n\r\nx\r\n", "mbox line": "From a@b Sat Nov 28\r\nSubject: x\r\n\r\nx\r\n",
          "quoted mbox line": ">From a@b\r\nSubject: x\r\n\r\nx\r\n", "two mbox lines": "From a\r\n>From b\r\nSubject: x\r\n\r\nx\r\n",
          "mbox line without CR": "From a@b\nS: x\n\nb\r\n", "mbox line behind a field": "From: a\r\nFrom a@b\r\n\r\nx\r\n",
          "mbox line, then a blank": "From x\r\n y\r\nS: y\r\n\r\n", "nearly an mbox line": "From\ta@b\r\nS: y\r\n\r\n",
          "blank first": " x\r\nSubject: y\r\n\r\nb\r\n", "tab first": "\tx\r\nS: y\r\n\r\n", "no header": "hello\r\nworld\r\n",
          "empty line first": "\r\nx\r\n", "nothing": "", "one empty line": "\r\n", "blank before the colon": "Subject : x\r\n\r\nb\r\n",
          "broken header": "Subject: x\r\nbroken line\r\nTo: y\r\n\r\nb\r\n", "header alone": "Subject: x\r\n", "dots": "S: x\r\n\r\n..\r\n..x\r\n",
          "bare LF": "S: x\r\n\r\na\nb\r\n", "bare CR": "S: x\r\n\r\na\rb\r\n", "only LF": "S: x\n\na\nb\n\r\n", "NUL": "S: x\r\n\r\na\x00b\r\n",
          "8 bits": "S: \xe4\r\n\r\n\xe4\xff\r\n", "long line": "S: x\r\n\r\n" + "z" * 3000 + "\r\n", "long field": "S: " + "y" * 3000 + "\r\n\r\nx\r\n",
          "998 octets": "S: x\r\n\r\n" + "z" * 998 + "\r\n", "dot that is none": "S: x\r\n\r\n.\xff\r\n", "folded": "S: a\r\n b\r\n\tc\r\n\r\nx\r\n",
          "Received fields": "Received: by x\r\n" * 20 + "S: x\r\n\r\nx\r\n", "MIME": "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nx\r\n"}

# Replies of a next hop at a step, as the mirror plays them.
REPLIES = ["220 fine", "354 go on", "250-2.0.0 fine\r\n550 5.0.0 or not", "550-5.0.0 no\r\n451 4.0.0 or later", "600 what", "garbage",
           "421 4.3.2 later", "450 4.2.1 later", "451 4.7.1 later", "452 4.2.2 full", "501 5.5.4 bad", "550 5.1.1 nobody", "550 plain",
           "552 5.2.2 full", "554 5.7.1 no", "250 2.0.0 fine", "close"]
NEXT_HOPS = [(step, reply) for step in ("banner", "ehlo", "mail", "rcpt", "data", "dot") for reply in REPLIES]

# (part of the program, pattern of the case, sides, why it stays different). Parts: "sender", "recipient", "hello", "mail", "rcpt",
# "line", "shape", "mixed", "hop"; sides: "in", "out".
DIFFERENCES = []


def differs(parts, sides, pattern, reason):
    DIFFERENCES.append([parts.split(), sides.split(), re.compile(pattern, re.DOTALL), reason, 0])


TAKEN_HERE, REFUSED_HERE = r" \|\| Postfix refused .*, here taken", r" \|\| Postfix taken .*, here refused"
differs("sender recipient mixed", "in out", r"<-a@.*" + TAKEN_HERE,
        "a hyphen first is dangerous in a shell's command line, which no mail passes here")
differs("sender recipient mixed", "in out", r"@(192\.0\.2\.1|1\.2)(?![\w.]).*" + TAKEN_HERE,
        "an address for a domain, without brackets: whether that can be is for the DNS, or the backend")
differs("sender recipient mixed", "in out", r"@bücher\.example.*" + TAKEN_HERE,
        "Postfix wants the word SMTPUTF8 for a domain in UTF-8, and not for a local part; here the address says it for both")
differs("sender recipient mixed", "in out", r"MAIL: Postfix set\(\), here \{'SMTPUTF8'\}",
        "an address in UTF-8 is sent on with SMTPUTF8, without which it would not be in correct form (RFC 6531 3.4)")
differs("recipient mixed", "in", r"@(a_b|l{63})\.D.*" + REFUSED_HERE + r" \(550 5\.7\.1",
        "subdomains are ours where a leading dot says so; Postfix takes those of relay_domains unasked")
differs("recipient mixed", "in out", r"(?:^|\| )[^|]*@(?:x\.example(?:,@y\.example)?)?:[^|]*.*" + REFUSED_HERE + r" \(550 5\.7\.1",
        "source routes are refused for recipients in all forms; Postfix passes over them")
differs("sender recipient mixed", "in out", r"^<(a%D|D!a)>" + REFUSED_HERE, "a '%' or '!' without a domain means another host's user")
differs("recipient mixed", "in out", r"^<(\"a@D\"|a\\@D)>" + REFUSED_HERE, "an '@' that is quoted is no place for a recipient's domain")
differs("recipient mixed", "out", r"(a@b@|a@@D|@a\.example@D).*" + REFUSED_HERE,
        "a second '@' in a recipient can be read two ways, by whoever comes next")
differs("sender recipient", "in out", r"^<a@D@>" + REFUSED_HERE, "Postfix makes a path of it that has no domain, and sends that on")
differs("sender recipient", "in out", r"^<>x" + REFUSED_HERE, "what stands behind a null path is nobody's name")
differs("sender recipient", "in out", r"^<a\(b@D>" + REFUSED_HERE,
        "a comment without end swallows the domain, and Postfix takes a local user for it")
differs("recipient mixed", "out", r"\[(192\.0\.2\.1|IPv6:2001:db8::1)\]" + ".*" + REFUSED_HERE + r" \(550 5\.7\.1 Address literals",
        "out.address_literals is off unless asked for")
differs("recipient", "out", r"^(<a>|a|<[Pp]ost[mM]aster>)" + REFUSED_HERE, "relay-out has no users of its own, and no domain here to give them")
differs("hello line mixed", "in out", "\x00" + ".*" + REFUSED_HERE,
        "Postfix does not see what follows a NUL; here nothing that others may see differently is passed over")
differs("mail", "in", r"^ENVID=ä" + TAKEN_HERE, "encoded, as in ORCPT, where Postfix does that, too")
differs("mail rcpt", "in", r"^(ENVID=x{101}|ORCPT=rfc822;a{600}).*here set\(\)", "longer than RFC 3461 allows: not sent on")
differs("mail rcpt", "out", r"^(?i:ret|envid|notify|orcpt)=.*" + REFUSED_HERE + r" \(555",
        "DSN is offered by relay-out where it stores all mail: live it cannot send the notices that it would owe")
differs("hop", "out", r"^(banner: (354|600)|ehlo: ).*Postfix bounced, here deferred",
        "what is said before MAIL is about the host, not the message: it is tried again while it lives")
differs("hop", "out", r"^(mail|rcpt|dot): garbage \|\| Postfix (bounced|sent), here deferred",
        "Postfix passes over a line that is no reply and takes the reply to its next command for it, QUIT's for the message's")
POSTFIX = tuple(map(int, re.findall(r"\d+", subprocess.run(["postconf", "-dh", "mail_version"], check=True, capture_output=True,
                                                           text=True).stdout)[:2]))
if POSTFIX >= (3, 9):
    differs("shape", "in out", "^mbox line, then a blank .*text: ",
            "newer versions keep the line that goes on behind a mailbox file's, as it came")

# How Postfix rewrites the text. The relays pass it on unchanged, because signatures cover what the sender wrote.
# These changes are removed from both before the comparison.
REWRITTEN = [(rb"(?m)^\.", b"", "dots that are stuffed"),
             (rb"\AX-Mailbox-Line: |(?<=\r\n)X-Mailbox-Line: ", b"", "lines of a mailbox file become fields"),
             (rb"(?m)^([!-9;-~]+)[ \t]+:", rb"\1:", "a blank before the colon of a field is dropped"),
             (rb"\r\n[ \t]", b"", "lines of more than 998 octets are folded"),
             (rb"\0", b" ", "Postfix 3.7 passes NUL on, which others take for an end"),
             (rb"\A(?:\r\n)+|(?<=\n)(?:\r\n)+", b"", "an empty line is put behind what is no more a header")]


class Out(Relay):
    """relay-out with live delivery and one route for everything."""

    program = "relay-out"

    def write_conf(self):
        with open(self.conf, "w") as file:
            file.write(f"""
hostname = "relay.example";
user = "nobody";
dns = {{ servers = [ "127.0.0.1:5300" ]; validate = false; }};
out = {{ listen = [ "10.0.0.1:{OUT_PORT}" ]; allow = [ "{OTHER4}" ]; spool = ""; dead_for = "0s"; reuse_for = "0s";
  routes = ( {{ domain = "*"; next_hop = "{BACKEND}:{SINK}"; }} ); limits = {{ junk_commands = 1000; }};
  timeouts = {{ greeting = "3s"; reply = "3s"; final = "3s"; }}; }};
log = {{ level = "debug"; }};
""")


def queue_id(text):
    return re.search(r"queued as (\w+)", text).group(1)


class Bench:
    """Postfix and the relays in front of one recording server."""

    def __init__(self, world):
        self.sink = Mirror(SINK, extensions=FULL)
        world.backends.append(self.sink)
        self.postfix = Postfix(world.bed, f"measure{world.bed.count}", f"{BACKEND}:{MEASURE}", f"""
myhostname = relay.example
mynetworks = 127.0.0.1/32, {OTHER4}/32
virtual_mailbox_domains =
relay_domains = example.com, relay.example
relayhost = [{BACKEND}]:{SINK}
relay_transport = smtp:[{BACKEND}]:{SINK}
default_destination_concurrency_failed_cohort_limit = 0
smtp_destination_concurrency_failed_cohort_limit = 0
smtpd_hard_error_limit = 1000
smtp_helo_timeout = 3s
smtp_mail_timeout = 3s
smtp_rcpt_timeout = 3s
smtp_data_init_timeout = 3s
smtp_data_done_timeout = 3s
smtp_quit_timeout = 1s
""")
        self.relays = {"in": world.relay(backend_port=SINK, listen=f'"{RELAY4}:25"', domains='"relay.example", "example.com"',
                                         limits="errors = 1000;"),
                       "out": Out(world.bed)}
        world.relays.append(self.relays["out"])
        wait_for("the offer", lambda: "event=backend-offer" in read(self.relays["in"].log))
        self.count = 0

    def close(self):
        self.postfix.stop()

    def say(self, case, side, measure):
        """The result: ("taken" or "refused", class of the last reply, its text), or ("lost", 0, why)."""
        source = CLIENT4 if side == "in" else OTHER4
        host, port = (BACKEND, MEASURE) if measure else (RELAY4, 25) if side == "in" else ("10.0.0.1", OUT_PORT)
        self.count += 1
        client = Client(source, host, port, timeout=20)
        try:
            client.reply()
            for line in (case.hello, case.mail, case.rcpt, "DATA"):
                client.send(line.encode() + b"\r\n")
                code, text = client.reply()
                if code >= 400:
                    return "refused", code // 100, text
            client.send(case.data.encode("latin-1") + f"case-{self.count}-\r\n.\r\n".encode())
            code, text = client.reply()
            return "taken" if code < 300 else "refused", code // 100, text
        except (ConnectionError, TimeoutError) as error:
            return "lost", 0, repr(error)
        finally:
            client.close()

    def put(self, case, side, measure):
        """The same, but for "taken" the class is replaced by the message at the recording server."""
        answer, code, text = self.say(case, side, measure)
        if answer == "taken":
            code = self.delivered(f"case-{self.count}-", measure and queue_id(text))
        return answer, code, text

    def delivered(self, token, queued):
        """The message that reached the recording server; None if Postfix says why none did."""
        found = []

        def look():
            found[:] = [m for m in self.sink.accepted if token.encode() in m.content]
            return found or (queued and re.search(rf"{queued}: .*status=(?:bounced|deferred)", read(self.postfix.log)))
        wait_for("the message", look, 20)
        return found[0] if found else None


class Case:
    def __init__(self, part, name, hello="EHLO client.example", mail="MAIL FROM:<s@sender.example>", rcpt="RCPT TO:<a@example.com>",
                 data=SHAPES["plain"]):
        self.part, self.name = part, name
        self.hello, self.mail, self.rcpt, self.data = hello, mail, rcpt, data


def in_domain(text, domain):
    return text.replace("D", domain) if domain else text


def addresses():
    """Every local part, domain and wrapper once, with the other parts plain."""
    return ([f"<{l}@D>" for l in LOCALS] + [f"<a@{d}>" for d in DOMAINS] + [w.format("a@D") for w in WRAPPERS] + WHOLE +
            [w.format("a..b%c@D") for w in WRAPPERS] + [w.format("a@b@D") for w in WRAPPERS[:12]])


def cases():
    """Everything in each list, and a seeded mixture of all lists."""
    rng = random.Random(SEED)
    for text in addresses():
        yield Case("sender", text, mail="MAIL FROM:" + in_domain(text, "sender.example"))
        yield Case("recipient", text, rcpt="RCPT TO:" + in_domain(text, "example.com"))
    for text in HELLOS:
        yield Case("hello", text, hello=f"EHLO {text}")
    yield Case("hello", "HELO a b", hello="HELO a b")
    for sender, recipient in HELO_CLIENTS:
        yield Case("helo", f"{sender} {recipient}", "HELO client.example", f"MAIL FROM:{sender}", f"RCPT TO:{recipient}")
    for text in MAIL_PARAMETERS:
        yield Case("mail", text, mail=f"MAIL FROM:<s@sender.example> {text}")
    for text in RCPT_PARAMETERS:
        yield Case("rcpt", text, rcpt=f"RCPT TO:<a@example.com> {text}")
    for text in MAIL_LINES:
        yield Case("line", text, mail=in_domain(text, "sender.example"))
    for name, data in SHAPES.items():
        yield Case("shape", name, data=data)
    for _ in range(CASES):
        sender, recipient = (rng.choice(WRAPPERS).format(rng.choice(LOCALS) + "@" + rng.choice(DOMAINS)) for _ in range(2))
        hello, shape = rng.choice(HELLOS), rng.choice(list(SHAPES))
        yield Case("mixed", f"{hello} | {sender} | {recipient} | {shape}", f"EHLO {hello}", "MAIL FROM:" + in_domain(sender, "sender.example"),
                   "RCPT TO:" + in_domain(recipient, "example.com"), SHAPES[shape])


def parameters(line, client_said):
    """The parameters of MAIL or RCPT at the recording server, except those that Postfix adds itself."""
    words = re.sub(r"^\w+ \w+:<(?:\"(?:\\.|[^\"\\])*\"|[^>\"])*>", "", line).split()
    return {w for w in words if not w.startswith("SIZE=") and (not w.startswith("ORCPT=") or "ORCPT=" in client_said.upper())}


def path_of(line):
    return re.match(r"\w+ \w+:(<(?:\"(?:\\.|[^\"\\])*\"|[^>\"])*>)", line).group(1)


def trace_of(content):
    """The field that the relay added, and the message without it."""
    found = re.search(rb"^Received:(?:.*\r\n)(?:[ \t].*\r\n)*?.*by relay\.example .*\r\n(?:[ \t].*\r\n)*", content, re.M)
    assert found, content[:300]
    return found.group(0), content[:found.start()] + content[found.end():]


def said_hello(trace):
    name = re.match(rb"Received: from (\S*)", trace).group(1)
    return bytes(c if c < 0x80 else 0x3f for c in name)[:255]


def compare(case, measured, got):
    """None, or how the relay's answer differs from Postfix's."""
    if measured[0] != got[0]:
        return f"Postfix {measured[0]} ({measured[2][:80]}), here {got[0]} ({got[2][:80]})"
    if measured[0] != "taken":
        return None if measured[1] == got[1] else f"Postfix {measured[1]}xx, here {got[1]}xx: {got[2][:80]}"
    a, b = measured[1], got[1]
    if a is None:
        return "Postfix could not deliver what it took"
    for what, theirs, ours in (("sender", path_of(a.mail), path_of(b.mail)), ("recipient", path_of(a.rcpts[0]), path_of(b.rcpts[0])),
                               ("MAIL", parameters(a.mail, case.mail), parameters(b.mail, case.mail)),
                               ("RCPT", parameters(a.rcpts[0], case.rcpt), parameters(b.rcpts[0], case.rcpt))):
        if theirs != ours:
            return f"{what}: Postfix {theirs}, here {ours}"
    (trace, text), (own_trace, own_text) = trace_of(a.content), trace_of(b.content)
    if rewritten(text) != rewritten(own_text):
        return f"text: Postfix {rewritten(text)[:120]!r}, here {rewritten(own_text)[:120]!r}"
    if said_hello(trace) != said_hello(own_trace):
        return f"hello: Postfix {said_hello(trace)!r}, here {said_hello(own_trace)!r}"
    return None


def rewritten(text):
    text = re.sub(rb"case-\d+-", b"", text)
    for pattern, replacement, _ in REWRITTEN:
        text = re.sub(pattern, replacement, text)
    return text


def canonical(data):
    """A relay's version of the message: it changes only newlines and NUL, and no line can continue the trace."""
    data = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)|\0", b" ", data))
    mbox = re.match(rb"(?:>{0,16}From .*\r\n)*", data).group(0)
    rest = data[len(mbox):]
    return mbox + (b"\r\n" if rest[:1] in (b" ", b"\t") else b"") + rest


def known(case, side, difference):
    for row in DIFFERENCES:
        parts, sides, pattern, _, _ = row
        if case.part in parts and side in sides and pattern.search(f"{case.name} || {difference}"):
            row[4] += 1
            return True
    return False


VALID = re.compile(r"<>|<(?:[^\s<>()\[\],;:\\\"@.]+(?:\.[^\s<>()\[\],;:\\\"@.]+)*|\"(?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*\")@(?:\[[^\]]+\]|[^\s<>()\[\],;:\\\"@]+)>")


def judge(case, side, measured, got):
    """Says what is wrong. Everything that was passed on must be in correct form."""
    wrong = []
    difference = compare(case, measured, got)
    if difference and not known(case, side, difference):
        wrong.append(difference)
    if got[0] == "taken":
        message = got[1]
        wrong += [f"sent on: {line}" for line in [message.mail, *message.rcpts]
                  if not VALID.fullmatch(path_of(line).encode("latin-1").decode("utf-8", "replace"))]
        own_text = re.sub(rb"case-\d+-", b"", trace_of(message.content)[1])
        if own_text != canonical(case.data.encode("latin-1")) + b"\r\n":
            wrong.append(f"the text is not as sent: {own_text[:120]!r}")
        if side == "in" and not re.fullmatch(r"[!-~]{1,255}", message.helo) or re.search(r'[<>()";\\@]', message.helo):
            wrong.append(f"said to the backend: {message.helo!r}")
    return wrong


@scenario("envelopes, greetings and messages: what Postfix takes and delivers is taken and delivered the same")
def beside(world):
    bench = Bench(world)
    wrong, count = [], 0
    try:
        for case in cases():
            for side in ("in", "out"):
                if side == "out" and case.part in ("hello", "helo"):
                    continue
                count += 1
                found = judge(case, side, bench.put(case, side, True), bench.put(case, side, False))
                wrong += [f"{side} {case.part} {case.name[:200]!r}: {text}" for text in found]
    finally:
        bench.close()
    print(f"# {count} comparisons, seed {SEED}")
    for text in wrong[:int(os.environ.get("BESIDE_SHOWN", "60"))]:
        print("#", text)
    assert not wrong, f"{len(wrong)} of {count} differ"
    assert bench.sink.violations == [], bench.sink.violations[:3]
    stale = [reason for parts, _, _, reason, uses in DIFFERENCES if uses == 0 and parts != ["hop"]]
    assert not stale, stale


def fate_by_postfix(bench, case):
    answer, _, text = bench.say(case, "out", True)
    assert answer == "taken", (case.name, text)
    return wait_for("its fate", lambda: re.search(rf"{queue_id(text)}: .*status=(\w+)", read(bench.postfix.log)), 30).group(1)


def fate_by_relay(bench, case):
    answer, code, _ = bench.say(case, "out", False)
    return {("taken", 2): "sent", ("refused", 4): "deferred", ("refused", 5): "bounced"}.get((answer, code), answer)


@scenario("next hops: what Postfix takes for delivered, for now and for good, relay-out does")
def next_hops(world):
    bench = Bench(world)
    wrong, fates = [], collections.Counter()
    try:
        for step, reply in NEXT_HOPS:
            bench.sink.judge = lambda dialog, at, text, step=step, reply=reply: reply if at == step else None
            case = Case("hop", f"{step}: {reply}")
            theirs, ours = fate_by_postfix(bench, case), fate_by_relay(bench, case)
            fates[ours] += 1
            if theirs != ours and not known(case, "out", f"Postfix {theirs}, here {ours}"):
                wrong.append(f"{case.name}: Postfix {theirs}, here {ours}")
    finally:
        bench.close()
    print(f"# {len(NEXT_HOPS)} next hops: {dict(fates)}")
    assert not wrong, "\n".join(wrong)
    stale = [reason for parts, _, _, reason, uses in DIFFERENCES if uses == 0 and parts == ["hop"]]
    assert not stale, stale


if __name__ == "__main__":
    sys.exit(tap.main(with_postfix=False))
