#!/bin/bash
# Gives Postfix and both relays the same envelopes, greetings, messages and next hops. run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] [BESIDE_SEED=N] [BESIDE_CASES=N] tests/peers/beside-postfix.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/beside_postfix.py exec "$here/run.sh" "$@"
