#!/bin/bash
# relay-out and domains that publish their TLS policy. run.sh sets the stage. The resolver that Postfix's
# posttls-finger needs is only unpacked, so that it does not run on this machine.
# usage: [POSTERN_BUILDDIR=...] tests/peers/dane.sh [PART-OF-A-NAME...]
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_UNBOUND=/var/cache/postern-tests-unbound
"$here/../install-packages" --unpack "$POSTERN_UNBOUND" unbound >&2 || { echo "Bail out! unbound is missing"; exit 1; }
POSTERN_PROGRAM=$here/dane.py exec "$here/run.sh" "$@"
