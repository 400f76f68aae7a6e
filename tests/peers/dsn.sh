#!/bin/bash
# The notifications that spool/dsn writes, read by Python's email package. Speaks TAP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${POSTERN_BUILDDIR:-$PWD}/tests/unit/test-dsn" --write "$folder"
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$here/dsn.py" "$folder"
