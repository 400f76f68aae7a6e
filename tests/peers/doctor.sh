#!/bin/bash
# relayctl doctor on a healthy bed and with one fault at a time. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] tests/peers/doctor.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/doctor.py exec "$here/run.sh" "$@"
