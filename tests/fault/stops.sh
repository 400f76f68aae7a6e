#!/bin/bash
# Starts and ends daemons under load, see stops.py; peers/run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] [POSTERN_STOPS=12] [POSTERN_SIDE="in out spool"] tests/fault/stops.sh
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_SIDE=${POSTERN_SIDE:-in out} POSTERN_PROGRAM=$here/stops.py exec "$here/../peers/run.sh" "$@"
