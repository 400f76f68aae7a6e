#!/bin/bash
# relayctl queue on a spool that is written by hand, as postern-spool(5) describes it. Speaks TAP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$here/queue.py" "${POSTERN_BUILDDIR:-$PWD}/relayctl" "$folder"
