#!/bin/bash
# Runs one of the programs here in a network and mount namespace of its own, as root.
# usage: [POSTERN_BUILDDIR=...] tests/bench/run.sh PROGRAM.py [OPTION...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_BUILDDIR=${POSTERN_BUILDDIR:-$PWD}
if [ "${POSTERN_NAMESPACE:-}" != own ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "the benchmark makes namespaces and pins processes: run it as root" >&2
        exit 1
    fi
    POSTERN_NAMESPACE=own exec unshare --net --mount -- "$here/run.sh" "$@"
fi
ip link set lo up
for address in 198.51.100.{7..16} 203.0.113.5 10.0.0.1 10.0.0.2; do
    ip address add "$address/32" dev lo
done
ulimit -n "$(ulimit -H -n)"
export PYTHONDONTWRITEBYTECODE=1
program=$1
shift
exec /usr/bin/python3 "$here/$program" "$@"
