"""Clients of several kinds in front of a real relay-in; prints its log as syslog would show it.

usage: offenders.py BUILD SCRATCH, in a network namespace of its own
SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import socket
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../peers"))
from waits import read, wait_for  # noqa: E402

BUILD, SCRATCH = sys.argv[1:3]
ADDRESSES = {"relaying": "198.51.100.1", "guessing": "198.51.100.2", "early": "198.51.100.3",
             "erring": "2001:db8::4", "deferred": "198.51.100.5", "good": "198.51.100.6"}
PORT = 2025


def talk(who, lines, early=False):
    address = ADDRESSES[who]
    target = "::1" if ":" in address else "127.0.0.1"
    with socket.create_connection((target, PORT), timeout=15, source_address=(address, 0)) as client:
        replies = client.makefile("rb")
        for line in ([] if early else [None]) + lines:
            # A refused client may find the connection reset.
            try:
                if line is not None:
                    client.sendall(line.encode() + b"\r\n")
                while True:
                    reply = replies.readline()
                    if reply[3:4] != b"-":
                        break
            except ConnectionError:
                return
            if not reply:
                return


def start():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES.values():
        more = ["128", "nodad"] if ":" in address else ["32"]
        subprocess.run(["ip", "address", "add", f"{address}/{more[0]}", "dev", "lo", *more[1:]], check=True)
    os.chmod(SCRATCH, 0o755)
    sink = subprocess.Popen([f"{BUILD}/relayctl", "sink", "--listen", "127.0.0.1:0", "--ready-file", f"{SCRATCH}/sink",
                             "--json", "--reply", "rcpt:nobody@example.com=550 5.1.1 <nobody@example.com>: unknown",
                             "--reply", "rcpt:later@example.com=450 4.2.0 Greylisted",
                             "--reply", "rcpt:busy@example.com=421 4.7.0 Error: too many connections",
                             "--reply", "rcpt:step@example.com=554 5.5.0 Error: synchronization",
                             "--reply", "rcpt:full@example.com=552 5.2.2 Mailbox full"], stdout=subprocess.DEVNULL)
    wait_for("the sink", lambda: ":" in read(f"{SCRATCH}/sink"))
    with open(f"{SCRATCH}/relay.conf", "w", encoding="utf-8") as file:
        file.write(f"""hostname = "relay.example"; user = "nobody";
in = {{ listen = [ "[::]:{PORT}" ]; domains = [ "example.com" ]; greet_delay = "200ms";
  backend = {{ hosts = [ "{read(f'{SCRATCH}/sink').split()[0]}" ]; identity = "xclient"; }};
  limits = {{ errors = 2; }}; }};""")
    with open(f"{SCRATCH}/stderr", "wb") as log:
        relay = subprocess.Popen([f"{BUILD}/relay-in", "-c", f"{SCRATCH}/relay.conf"], stderr=log)
    wait_for("relay-in", lambda: "event=start" in read(f"{SCRATCH}/stderr") or relay.poll() is not None)
    return sink, relay


def main():
    processes = start()
    hello = ["EHLO client.example", "MAIL FROM:<a@sender.example>"]
    try:
        talk("relaying", hello + ["RCPT TO:<x@elsewhere.example>", "QUIT"])
        talk("guessing", hello + ["RCPT TO:<nobody@example.com>", "QUIT"])
        talk("guessing", hello + ["RCPT TO:<nobody@example.com>", "QUIT"])
        talk("early", ["EHLO early.example", "QUIT"], early=True)
        talk("erring", ["EHLO erring.example", "FIRST", "SECOND", "THIRD", "FOURTH"])
        talk("deferred", hello + ["RCPT TO:<later@example.com>", "RCPT TO:<full@example.com>", "QUIT"])
        talk("deferred", hello + ["RCPT TO:<busy@example.com>"])
        talk("deferred", hello + ["RCPT TO:<step@example.com>", "QUIT"])
        talk("good", hello + ["RCPT TO:<b@example.com>", "DATA", "Subject: hello\r\n\r\nhello\r\n.", "QUIT"])
        wait_for("the message", lambda: "status=delivered" in read(f"{SCRATCH}/stderr"))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)
    for line in read(f"{SCRATCH}/stderr").splitlines():
        print(time.strftime("%b %d %H:%M:%S"), f"vps relay-in[{processes[1].pid}]: {line}")


main()
