"""Judges what traffic.py reported against the messages that arrived.

usage: report.py REPORT FOLDER EXPRESSION

FOLDER is searched for messages. EXPRESSION is Python over: r (the report), m (a Counter of the numbers that
arrived), lost (acknowledged, not there), doubled. Exit status 1 when it is false.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import collections
import json
import os
import re
import sys


def numbers(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), encoding="utf-8", errors="replace") as file:
                found = re.search(r"^Subject: number (\d+)", file.read(), re.MULTILINE)
            if found:
                yield int(found[1])


with open(sys.argv[1], encoding="utf-8") as report:
    r = json.load(report)
m = collections.Counter(numbers(sys.argv[2]))
lost = sorted(set(r["delivered"]) - set(m))
doubled = [number for number in m if m[number] > 1]
print(f"delivered {len(r['delivered'])}, arrived {sum(m.values())}, lost {lost}, doubled {doubled}, "
      f"connections refused {r['refused']}, deferred {len(r['deferred'])}, failed {r['failed']}")
for text in sorted({re.sub(r"^\d+: ", "", text) for text in r["deferred"]}):
    print(f"deferred by: {text}")
sys.exit(not eval(sys.argv[3]))
