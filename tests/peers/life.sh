#!/bin/bash
# The life of the daemons: start, reload, shutdown; as run.sh, which sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/life.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/life.py exec "$here/run.sh" "$@"
