#!/bin/bash
# The gatekeeper: load balancers, lists, limits, slow clients. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/gatekeeper.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/gatekeeper.py exec "$here/run.sh" "$@"
