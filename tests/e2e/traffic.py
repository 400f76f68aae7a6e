"""Senders that deliver message after message over connections of their own, and count what happens.

usage: traffic.py ADDRESS PORT SOURCE STOP-FILE REPORT [MAXIMUM-SECONDS [RETRIES [SENDERS [FIRST-NUMBER
                  [RECIPIENT]]]]]

Until STOP-FILE exists (or the time is over) the senders (two) open a connection, use STARTTLS, send one message
with a number of its own in the Subject, and quit. A sender that is told to come back later does so, up to
RETRIES times a message. REPORT is JSON: delivered (numbers), deferred (4xx answers and lost connections),
refused (connections), failed (5xx), certificates (SHA-256, in order of their appearance).
SPDX-License-Identifier: GPL-3.0-or-later
"""
import hashlib
import json
import os
import smtplib
import ssl
import sys
import threading
import time

ADDRESS, PORT, SOURCE, STOP, REPORT = sys.argv[1:6]
END = time.monotonic() + float((sys.argv[6:7] or [60])[0])
RETRIES = int((sys.argv[7:8] or [0])[0])
SENDERS = int((sys.argv[8:9] or [2])[0])
FIRST = int((sys.argv[9:10] or [1])[0])
RECIPIENT = (sys.argv[10:11] or ["b@example.com"])[0]
PAUSE, LATER = 0.02, 0.5
PATIENCE = 120  # a real sender waits for minutes (RFC 5321 4.5.3.2)
report = {"delivered": [], "deferred": [], "refused": 0, "failed": [], "certificates": []}
lock = threading.Lock()
numbers = iter(range(FIRST, FIRST + 1000000))


def note(key, value):
    with lock:
        if key == "refused":
            report[key] += 1
        elif key != "certificates" or value not in report[key]:
            report[key].append(value)


def send(number):
    """True when the message was taken."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with smtplib.SMTP(ADDRESS, int(PORT), "sender.example", timeout=PATIENCE, source_address=(SOURCE, 0)) as client:
            client.starttls(context=context)
            note("certificates", hashlib.sha256(client.sock.getpeercert(True)).hexdigest())
            client.sendmail("a@sender.example", [RECIPIENT],
                            f"Subject: number {number}\r\nFrom: <a@sender.example>\r\n\r\n{'x' * 2000}\r\n")
        note("delivered", number)
        return True
    except ConnectionRefusedError:
        note("refused", 1)
    except smtplib.SMTPResponseException as problem:
        note("deferred" if 400 <= problem.smtp_code < 500 else "failed", f"{number}: {problem}")
    except smtplib.SMTPRecipientsRefused as problem:
        code = next(iter(problem.recipients.values()))[0]
        note("deferred" if 400 <= code < 500 else "failed", f"{number}: {problem}")
    except (OSError, smtplib.SMTPException) as problem:
        # Lost after the final dot or before: the sender cannot know, and would come back.
        note("deferred", f"{number}: {problem!r}")
    return False


def sender():
    while time.monotonic() < END and not os.path.exists(STOP):
        with lock:
            number = next(numbers)
        for _ in range(RETRIES + 1):
            if send(number) or time.monotonic() > END:
                break
            time.sleep(LATER if RETRIES else 0)
        time.sleep(PAUSE)


threads = [threading.Thread(target=sender) for _ in range(SENDERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with open(REPORT, "w", encoding="utf-8") as file:
    json.dump(report, file)
