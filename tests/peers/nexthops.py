"""Gives Postfix and relay-out the same replies of next hops: does the mail have the same outcome?

Each row is a next hop with an unusual reply at one step, alone or followed by a second one that accepts
everything. Postfix's own outcome on this machine is the expectation. DIFFERENCES says where relay-out has reasons
for another.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import threading

from bed import BACKEND, Client, Postfix, read, wait_for
from fakes import HangUp, MailServer

STEPS = ("connect", "ehlo", "starttls", "mail", "rcpt", "data", "dot")
# A bar: it hangs up after that. "close": without a reply. "stall": no reply at all.
SAID = ("421 4.3.2 too busy|", "421 4.3.2 too busy", "450 4.2.0 come again", "451 4.3.0 aborted", "452 4.3.1 full",
        "452 4.5.3 too many", "454 4.7.0 not now", "500 5.5.2 what", "501 5.5.4 syntax", "502 5.5.1 no such command",
        "503 5.5.1 order", "504 5.5.4 parameter", "521 5.3.2 no mail here", "530 5.7.0 log in", "535 5.7.8 credentials",
        "550 5.1.1 unknown", "550 unknown", "551 5.1.6 moved", "552 5.2.2 mailbox full", "553 5.1.3 name",
        "554 5.7.1 rejected", "554 5.7.1 rejected|", "556 5.1.10 none", "571 5.7.1 blocked", "599 odd", "450", "550",
        "450-4.2.0 come\n450 4.2.0 again", "550-5.1.1 unknown\n550 5.1.1 here", "550-5.1.1 unknown\n450 4.2.0 again",
        "450-4.2.0 come\n550 5.1.1 unknown", "550-5.1.1 unknown|", "close", "stall", "hello|", "250 fine", "200 odd",
        "354 go on|", "450 5.1.1 two minds", "550 4.2.0 two minds")
USUAL = {"connect": "220 hop ESMTP", "ehlo": "250-hop\n250 PIPELINING", "helo": "250 hop", "mail": "250 2.1.0 Ok",
         "rcpt": "250 2.1.5 Ok", "data": "354 go", "dot": "250 2.0.0 taken", "rset": "250 2.0.0 Ok",
         "quit": "221 2.0.0 bye"}
OFFERS_TLS = "250-hop\n250-STARTTLS\n250 PIPELINING"
FIRST, SECOND, BASE = "198.51.100.41", "198.51.100.42", 3000


def side_by_side(function, items, threads=16):
    """Runs them in parallel and returns their results. (concurrent.futures would import our queue.py.)"""
    results, left, errors = {}, list(enumerate(items)), []

    def work():
        while left and not errors:
            try:
                number, item = left.pop(0)
                results[number] = function(item)
            except Exception as error:
                errors.append(error)
    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


# The first hop's reply to each recipient in some rows, by name.
EACH = {"no": "550 5.1.1 unknown", "later": "451 4.2.1 come again", "yes": "250 2.1.5 Ok"}
MIXED = [names.split() for names in ("no later", "later no", "no no later later", "later yes", "yes later", "no later yes",
                                     "no yes", "later later", "no no")]


class Row:
    """Each way to send has its own users: "p-yes1" is Postfix's second recipient."""

    def __init__(self, number, step, said, alone, names=("yes",)):
        self.step, self.said, self.alone = step, said, alone
        self.domain, self.port = f"c{number}.test", BASE + number
        self.names = [f"{name}{i}" for i, name in enumerate(names)]
        self.name = f"{step}: {said!r}" + (", alone" if alone else ", another behind it")

    def hops(self):
        return [FIRST] if self.alone else [FIRST, SECOND]

    def recipients(self, way):
        return [f"{way}-{name}@{self.domain}" for name in self.names]


def rows():
    every = [(step, said, alone) for step in STEPS for said in SAID for alone in (True, False)]
    every += [("starttls", said, alone) for said in ("220 go|", "220 go\nhello|") for alone in (True, False)]
    every += [("rcpt", "to each " + " ".join(names), alone, names) for names in MIXED for alone in (True, False)]
    return [Row(number, *what) for number, what in enumerate(every)]


class Hop(MailServer):
    """A host that plays its script. It notes in `taken` for whom it accepted a message."""

    def __init__(self, address, row, number, taken, script):
        self.script, self.number, self.taken = script, number, taken
        super().__init__(address, row.port)

    def said(self, talk, step, line):
        said = self.script.get(step, USUAL.get(step, "500 what"))
        if step == "mail":
            talk.accepted = []
        if step == "rcpt":
            recipient, name = re.match(r"rcpt to:<(\w+-([a-z]+)\d@.*)>", line.decode("latin-1").lower()).groups()
            said = EACH[name] if said.startswith("to each") else said
            if said.startswith("2"):
                talk.accepted.append(recipient)
        return said

    def reply(self, talk, step, line):
        step = {b"": "connect", b"HELO": "helo"}.get(line[:4].upper(), step)
        said = self.said(talk, step, line)
        if said == "stall":
            while talk.sock.recv(4096):
                pass
        if said in ("stall", "close"):
            raise HangUp
        text = said.rstrip("|").replace("\n", "\r\n")
        if said.endswith("|"):
            talk.say(text)
            raise HangUp
        return text

    def keep(self, talk):
        if self.script.get("dot", "250").startswith("2"):
            self.taken.update({recipient: self.number for recipient in talk.accepted})


class Hops:
    """All next hops. `taken`: which host accepted the message for whom."""

    def __init__(self, every):
        self.taken, self.all = {}, []
        for row in every:
            script = {"ehlo": OFFERS_TLS} if row.step == "starttls" else {}
            self.all.append(Hop(FIRST, row, 1, self.taken, {**script, row.step: row.said}))
            self.all.append(Hop(SECOND, row, 2, self.taken, {}))

    def close(self):
        for hop in self.all:
            hop.close()


def outcome(status, taken):
    return f"sent, host {taken}" if status == "sent" and taken else status


def outcomes(statuses, every, way, hops):
    """The row -> the outcome for each recipient. `statuses`: recipient -> a word."""
    return {row: tuple(outcome(statuses[r], hops.taken.get(r)) for r in row.recipients(way)) for row in every}


def wait_for_outcomes(log, every, way, hops, pattern):
    """Waits for the outcomes in a log that has a line for each recipient."""
    names, wanted = {"delivered": "sent", "refused": "bounced"}, sum((row.recipients(way) for row in every), [])

    def statuses():
        return {m["to"]: names.get(m["status"], m["status"]) for m in re.finditer(pattern, read(log))}
    wait_for("all outcomes", lambda: all(r in statuses() for r in wanted), 60)
    return outcomes(statuses(), every, way, hops)


def transact(client, row, way, pipelined=False):
    """recipient -> the code that decided."""
    lines = [f"RCPT TO:<{r}>\r\n" for r in row.recipients(way)]
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    if pipelined:
        client.send("".join(lines))
    codes = {}
    for line, recipient in zip(lines, row.recipients(way)):
        if not pipelined:
            client.send(line)
        codes[recipient] = client.reply()[0]
    if any(code // 100 == 2 for code in codes.values()):
        final, _ = client.data("Subject: x\r\n\r\nx\r\n")
        codes = {r: final if code // 100 == 2 else code for r, code in codes.items()}
    client.close()
    return codes


def ask_postfix(world, every, hops):
    lists = {r.domain: ", ".join(f"[{h}]:{r.port}" for h in r.hops()) for r in every}
    world.bed.count += 1
    maps = f"{world.bed.dir}/transport-{world.bed.count}"
    with open(maps, "w") as file:
        file.write("".join(f"{domain} smtp:{hosts}\n" for domain, hosts in lists.items()) + "sender.example discard:\n")
    timeouts = "\n".join(f"smtp_{t}_timeout = 3s" for t in
                         ("connect", "helo", "starttls", "mail", "rcpt", "data_init", "data_xfer", "data_done", "quit"))
    postfix = Postfix(world.bed, f"beside{world.bed.count}", f"{BACKEND}:2525", f"""
inet_interfaces = {BACKEND}
smtp_bind_address = {BACKEND}
mynetworks = {BACKEND}
transport_maps = texthash:{maps}
default_destination_concurrency_failed_cohort_limit = 0
smtp_connection_cache_on_demand = no
smtp_tls_security_level = may
default_process_limit = 50
{timeouts}
""")
    world.homes.append(postfix)

    def submit(row):
        client = Client(BACKEND, BACKEND, 2525)
        client.hello()
        assert set(transact(client, row, "p").values()) == {250}
    side_by_side(submit, every, 8)
    return wait_for_outcomes(postfix.log, every, "p", hops, r"to=<(?P<to>p-\w+@c\d+\.test)>,.* status=(?P<status>\w+)")


def routes_for(every):
    lists = {r.domain: ", ".join(f'"{h}:{r.port}"' for h in r.hops()) for r in every}
    routes = ",\n".join(f'{{ domain = [ "{domain}" ]; next_hop = [ {hosts} ]; }}' for domain, hosts in lists.items())
    return (f'routes = ( {routes} ); dead_for = 0; reuse_for = 0; retry = [ "1h" ]; live_deadline = 3; workers = 64; '
            'timeouts = { connect = "3s"; handshake = "3s"; greeting = "3s"; reply = "3s"; data_block = "3s"; final = "3s"; };')


def ask_live(every, way, hops, open_session, pipelined=False):
    statuses = {}

    def send(row):
        for recipient, code in transact(open_session(), row, way, pipelined).items():
            statuses[recipient] = {2: "sent", 4: "deferred", 5: "bounced"}[code // 100]
    side_by_side(send, every)
    return outcomes(statuses, every, way, hops)


def ask_stored(every, hops, relay, open_session):
    side_by_side(lambda row: transact(open_session(), row, "d"), every, 8)
    return wait_for_outcomes(relay.log, every, "d", hops,
                             r"event=delivery .* status=(?P<status>\w+) .*to=(?P<to>d-\w+@c\d+\.test)")


FOR_NOW = tuple(said for said in SAID if said.split("\n")[-1][0] == "4")
# Ways, steps, replies, and why the outcome differs from Postfix's.
DIFFERENCES = (
    ({"live", "pipelined", "stored"}, {"dot"}, ("close", "stall", "hello|", "550-5.1.1 unknown|", "354 go on|"),
     "no reply to the end of data: a second host would make two messages of one"),
    ({"live", "pipelined", "stored"}, {"data"}, ("354 go on|",),
     "the same: the message was so small that all of it was sent when the connection broke"),
    ({"live", "pipelined", "stored"}, {"connect", "mail", "rcpt"}, ("354 go on|",),
     "what does not fit the command is no refusal: another host, or another time"),
    ({"live", "pipelined", "stored"}, {"data"}, ("250 fine", "200 odd"),
     "what does not fit the command is no refusal: another host, or another time"),
    ({"live", "pipelined", "stored"}, {"starttls"},
     ("550-5.1.1 unknown|", "close", "hello|", "250 fine", "200 odd", "354 go on|", "220 go|", "220 go\nhello|"),
     "no other host is left: plain text at once, for which Postfix waits until the message is five minutes old"),
    ({"live", "pipelined"}, {"dot"}, FOR_NOW,
     "live, what was sent of the message is gone; the client sends it again, and then the other host is asked first"),
    ({"live", "pipelined"}, {"data"}, ("stall",),
     "live, the client waits for this reply, too, and its time is over"),
    ({"live", "pipelined"}, {"rcpt"}, tuple("to each " + " ".join(n) for n in MIXED if {"yes", "later"} <= set(n)),
     "live, the host has accepted others: the client sends again to whom it refused for now"),
    ({"live"}, {"rcpt"}, ("to each later no", "to each later yes"),
     "live, one recipient after the other: the host that took the first one is asked for the others"),
)


def reason_for(way, row):
    for ways, steps, said, reason in DIFFERENCES:
        if way in ways and row.step in steps and row.said in said and (row.alone or row.step != "starttls"):
            return reason
    return None


def compare(way, every, expected, got):
    """Prints the differences that have a reason, and returns the others."""
    wrong, known = [], {}
    for row in every:
        if got[row] == expected[row]:
            continue
        reason = reason_for(way, row)
        if reason is None:
            wrong.append(f"{way}, {row.name}: Postfix {expected[row]}, relay-out {got[row]}")
        else:
            known[reason] = known.get(reason, 0) + 1
    for reason, count in known.items():
        print(f"# {way}: {count} differ: {reason}")
    return wrong


def again(every):
    """Tries a live message again where that makes sense: it must reach the other host."""
    return [row for row in every if row.step == "dot" and row.said in FOR_NOW and not row.alone]
