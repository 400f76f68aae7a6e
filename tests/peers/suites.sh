#!/bin/bash
# Other projects' suites against the built relay-in. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/suites.sh [PART-OF-A-NAME...]      (without: the quick ones)
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- nmap swaks sslscan
POSTERN_PROGRAM=$here/suites.py exec "$here/run.sh" "$@"
