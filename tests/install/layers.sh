#!/bin/bash
# The order of layers and the absence of circles in src. Speaks TAP.
# usage: [POSTERN_SRCDIR=...] tests/install/layers.sh
here=$(cd "$(dirname "$0")" && pwd)
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 "$here/layers.py" "${POSTERN_SRCDIR:-$here/../..}/src"
