#!/bin/bash
# postern-exporter beside both daemons; as run.sh, which sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/exporter.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/exporter.py exec "$here/run.sh" "$@"
