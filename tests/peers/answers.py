"""The reply that a client gets for each reply of a backend: protocol section 3, cell by cell.

SPDX-License-Identifier: GPL-3.0-or-later
"""
from bed import Client, read, wait_for
from mirror import FULL, PORT, learned, mirror
from tap import scenario

WITHOUT_PIPELINING = tuple(e for e in FULL if e != "PIPELINING")
# Timeouts are short only for silent backends: on a busy machine a good reply also takes time.
PATIENT = 'command_timeout = "20s"; reply_timeout = "20s"; spares = 0;'
SHORT = 'command_timeout = "1s"; reply_timeout = "1s"; connect_timeout = "1s"; spares = 0;'
LOST, CONFIG, BUSY = "451 4.4.2", "451 4.3.5", "451 4.3.2"

# The backend's reply at the step: the client's reply.
SILENT = ("stall", "garbage")  # a line that is not a reply is skipped if no other reply is due
ODD = "500 5.5.0 Protocol error, the reply was: "
BROKEN = {"garbage": LOST, "close": LOST, "stall": LOST}
PASSED = {"421 4.3.2 going down": "421 4.3.2 going down", "450 4.7.1 come later": "450 4.7.1 come later",
          "501 5.5.4 bad argument": "501 5.5.4 bad argument", "550 5.7.1 no": "550 5.7.1 no",
          "554-5.7.1 never\r\n554 5.7.1 again": "554-5.7.1 never\n554 5.7.1 again", "550 plain": "550 plain"}
CELLS = {
    "banner": {**BROKEN, "421 4.3.2 full": BUSY, "450 4.7.1 later": BUSY, "501 5.5.4 no": BUSY, "550 5.7.1 no": BUSY,
               "554 5.7.1 no": BUSY, "354 what": BUSY},
    "xclient": {**BROKEN, **PASSED, "501 5.5.4 bad argument": CONFIG, "550 5.7.0 insufficient authorization": CONFIG,
                "550 plain": CONFIG, "500 5.5.2 what": CONFIG, "502 5.5.1 what": CONFIG, "503 5.5.1 order": CONFIG,
                "250 2.0.0 fine": CONFIG, "354 go": CONFIG},
    "ehlo": {**BROKEN, **PASSED, "354 go": LOST},
    "mail": {**BROKEN, **PASSED, "354 go": ODD + "354 go", "150 hm": ODD + "150 hm"},
    "rcpt": {**BROKEN, **PASSED, "354 go": ODD + "354 go", "600 hm": ODD + "600 hm"},
    "data": {**BROKEN, **PASSED, "250 2.0.0 thanks": ODD + "250 2.0.0 thanks"},
    "dot": {**BROKEN, **PASSED, "354 go": ODD + "354 go", "250 2.6.0 kept as 17": "250 2.6.0 kept as 17"},
}
# In our own name EHLO is about us as well, and not about the client.
NONE_CELLS = {
    "banner": CELLS["banner"],
    "ehlo": {**BROKEN, **{said: BUSY for said in PASSED}, "354 go": LOST},
}
# After a PROXY header the greeting may concern the client; "header not understood" never does.
PROXY_CELLS = {
    "banner": {**BROKEN, **PASSED, "501 5.5.4 bad argument": CONFIG, "554-5.7.1 never\r\n554 5.7.1 again": CONFIG,
               "521 5.7.1 blocked": "521 5.7.1 blocked", "354 what": BUSY},
    "ehlo": {**BROKEN, **PASSED, "501 5.5.4 bad argument": CONFIG, "500 5.5.2 what": CONFIG, "354 go": LOST},
}


def expected(step, heard, pipelined, together):
    """The replies to RCPT, DATA and the end of data; None: no reply. `together`: RCPT and DATA reach the
    backend in one write."""
    if step == "dot":
        return ["250", "354", heard]
    if step == "data":
        # otherwise the client gets 354 before the backend's reply
        return ["250", heard, None] if together else ["250", "354", heard]
    if not heard.startswith("421"):
        return [heard, "554 5.5.1", None]
    # passed on only if no other reply is due
    return [LOST, "554 5.5.1", None] if pipelined else [heard, None, None]


def converse(client, pipelined):
    heard = []
    client.cmd("MAIL FROM:<s@sender.example>", 250)
    commands = ["RCPT TO:<a@example.com>\r\n", "DATA\r\n"]
    if pipelined:
        client.send("".join(commands))
    try:
        for command in commands:
            if not pipelined:
                client.send(command)
            heard.append(client.reply()[1])
        if heard[-1].startswith("354"):
            client.send("x\r\n.\r\n")
            heard.append(client.reply()[1])
    except OSError:  # the end of the session
        pass
    return heard + [None] * (3 - len(heard))


def fits(heard, wanted):
    return heard == wanted or (heard is not None and wanted is not None and heard.startswith(wanted))


def after(client, heard):
    """The session continues, unless 421 ended it."""
    if any(h is not None and h.startswith("421") for h in heard):
        return client.gone()
    try:
        return client.cmd("RSET")[0] == 250
    except OSError:
        return False


def sets(world, backends, **settings):
    """For each kind of backend: the backend, and whether to try the cells that it leaves unanswered."""
    for extensions in backends:
        identity = settings.get("identity", "")
        backend = mirror(world, extensions=extensions, proxy=identity.startswith("proxy"), nameless=identity == "none")
        for silent in (False, True):
            relay = world.relay(backend_port=PORT, backend=SHORT if silent else PATIENT,
                                limits="errors = 1000;", **settings)
            backend.script = {}
            learned()
            yield backend, silent
            relay.stop()
        backend.close()


def play_cell(backend, step, said, answer, pipelined):
    """Returns None, or what was wrong."""
    backend.script = {step: said}
    backend.forget()
    client = Client()
    client.hello()
    heard = converse(client, pipelined)
    wanted = expected(step, answer, pipelined, pipelined and "PIPELINING" in backend.extensions)
    accepted = len(backend.accepted)
    good = all(fits(h, w) for h, w in zip(heard, wanted)) and after(client, heard)
    client.close()
    if good and accepted == (step == "dot" and answer[0] == "2") and (step == "dot" or not backend.messages):
        return None
    return (step, said, "pipelined" if pipelined else "lock-step", backend.extensions[0], "heard", heard,
            "wanted", wanted, "accepted", accepted)


def play_cells(world, cells, backends, **settings):
    played = []
    for backend, silent in sets(world, backends, **settings):
        played += [play_cell(backend, step, said, answer, pipelined)
                   for step, answers in cells.items() for said, answer in answers.items()
                   if (said in SILENT) == silent for pipelined in (False, True)] + backend.violations
    wrong = [cell for cell in played if cell is not None]
    print(f"# {len(played)} cells")
    assert not wrong, "\n".join(map(str, wrong))


@scenario("answers: each cell of the mapping, client and backend pipelining and not")
def answers(world):
    play_cells(world, CELLS, (FULL, WITHOUT_PIPELINING))


@scenario("answers: the greeting and EHLO under PROXY judge the client, but for what shows that we were not understood")
def answers_proxy(world):
    for identity in ("proxy-v1", "proxy-v2"):
        play_cells(world, PROXY_CELLS, (FULL,), identity=identity)


@scenario("answers: what the backend says to our own EHLO under identity = \"none\" refuses us, not the client")
def answers_none(world):
    play_cells(world, NONE_CELLS, (FULL,), identity="none")


@scenario("answers: chunks: what the backend says to one of them is the answer to the message")
def answers_bdat(world):
    wrong = []
    for backend, silent in sets(world, (FULL, WITHOUT_PIPELINING)):
        for step in ("bdat", "last"):
            for said, answer in {**BROKEN, **PASSED, "354 go": ODD + "354 go"}.items():
                if (said in SILENT) != silent:
                    continue
                backend.script = {step: said}
                backend.forget()
                client = Client()
                client.hello()
                client.envelope("a@example.com")
                heard = []
                for command, chunk in (("BDAT 5", b"12\r\n3"), ("BDAT 3", b"4\r\n"), ("BDAT 3 LAST", b"5\r\n")):
                    client.send(command.encode() + b"\r\n" + chunk)
                    heard.append(client.reply()[1])
                    if heard[-1][0] != "2":
                        break
                if not fits(heard[-1], answer) or any(h[:3] != "250" for h in heard[:-1]) or backend.accepted or \
                        not after(client, heard):
                    wrong.append((step, said, backend.extensions[0], heard, answer, backend.accepted))
                client.close()
        wrong += backend.violations
    assert not wrong, "\n".join(map(str, wrong))


@scenario("answers: AUTH: a refusal is passed on, and that the server cannot be asked is 454")
def answers_auth(world):
    broken = {**{k: "454 4.7.0" for k in BROKEN}, "250 2.0.0 in": "454 4.7.0", "354 go": "454 4.7.0"}
    backend = mirror(world, extensions=FULL + ("AUTH PLAIN LOGIN",))
    relay = world.relay(backend_port=PORT, limits="errors = 1000;", listen='"[::]:25 submission"',
                        inner=f'''submission = {{ hosts = [ "10.0.0.2:{PORT}" ]; identity = "xclient";
                                  tls = "none"; retry_after = 0; {SHORT} }};''')
    learned()
    wrong = []
    for said, answer in {**broken, **PASSED, "535 5.7.8 wrong": "535 5.7.8 wrong", "454 4.7.0 db": "454 4.7.0 db",
                         "235 2.7.0 in": "235 2.7.0 in"}.items():
        backend.script = {"auth": said}
        client = Client()
        client.hello()
        client.starttls()
        heard = client.cmd("AUTH PLAIN AGEAYg==")[1]
        if not fits(heard, answer) or not after(client, [heard]):
            wrong.append((said, heard, answer))
        client.close()
    assert not wrong and backend.violations == [], (wrong, backend.violations)


@scenario("answers: the backend is not there, at a recipient of each pipelining kind; a session outlives it")
def unreachable(world):
    relay = world.relay(backend_port=PORT, backend=PATIENT)
    client = Client()
    client.hello()
    for pipelined in (False, True):
        heard = converse(client, pipelined)
        assert heard[0].startswith("451 4.4.1") and heard[1].startswith("554 5.5.1"), heard
    assert "event=backend-unreachable" in read(relay.log)
    backend = mirror(world)
    assert client.envelope("a@example.com") == [250]
    assert client.data("x\r\n")[0] == 250
    backend.drop(backend.held())
    wait_for("the end of it", lambda: not backend.held())
    # a connection that ended between two messages costs nothing
    assert client.envelope("a@example.com") == [250]
    assert client.data("x\r\n")[0] == 250 and len(backend.accepted) == 2
