"""Forwards UDP datagrams both ways and keeps each for a while: a long path.

usage: delay.py LISTEN:PORT TARGET:PORT MILLISECONDS
SPDX-License-Identifier: GPL-3.0-or-later
"""
import heapq
import itertools
import select
import socket
import sys
import time


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def forward(near, far, target, delay):
    waiting, order, peer = [], itertools.count(), None
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for ready in select.select([near, far], [], [], left)[0]:
            try:
                datagram, source = ready.recvfrom(65535)
            except OSError:
                continue  # an unreachable path says so; datagrams are lost without a word
            if ready is near:
                peer = source
            heapq.heappush(waiting, (time.monotonic() + delay, next(order), ready is near, datagram))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, outward, datagram = heapq.heappop(waiting)
            try:
                if outward:
                    far.sendto(datagram, target)
                elif peer is not None:
                    near.sendto(datagram, peer)
            except OSError:
                pass


def main():
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.bind(endpoint(sys.argv[1]))
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("0.0.0.0", 0))
    forward(near, far, endpoint(sys.argv[2]), float(sys.argv[3]) / 1000)


main()
