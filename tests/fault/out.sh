#!/bin/bash
# Faults under relay-out, like run.sh for relay-in. POSTERN_SIDE=out: mail is passed on at once; spool: it is stored
# first. Without POSTERN_SIDE and a name, the quick part of both runs.
# usage: [POSTERN_BUILDDIR=...] [POSTERN_SIDE=out|spool] [FAULT_SAMPLES=40] tests/fault/out.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${POSTERN_SIDE:-}" ] && [ $# = 0 ]; then
    export FAULT_SAMPLES=${FAULT_SAMPLES:-4}
    set -- "out, system calls" "out, backend: closes" "out, SIGHUP storm" "spool, system calls: each on the spool"
fi
POSTERN_SIDE=${POSTERN_SIDE:-out spool} exec "$here/run.sh" "$@"
