#!/bin/bash
# Mixed traffic for a set time while everything around relay-in is bounced, see soak.py.
# usage: [POSTERN_BUILDDIR=...] [SOAK_SECONDS=600] tests/soak/run.sh
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/soak.py exec "$here/../peers/run.sh" "$@"
