#!/bin/bash
# relay-out and a small internet; as run.sh, which sets the stage. Exim and OpenSMTPD, which no Debian
# has beside Postfix, are unpacked elsewhere and laid over /usr, for these tests only.
# usage: [POSTERN_BUILDDIR=...] tests/peers/outbound.sh [PART-OF-A-NAME...]
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
mount -t overlay overlay -o "lowerdir=/usr:$unpacked/usr" /usr
# The users that they become.
users=$(mktemp -d)
trap 'rm -rf "$users"' EXIT
cp /etc/passwd /etc/group "$users"
for name in Debian-exim _smtpd _smtpq opensmtpd opensmtpq; do
    grep -q "^$name:" "$users/passwd" ||
        echo "$name:x:$((64000 + $(wc -l < "$users/passwd"))):65534::/var/empty:/usr/sbin/nologin" >> "$users/passwd"
    grep -q "^$name:" "$users/group" ||
        echo "$name:x:$((64000 + $(wc -l < "$users/group"))):" >> "$users/group"
done
mount --bind "$users/passwd" /etc/passwd
mount --bind "$users/group" /etc/group
mount -t tmpfs tmpfs /var/spool
mkdir -p /var/spool/smtpd
chmod 711 /var/spool/smtpd
POSTERN_PROGRAM=$here/outbound.py "$here/run.sh" "$@"
