#!/bin/bash
# Forty misconfigurations, and the command that names each. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/forty.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/forty.py exec "$here/run.sh" "$@"
