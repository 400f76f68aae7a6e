"""The test's side of interpose.c. SPDX-License-Identifier: GPL-3.0-or-later"""
import mmap
import os
import struct

CALLS = ("recv", "send", "sendmsg", "writev", "poll", "epoll_wait", "epoll_add", "epoll_ctl", "accept", "socket",
         "connect", "open", "malloc", "write", "fsync", "rename", "openat", "unlink")
SHORT = 0
WANTED, FIRST, TIMES, ERROR, HITS, CLOCK = range(6)
MONOTONIC = 6 + len(CALLS)


class Page:
    def __init__(self, path):
        with open(path, "wb") as file:
            file.write(bytes(8 * (7 + len(CALLS))))
        os.chmod(path, 0o666)
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.path = path

    def set(self, slot, value):
        struct.pack_into("=q", self.memory, 8 * slot, value)

    def get(self, slot):
        return struct.unpack_from("=q", self.memory, 8 * slot)[0]

    def arm(self, call, first, error, times=1):
        """From now on `times` such calls fail with `error`, beginning with the `first`."""
        number = CALLS.index(call)
        self.set(WANTED, 0)
        self.set(6 + number, 0)
        self.set(HITS, 0)
        self.set(FIRST, first)
        self.set(TIMES, times)
        self.set(ERROR, error)
        self.set(WANTED, number + 1)

    def disarm(self):
        """Returns how often the fault has struck."""
        self.set(WANTED, 0)
        return self.get(HITS)

    def calls(self, call):
        return self.get(6 + CALLS.index(call))

    def move_clock(self, seconds):
        self.set(CLOCK, seconds)

    def age(self, seconds):
        """Advances the monotonic clock, which nothing else moves."""
        self.set(MONOTONIC, seconds)

    def environment(self):
        library = os.environ["POSTERN_BUILDDIR"] + "/tests/fault/interpose.so"
        assert os.path.exists(library), f"{library} is not built"
        return {"LD_PRELOAD": library, "POSTERN_FAULT_PAGE": self.path,
                "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
