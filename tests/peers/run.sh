#!/bin/bash
# Real peers against the built relay-in, in a network namespace of our own. Speaks TAP.
# usage: [POSTERN_BUILDDIR=...] [POSTERN_PROGRAM=FILE.py] tests/peers/run.sh [PART-OF-A-NAME...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_BUILDDIR=${POSTERN_BUILDDIR:-$PWD}
if [ "${POSTERN_NAMESPACE:-}" != own ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "Bail out! these tests make network namespaces and start Postfix: run them as root"
        exit 1
    fi
    POSTERN_NAMESPACE=own exec unshare --net --mount -- "$0" "$@"
fi
# Each runs its own servers; some have their sockets below /run.
mount -t tmpfs -o mode=755 none /run
ip link set lo up
# Addresses that look public, so that nothing has to be allowed that an operator would not allow.
for address in 198.51.100.7 198.51.100.8 203.0.113.5 10.0.0.1 10.0.0.2 10.0.0.9; do
    ip address add "$address/32" dev lo
done
for address in 2001:db8::7 2001:db8::1 2001:db8::9; do ip address add "$address/128" dev lo nodad; done
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "${POSTERN_PROGRAM:-$here/scenarios.py}" "$@"
