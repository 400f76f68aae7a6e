#!/bin/bash
# relayctl password at a terminal, and the files it writes. Speaks TAP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$here/password.py" "${POSTERN_BUILDDIR:-$PWD}/relayctl" "$folder"
