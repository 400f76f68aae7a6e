#!/bin/bash
# The names in README.md, HACKING.md and the other texts are those of things that exist. Speaks TAP.
# usage: [POSTERN_SRCDIR=...] [POSTERN_BUILDDIR=...] tests/install/names.sh
here=$(cd "$(dirname "$0")" && pwd)
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 "$here/names.py" "${POSTERN_SRCDIR:-$here/../..}" "${POSTERN_BUILDDIR:-$PWD}"
