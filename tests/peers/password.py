"""Runs relayctl password as an operator does: at a terminal, and as root for a daemon that is not root."""
import os
import pty
import pwd
import signal
import subprocess
import sys
import termios

from checks import check, run_checks
from waits import wait_for

RELAYCTL, FOLDER = sys.argv[1:]
USERS = os.path.join(FOLDER, "users")
CONFIG = os.path.join(FOLDER, "relay.conf")
NOBODY = pwd.getpwnam("nobody")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1)


def heed_signals():
    """Restores signals that the parent may ignore (nohup, a shell's background job)."""
    for number in ENDING + (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)


def at_terminal():
    """Starts the process; returns it and our end of the terminal once it asks, with the echo off."""
    pid, terminal = pty.fork()
    if pid == 0:
        heed_signals()
        os.execv(RELAYCTL, ["relayctl", "password", "-c", CONFIG, USERS, "ann"])
    wait_for("the prompt", lambda: not echoes(terminal))
    return pid, terminal


def ended(pid):
    """Waits for the process and returns its status."""
    found = []
    wait_for("its end", lambda: found.append(os.waitpid(pid, os.WNOHANG)) or found[-1][0] == pid)
    return found[-1][1]


def echoes(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


@check
def typed_twice():
    pid, terminal = at_terminal()
    os.write(terminal, b"secret\n")
    wait_for("the second question", lambda: b"Again" in os.read(terminal, 1000))
    wait_for("the prompt", lambda: not echoes(terminal))
    os.write(terminal, b"secret\n")
    assert ended(pid) == 0
    with open(USERS, encoding="ascii") as file:
        assert file.read().startswith("ann:$")
    os.unlink(USERS)
    os.close(terminal)


@check
def ended_by_any_signal():
    for number in ENDING:
        pid, terminal = at_terminal()
        os.kill(pid, number)
        assert os.WTERMSIG(ended(pid)) == number
        assert echoes(terminal), number
        os.close(terminal)
    assert not os.path.exists(USERS)


@check
def stopped_and_continued():
    # A process group of its own in the session: one without a parent there is not stopped.
    shell, terminal = pty.fork()
    if shell == 0:
        heed_signals()
        os.execv("/bin/bash", ["bash", "--norc", "-im", "-c",
                               f"{RELAYCTL} password -c {CONFIG} {USERS} ann; fg"])
    wait_for("the prompt", lambda: not echoes(terminal))
    os.write(terminal, b"\x1a")
    said = b""
    while said.count(b"Password:") < 2:
        said += os.read(terminal, 1000)
    wait_for("the prompt", lambda: not echoes(terminal))
    os.write(terminal, b"\x03")
    ended(shell)
    assert echoes(terminal)
    os.close(terminal)


@check
def the_daemon_can_read_it():
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write('hostname = "a.example"; user = "nobody"; in = { domains = [ "a.example" ]; '
                   'backend = { hosts = [ "127.0.0.1:2525" ]; identity = "none"; }; };\n')
    for mode, owner in ((None, 0), (0o600, 0), (0o640, 0), (0o600, NOBODY.pw_uid), (0o644, 0)):
        if mode is not None:
            with open(USERS, "w", encoding="ascii"):
                os.chmod(USERS, mode)
                os.chown(USERS, owner, 0)
        done = subprocess.run([RELAYCTL, "password", "-c", CONFIG, USERS, "ann"], input="secret\n", text=True,
                              capture_output=True, timeout=20)
        assert done.returncode == 0, done.stderr
        status = os.stat(USERS)
        needed = mode is None or (owner == 0 and mode != 0o644)
        assert status.st_mode & 0o777 == (0o640 if needed else mode), (mode, oct(status.st_mode))
        assert status.st_gid == (NOBODY.pw_gid if needed else 0)
        os.setegid(NOBODY.pw_gid)
        os.seteuid(NOBODY.pw_uid)
        try:
            assert os.access(FOLDER, os.X_OK) and open(USERS, encoding="ascii").read()
        finally:
            os.seteuid(0)
            os.setegid(0)
        os.unlink(USERS)


os.chmod(FOLDER, 0o755)
sys.exit(run_checks())
