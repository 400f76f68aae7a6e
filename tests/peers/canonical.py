"""What mail data must become, by the rules. SPDX-License-Identifier: GPL-3.0-or-later"""
import re


def canonical(data):
    """The form in which mail data must leave by the protocol notes: (octets, consumed), or (octets, None) without
    an end. Written from the rules, not from the scanner: it goes line by line."""
    out, at, strict = [], 0, True
    while True:
        lf = data.find(b"\n", at)
        if lf < 0:
            return b"".join(out), None
        crlf = lf > at and data[lf - 1:lf] == b"\r"
        line = data[at:lf - 1 if crlf else lf]
        at = lf + 1
        if line == b"." and crlf and strict:
            return b"".join(out), at
        if line == b".":
            line = b".."  # a false end
        out.append(line.replace(b"\r", b" ").replace(b"\0", b" ") + b"\r\n")
        strict = crlf


def canonical_chunks(data, chunked):
    """The same for BDAT: no dot is special, and a backend that gets DATA gets them stuffed."""
    out = re.sub(rb"\r\n|\r|\n|\0", lambda m: b"\r\n" if m[0] in (b"\r\n", b"\n") else b" ", data)
    if chunked:
        return out
    if out and not out.endswith(b"\r\n"):
        out += b"\r\n"
    return re.sub(rb"(\A|\n)\.", rb"\1..", out)
