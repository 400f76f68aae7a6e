#!/bin/bash
# relay-out and a small internet. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/outbound.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/outbound.py exec "$here/run.sh" "$@"
