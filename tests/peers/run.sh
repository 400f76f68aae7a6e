#!/bin/bash
# Real peers against the built relay-in, in a network namespace of our own. Speaks TAP.
# usage: [POSTERN_BUILDDIR=...] [POSTERN_PROGRAM=FILE.py] tests/peers/run.sh [PART-OF-A-NAME...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_BUILDDIR=${POSTERN_BUILDDIR:-$PWD}
unpacked=/var/cache/postern-tests
if [ "${POSTERN_NAMESPACE:-}" != own ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "Bail out! these tests make network namespaces and start mail servers: run them as root"
        exit 1
    fi
    mapfile -t packages < "$here/../packages-unpacked"
    "$here/../install-packages" --unpack "$unpacked" "${packages[@]}" >&2 || exit 1
    POSTERN_NAMESPACE=own exec unshare --net --mount -- "$0" "$@"
fi
# The system as these tests see it: their changes disappear with their namespace. Exim and OpenSMTPD, which
# Debian cannot install next to Postfix, are laid under /usr, together with what their packages would set up.
changes=$(mktemp -d)
mount -t tmpfs tmpfs "$changes"
for folder in /etc /usr /var/lib; do
    layer=$changes/${folder//\//-}
    mkdir "$layer" "$layer.work"
    lower=$folder
    [ $folder != /usr ] || lower=/usr:$unpacked/usr
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layer,workdir=$layer.work" $folder
done
umount --lazy "$changes"
rmdir "$changes"
number=64000
for name in Debian-exim _smtpd _smtpq opensmtpd opensmtpq; do
    number=$((number + 1))
    grep -q "^$name:" /etc/passwd || echo "$name:x:$number:$number::/var/empty:/usr/sbin/nologin" >> /etc/passwd
    grep -q "^$name:" /etc/group || echo "$name:x:$number:" >> /etc/group
done
mount -t tmpfs tmpfs /var/spool
mkdir -m 711 /var/spool/smtpd
mkdir -p /var/lib/opensmtpd/empty /usr/libexec/opensmtpd
# Each program runs its own servers; some have their sockets below /run.
mount -t tmpfs -o mode=755 none /run
ip link set lo up
# Addresses that look public, so that the tests need no settings that an operator would not use.
for address in 198.51.100.7 198.51.100.8 203.0.113.5 10.0.0.1 10.0.0.2 10.0.0.9; do
    ip address add "$address/32" dev lo
done
for address in 2001:db8::7 2001:db8::1 2001:db8::9; do ip address add "$address/128" dev lo nodad; done
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "${POSTERN_PROGRAM:-$here/scenarios.py}" "$@"
