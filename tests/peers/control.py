"""Asks a daemon's control socket for its numbers. SPDX-License-Identifier: GPL-3.0-or-later"""
import os
import re
import shutil
import socket


def control_folder(world):
    folder = f"{world.bed.dir}/run"
    os.makedirs(folder, exist_ok=True)
    shutil.chown(folder, "nobody", "nogroup")
    return folder


def stats(folder, program="relay-in"):
    """The answer to "stats": lines by word, samples, today's counts."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{folder}/{program}.socket")
        sock.sendall(b"stats\n")
        lines = sock.makefile().read().splitlines()
    assert lines[0].strip() == "ok" and lines[-1] == "end", lines
    samples, today, rest = {}, {}, []
    for line in lines[1:-1]:
        word, _, text = line.partition(" ")
        if word in ("sample", "today"):
            name, _, value = text.rpartition(" ")
            (samples if word == "sample" else today)[name] = float(value)
        else:
            rest.append(line)
    metrics = {line.split(" ")[1] for line in rest if line.startswith("metric ")}
    for name in samples:
        bare = re.sub(r"\{.*", "", name)
        assert bare in metrics or re.sub(r"_(bucket|sum|count)$", "", bare) in metrics, name
    return samples, today, rest
