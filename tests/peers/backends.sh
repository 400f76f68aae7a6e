#!/bin/bash
# Backends of every kind behind relay-in: what they offer and how they reply. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/backends.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/backends.py exec "$here/run.sh" "$@"
