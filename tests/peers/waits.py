"""What all tests wait by. SPDX-License-Identifier: GPL-3.0-or-later"""
import socket
import time


def wait_for(what, condition, seconds=20):
    """Its first value that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def can_connect(host, port, source=None):
    try:
        socket.create_connection((host, port), 1, source_address=source and (source, 0)).close()
        return True
    except OSError:
        return False


def read(path):
    """What is in a file, or in one of /proc; nothing if it is gone."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
