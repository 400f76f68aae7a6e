#!/bin/bash
# Faults of every kind under the built relay-in, see faults.py; peers/run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] [FAULT_SAMPLES=60] tests/fault/run.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/faults.py exec "$here/../peers/run.sh" "$@"
