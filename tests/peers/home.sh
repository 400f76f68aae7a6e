#!/bin/bash
# One or two VPSes in their own namespaces and one home behind them, as in the README. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/home.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/home.py exec "$here/run.sh" "$@"
