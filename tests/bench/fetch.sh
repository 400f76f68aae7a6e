# Sourced by `peers` and `outbound`: fetches the servers that relay-in and relay-out stand beside.
#
# Packages that do not conflict are installed. OpenSMTPD and Exim, which would remove Postfix, are unpacked into the
# cache, and so is Haraka, from npm. A server that cannot be fetched is left out with a message.
here=$(cd "$(dirname "$0")" && pwd)
export POSTERN_BUILDDIR=${POSTERN_BUILDDIR:-$PWD}
cache=${POSTERN_CACHE:-/var/cache/postern-bench}
haraka=3.3.4 haraka_relay=1.0.2
export POSTERN_PEERS=$cache/root POSTERN_HARAKA=$cache/haraka
mkdir -p "$cache"

# have NAME TEST...: NAME takes part if the test is met
have() {
    local name=$1
    shift
    if "$@"; then servers+=,$name; else echo "# left out: $name" >&2; fi
}

unpack() (
    [ ! -x "$POSTERN_PEERS/usr/sbin/exim4" ] || return 0
    mkdir -p "$cache/debs" && cd "$cache/debs" || return
    apt-get download -qq opensmtpd exim4-daemon-light exim4-base libevent-2.1-7 libgnutls-dane0 \
        libnsl2 libpcre2-8-0 2> /dev/null || return
    for package in *.deb; do dpkg -x "$package" "$POSTERN_PEERS" || return; done
)

fetch_haraka() (
    [ ! -d "$POSTERN_HARAKA/node_modules/haraka-plugin-relay" ] || return 0
    command -v npm > /dev/null && mkdir -p "$POSTERN_HARAKA" && cd "$POSTERN_HARAKA" || return
    # Where its newest parsers of odd encodings cannot be had, older ones do as well.
    echo '{"private":true,"overrides":{"encoding-japanese":"2.2.0","libqp":"^2.1.1"}}' > package.json
    npm install --silent --no-audit --no-fund --ignore-scripts --omit=optional "Haraka@$haraka" \
        "haraka-plugin-relay@$haraka_relay" > /dev/null 2>&1
)
