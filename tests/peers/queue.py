"""Drives relayctl queue on files that follow postern-spool(5)."""
import fcntl
import json
import os
import pwd
import re
import subprocess
import sys
import time

from checks import check, run_checks

RELAYCTL, FOLDER = sys.argv[1:]
QUEUE = os.path.join(FOLDER, "queue")
FIRST, SECOND = "19b0f1a2c3d4e5f6", "19b0f1a2c3d4e5f7"
DATA = b"Subject: Hello\r\n\r\nBody\r\n..dot\r\n"
ODD = b"Subject: \x1b[2J\x9bm \xe9 \xfc\t.\r\n\r\nbody\r\n"


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def write_data(name, data):
    with open(os.path.join(QUEUE, name + ".data"), "wb") as file:
        file.write(data)


def failed_show(data):
    write_data(SECOND, data)
    said = run("show", SECOND, status=65)
    write_data(SECOND, DATA)
    return said


def put(name, envelope):
    write_data(name, DATA)
    with open(os.path.join(QUEUE, name + ".env"), "w", encoding="utf-8") as file:
        file.write(envelope)


def prepare():
    os.makedirs(QUEUE)
    common = "size %d\narrived %s\nexpires %s\n" % (len(DATA), stamp(-7300), stamp(400000))
    put(FIRST, "postern-envelope 1\nid " + FIRST + "\n" + common +
        "sender <alice@example.com>\nfuture <field>\n"
        "recipient <bob@example.net>\n state delivered\n attempts 1\n"
        "recipient <carol@example.org>\n state queued\n attempts 2\n next-try " + stamp(630) +
        "\n remote mx.example.org [198.51.100.4]\n reply 451 4.7.1 Come\\nlater \\x1B[31m\n"
        " odd thing\nend\n")
    put(SECOND, "postern-envelope 1\nid " + SECOND + "\n" + common +
        "hold yes\nsender <>\nrecipient <dave@example.net>\n state queued\nend\n")


def run(*arguments, status=0):
    done = subprocess.run([RELAYCTL, "queue", "-s", FOLDER, *arguments], capture_output=True,
                          text=True, timeout=20, env=dict(os.environ, LC_ALL="C.UTF-8"))
    assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def listed():
    return {row["id"]: row for row in map(json.loads, run("list", "--json").splitlines())}


def edit(name, pattern, text):
    changed = re.sub(pattern, text, envelope(name))
    with open(os.path.join(QUEUE, name + ".env"), "w", encoding="utf-8") as file:
        file.write(changed)


def envelope(name):
    with open(os.path.join(QUEUE, name + ".env"), encoding="utf-8") as file:
        return file.read()


@check
def list_for_people():
    lines = run("list").splitlines()
    assert len(lines) == 5, lines
    assert lines[1].split() == [FIRST, "2h", "31", "1/2", "10m", "<alice@example.com>"], lines[1]
    assert lines[2].strip() == "carol@example.org: 451 4.7.1 Come later ^[[31m", lines[2]
    assert lines[3].split() == [SECOND, "2h", "31", "1/1", "held", "<>"], lines[3]


@check
def list_for_programs():
    rows = listed()
    assert set(rows) == {FIRST, SECOND}
    carol = rows[FIRST]["recipients"][1]
    assert carol["reply"] == "451 4.7.1 Come\nlater \x1b[31m" and carol["attempts"] == 2
    assert rows[FIRST]["recipients_left"] == 1 and rows[SECOND]["hold"] is True


@check
def count():
    assert json.loads(run("count", "--json")) == {
        "messages": 2, "held": 1, "recipients_left": 2, "octets": 2 * len(DATA)}
    assert run("count").startswith("2 messages (1 held), 2 recipients left")
    domains = [json.loads(line) for line in run("count", "--by-domain", "--json").splitlines()]
    assert [(row["name"], row["messages"]) for row in domains] == [("example.net", 1), ("example.org", 1)]
    rows = run("count", "--by-sender").splitlines()
    assert rows[1].split() == ["1", "1", "31", "0s", "<>"], rows
    assert rows[2].split()[:5] == ["1", "1", "31", "10m", "alice@example.com:"], rows


@check
def show():
    text = run("show", FIRST)
    assert "sender <alice@example.com>" in text and "Subject: Hello" in text
    assert "Body" not in text and "\x1b" not in text
    assert run("show", FIRST, "--body").endswith("Subject: Hello\n\nBody\n.dot\n")
    assert json.loads(run("show", SECOND, "--json"))["sender"] == ""
    run("show", "0000000000000000", status=65)
    # A message's contents do not reach the terminal raw, unless asked for.
    write_data(SECOND, ODD)
    text = run("show", SECOND, "--body").split("\n\n", 1)[1]
    assert text == "Subject: ^[[2J\\x9bm \\xe9 \\xfc\t.\n\nbody\n", text
    done = subprocess.run([RELAYCTL, "queue", "-s", FOLDER, "show", SECOND, "--raw"], capture_output=True,
                          timeout=20)
    assert b"Subject: \x1b[2J\x9bm \xe9 \xfc\t.\n\n" in done.stdout, done
    write_data(SECOND, DATA)
    assert "its envelope says" in failed_show(DATA[:-1])
    run("show", "nonsense", status=64)


@check
def reading_changes_nothing():
    assert sorted(os.listdir(FOLDER)) == ["queue"]
    assert len(os.listdir(QUEUE)) == 4


@check
def refused_while_the_daemon_runs():
    with open(os.path.join(FOLDER, "lock"), "w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use by process 4711" in run("hold", "all", status=69)
        assert len(listed()) == 2


@check
def retry():
    assert run("retry", "example.net") == "0 messages changed\n"
    assert run("retry", "example.org") == "1 messages changed\n"
    assert "next-try" not in envelope(FIRST)
    # Lines unknown to this version are kept.
    assert "\nfuture <field>\n" in envelope(FIRST) and "\n odd thing\n" in envelope(FIRST)


@check
def hold_and_release():
    assert run("hold", "all") == "1 messages changed\n"
    assert "hold yes\n" in envelope(FIRST) and "held-since " in envelope(FIRST)
    edit(FIRST, "held-since .*", "held-since " + stamp(-3600))
    assert run("release", FIRST, "EXAMPLE.NET") == "2 messages changed\n"
    # A released message is due, and its time on hold does not count.
    assert not re.search("hold|held|next-try", envelope(FIRST) + envelope(SECOND))
    until = re.search("expires (.*)", envelope(FIRST)).group(1)
    assert stamp(400000 + 3590) <= until <= stamp(400000 + 3610), until


@check
def as_the_owner_of_the_spool():
    nobody = pwd.getpwnam("nobody")
    for folder, _, names in os.walk(FOLDER):
        for path in [folder] + [os.path.join(folder, name) for name in names]:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert run("hold", FIRST) == "1 messages changed\n"
    status = os.stat(os.path.join(QUEUE, FIRST + ".env"))
    assert (status.st_uid, status.st_gid) == (nobody.pw_uid, nobody.pw_gid)
    # Root could read this but the owner cannot, and nothing is quarantined for it.
    os.chown(os.path.join(QUEUE, SECOND + ".env"), 0, 0)
    os.chmod(os.path.join(QUEUE, SECOND + ".env"), 0o600)
    assert "chown" in run("release", "all", status=74)
    assert len(os.listdir(QUEUE)) == 4
    os.chown(os.path.join(QUEUE, SECOND + ".env"), nobody.pw_uid, nobody.pw_gid)
    assert run("release", "all") == "1 messages changed\n"


@check
def remove():
    assert "remove does not take all messages" in run("remove", "all", status=64)
    assert run("remove", "--sender", "@example.org") == "0 messages changed\n"
    # Only recipients in the domain are removed, and with the last recipient the message.
    assert run("remove", "example.net") == "1 messages changed\n"
    assert sorted(listed()) == [FIRST] and listed()[FIRST]["recipients_left"] == 1
    put(SECOND, envelope(FIRST).replace(FIRST, SECOND))
    assert run("remove", FIRST) == "1 messages changed\n"
    assert sorted(os.listdir(QUEUE)) == [SECOND + ".data", SECOND + ".env"]
    run("remove", FIRST, status=65)


@check
def mistakes():
    run("list", "more", status=64)
    run(status=64)
    run("lose", status=64)
    run("hold", status=64)
    done = subprocess.run([RELAYCTL, "queue", "-s", FOLDER + "/none", "list"], capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 66 and "No such file" in done.stderr, done
    assert not os.path.exists(FOLDER + "/none")


prepare()
sys.exit(run_checks())
