#!/bin/bash
# postern-exporter with both daemons. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/exporter.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/exporter.py exec "$here/run.sh" "$@"
