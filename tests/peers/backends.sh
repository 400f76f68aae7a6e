#!/bin/bash
# What stands behind relay-in: backends of every kind, what they offer and what they answer; as run.sh,
# which sets the stage. usage: [POSTERN_BUILDDIR=...] tests/peers/backends.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/backends.py exec "$here/run.sh" "$@"
