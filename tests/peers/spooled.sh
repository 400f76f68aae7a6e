#!/bin/bash
# relay-out's spool, with Postfix as its client and as the sender's mail server. run.sh sets the stage.
# POSTERN_SPOOL_MESSAGES=10000 measures a large queue.
# usage: [POSTERN_BUILDDIR=...] tests/peers/spooled.sh [PART-OF-A-NAME...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/spooled.py exec "$here/run.sh" "$@"
