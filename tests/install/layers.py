"""The order of layers and the absence of circles: which module of src includes which. Speaks TAP.

A module is a name without its ending (smtp/session: session.c, session.h), with its parts (session-data.c,
session-internal.h) where it has any. A header that says "Internal to net/stream" is a part of that module, as is the
source that it names ("with tls-session.c") or that has its name. SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import os
import re
import sys

SRC = sys.argv[1]
# What each folder may include besides itself. Lower layers know nothing of upper ones, and programs nothing of each other.
LAYERS = {
    "base": [],
    "dns": ["base"],
    "net": ["base", "dns"],
    "smtp": ["base", "dns", "net"],
    "config": ["base", "dns", "net", "smtp"],
    "spool": ["base", "dns", "net", "smtp"],
    "server": ["base", "dns", "net", "smtp", "config"],
    "relay-in": ["base", "dns", "net", "smtp", "config", "server"],
    "relay-out": ["base", "dns", "net", "smtp", "config", "spool", "server"],
    "relayctl": ["base", "dns", "net", "smtp", "config", "spool", "server"],
    "exporter": ["base", "dns", "net", "smtp", "config", "server"],
}


def includes():
    for path in sorted(glob.glob(f"{SRC}/*/*.[ch]")):
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                found = re.match(r'#include "([a-z-]+)/([a-z0-9-]+)\.h"', line)
                if found:
                    yield os.path.relpath(path, SRC), number, f"{found[1]}/{found[2]}"


def internal(files):
    """The module that each header names: file without ending -> module."""
    said = {}
    for name in files:
        with open(f"{SRC}/{name}", encoding="utf-8") as file:
            head = re.sub(r"\n \*", "", file.read(3000).split("*/")[0])
        found = re.search(r"Internal to ([a-z-]+/[a-z-]+)((?:, with [a-z-]+\.c)?)", head)
        if name.endswith(".h") and found:
            said[os.path.splitext(name)[0]] = found[1]
            if found[2]:
                said[f"{name.split('/')[0]}/{found[2][7:-2]}"] = found[1]
    return said


def modules(files):
    """File without ending -> module: the one that its header names, or the longest prefix that is a file's name."""
    stems, said = {os.path.splitext(name)[0] for name in files}, internal(files)

    def module(stem):
        parts = stem.split("-")
        for length in range(len(parts), 0, -1):
            shorter = "-".join(parts[:length])
            if shorter in said:
                return said[shorter]
        for length in range(1, len(parts)):
            shorter = "-".join(parts[:length])
            if shorter in stems:
                return shorter
        return stem
    return {stem: module(stem) for stem in stems}


def circles(graph):
    """Strongly connected components of more than one module (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while True:
                part.append(stack.pop())
                on.discard(part[-1])
                if part[-1] == node:
                    break
            if len(part) > 1:
                found.append(sorted(part))
    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def upward_calls(files):
    """Calls against the order that a header gives its module's files. At least one header must give one."""
    wrong, orders = [], 0
    for header in (name for name in files if name.endswith("-internal.h")):
        with open(f"{SRC}/{header}", encoding="utf-8") as file:
            head = file.read().split("*/")[0]
        if "Each file only calls those below it:" not in head:
            continue
        orders += 1
        order = re.findall(r"^ \*   ([a-z-]+\.c) ", head, re.M)
        text, own = {}, {}
        for name in order:
            with open(f"{SRC}/{os.path.dirname(header)}/{name}", encoding="utf-8") as file:
                text[name] = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
            own[name] = re.findall(r"^(?!static)[a-z][^;={}]*?\b(\w+)\([^;{}]*\)\n\{", text[name], re.M)
        for place, name in enumerate(order):
            for upper in order[:place]:
                wrong += [f"src/{os.path.dirname(header)}/{name} calls {function}() of {upper}"
                          for function in own[upper] if re.search(rf"\b{function}\(", text[name])]
    return wrong if orders > 0 else ["no header says: Each file only calls those below it:"]


def main():
    files = [os.path.relpath(p, SRC) for p in glob.glob(f"{SRC}/*/*.[ch]")]
    module_of = modules(files)
    crossed, graph = [], {}
    for path, number, included in includes():
        folder, other = path.split("/")[0], included.split("/")[0]
        if other != folder and other not in LAYERS.get(folder, []):
            crossed.append(f"src/{path}:{number} includes {included}.h")
        source, target = module_of[os.path.splitext(path)[0]], module_of.get(included, included)
        if source != target:
            graph.setdefault(source, set()).add(target)
    unknown = sorted({name.split("/")[0] for name in files} - set(LAYERS))
    results = [("every folder of src has its place in the order", [f"src/{name}" for name in unknown]),
               ("no file includes what is above its layer", crossed),
               ("no circle of modules", [" <-> ".join(part) for part in circles(graph)]),
               ("no file of a module calls one above it", upward_calls(files))]
    print(f"1..{len(results)}")
    for number, (name, wrong) in enumerate(results, 1):
        print(f"{'not ok' if wrong else 'ok'} {number} - layers: {name}")
        for line in wrong:
            print("#", line)
    return 1 if any(wrong for _, wrong in results) else 0


if __name__ == "__main__":
    sys.exit(main())
