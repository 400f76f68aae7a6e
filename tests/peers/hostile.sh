#!/bin/bash
# Hostile clients and backends against the built relay-in. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/hostile.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/hostile.py exec "$here/run.sh" "$@"
