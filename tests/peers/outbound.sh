#!/bin/bash
# relay-out and a small internet; as run.sh, which sets the stage. Exim and OpenSMTPD, which no Debian
# has beside Postfix, are unpacked into the build folder and laid over /usr, for these tests only.
# usage: [POSTERN_BUILDDIR=...] tests/peers/outbound.sh [PART-OF-A-NAME...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_BUILDDIR=${POSTERN_BUILDDIR:-$PWD}
unpacked=$POSTERN_BUILDDIR/tests/unpacked
if [ "${POSTERN_NAMESPACE:-}" != own ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "Bail out! these tests make network namespaces and start mail servers: run them as root"
        exit 1
    fi
    "$here/unpack" "$unpacked" exim4-daemon-light opensmtpd || exit 1
    POSTERN_NAMESPACE=own exec unshare --net --mount -- "$0" "$@"
fi
mount -t overlay overlay -o "lowerdir=/usr:$unpacked/usr" /usr
# The users that they become.
cp /etc/passwd "$unpacked/passwd"
for user in Debian-exim _smtpd _smtpq opensmtpd opensmtpq; do
    grep -q "^$user:" "$unpacked/passwd" ||
        echo "$user:x:$((64000 + $(wc -l < "$unpacked/passwd"))):65534::/var/empty:/usr/sbin/nologin" >> "$unpacked/passwd"
done
cp /etc/group "$unpacked/group"
for group in Debian-exim _smtpd _smtpq opensmtpd opensmtpq; do
    grep -q "^$group:" "$unpacked/group" ||
        echo "$group:x:$((64000 + $(wc -l < "$unpacked/group"))):" >> "$unpacked/group"
done
mount --bind "$unpacked/passwd" /etc/passwd
mount --bind "$unpacked/group" /etc/group
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool
mkdir -p /var/spool/smtpd
chmod 711 /var/spool/smtpd
POSTERN_PROGRAM=$here/outbound.py exec "$here/run.sh" "$@"
