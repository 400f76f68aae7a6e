#!/bin/bash
# The life cycle of the daemons: start, reload, shutdown. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/life.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/life.py exec "$here/run.sh" "$@"
