#!/bin/bash
# Forty misconfigurations, and what names each; as run.sh, which sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/forty.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/forty.py exec "$here/run.sh" "$@"
