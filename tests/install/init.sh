#!/bin/bash
# relayctl init: what it writes passes relayctl check, for every kind of mail server and direction. Speaks TAP.
# usage: [POSTERN_BUILDDIR=...] tests/install/init.sh
# shellcheck disable=SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/../tap.sh"
relayctl=${POSTERN_BUILDDIR:-$PWD}/relayctl
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
conf=$scratch/relay.conf
export LC_ALL=C
given=(--hostname mail.example.com --domain example.com,example.org)

init() { "$relayctl" init --config "$conf" "$@" < /dev/null > "$scratch/out" 2>&1; }
fresh() { rm -f "$conf" "$conf".*; init "$@"; }
checks() { "$relayctl" check --config "$conf" > "$scratch/check" 2>&1 || { cat "$conf" "$scratch/check"; return 1; }; }
has() { local text; for text in "$@"; do grep -qF -- "$text" "$scratch/out" || { echo "no '$text'"; cat "$scratch/out"; return 1; }; done; }
lacks() { ! has "$1" > /dev/null; }

for kind in mailcow mailu docker-mailserver stalwart postfix exim other; do
    for direction in in out both; do
        written() {
            fresh --kind $kind --direction $direction "${given[@]}" && checks && has 10.0.0.1 || return 1
            case $direction in
            in) ! grep -q '^out' "$conf" && has 'MX 10 mail.example.com.' && lacks 'dport 2526' ;;
            out) ! grep -q '^in' "$conf" && lacks 'MX 10' && has 'dport 2526' 'v=spf1' ;;
            both) grep -q '^in' "$conf" && grep -q '^out' "$conf" && has 'dport 25 ' 'dport 2526' ;;
            esac
        }
        check "$kind, $direction: the file is valid, the lines are those of the direction" written
    done
done

mailcow() {
    fresh "${given[@]}" --address4 203.0.113.10 --address6 2001:db8::10 &&
        has 'smtpd_authorized_xclient_hosts = 10.0.0.1' '10.0.0.1/32 permit' 'relayhost = [10.0.0.1]:2526' \
            'mail.example.com. A 203.0.113.10' 'mail.example.com. AAAA 2001:db8::10' \
            'example.org. TXT "v=spf1 mx -all"' 'Endpoint = 203.0.113.10:51820'
}
check "mailcow is the default; the lines name the addresses" mailcow

elsewhere() {
    fresh "${given[@]}" --kind exim --tunnel fd00::1 --backend '[fd00::2]:2525' && checks &&
        grep -qF 'hosts = [ "[fd00::2]:2525" ]' "$conf" && grep -qF 'allow = [ "fd00::2" ]' "$conf" &&
        grep -qF 'listen = [ "[fd00::1]:2526" ]' "$conf" && has 'ip6 saddr fd00::2' 'AllowedIPs = fd00::2/128'
}
check "addresses and ports of one's own, IPv6" elsewhere

idn() { LC_ALL=C.UTF-8 fresh --hostname mail.bücher.example --domain bücher.example && checks && has 'xn--bcher-kva.example. MX 10'; }
check "names that are not ASCII, in file and zone" idn

again() { fresh "${given[@]}" && init "${given[@]}" && [ ! -e "$conf.before" ]; }
check "the same once more changes nothing" again
other() { fresh "${given[@]}" && cp "$conf" "$scratch/kept" && ! init "${given[@]}" --kind exim && cmp "$conf" "$scratch/kept" && has '--force'; }
check "another file is not replaced" other
example() { rm -f "$conf"*; cp "$here/../../data/relay.conf" "$conf" && init "${given[@]}" && checks && grep -q 'example.org' "$conf" && [ ! -e "$conf.before" ]; }
check "the example as it is installed gives way" example
edited() { sed 's/mail.example.com/mx.example.com/' "$here/../../data/relay.conf" > "$conf" && ! init "${given[@]}" && has '--force'; }
check "the example with a change does not" edited
force() { other && init "${given[@]}" --kind exim --force && cmp "$conf.before" "$scratch/kept" && grep -q proxy-v2 "$conf"; }
check "with --force it is kept as .before" force
prints() { rm -f "$conf"; init "${given[@]}" --print && has 'hostname = "mail.example.com";' && [ ! -e "$conf" ]; }
check "--print writes nothing" prints
missing() { ! fresh && has '--hostname is missing' '--domain is missing' && [ ! -e "$conf" ]; }
check "without a terminal what is missing is named, all of it" missing
wrong() { ! fresh --hostname mail --domain example.com --backend nowhere --kind mutt && has '--hostname' '--backend' '"mutt" is not mailcow, mailu'; }
check "wrong values are named, all of them" wrong
asks() {
    rm -f "$conf"
    printf '\nmail.example.com\nnodot\nexample.com\n\n\n\n' |
        script -qec "'$relayctl' init --config '$conf'" /dev/null > "$scratch/out" && checks && has 'not a domain like example.com'
}
check "on a terminal it asks, and asks again after a wrong answer" asks
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mail.example.com \
        -keyout "$scratch/key" -out "$scratch/cert" 2> /dev/null &&
        fresh "${given[@]}" --certificate "$scratch/cert" --key "$scratch/key" && checks && grep -q '^tls = {' "$conf" && lacks uncomment &&
        fresh "${given[@]}" --certificate "$scratch/none" && grep -q '^// tls = {' "$conf" &&
        has "Once it is in $scratch/none, uncomment the lines of tls in $conf"
}
check "a certificate that is there is used, and of one that is not yet it says what to do" certificate
odd_path() {
    cp "$scratch/key" "$scratch/a\"b\\key" && cp "$scratch/cert" "$scratch/a\"b\\cert" &&
        fresh "${given[@]}" --certificate "$scratch/a\"b\\cert" --key "$scratch/a\"b\\key" && checks && grep -q '^tls = {' "$conf"
}
check "quotation marks and backslashes in a path stay within its quotes" odd_path
absent() { rm -f "$conf"; ! "$relayctl" check --config "$conf" > "$scratch/out" 2>&1 && has "$conf: cannot be read: No such file or directory; relayctl init writes the first one"; }
check "without a file, check points to init" absent
usage() {
    ! "$relayctl" check --nope > "$scratch/out" 2>&1 && has "relayctl check: unrecognized option" 'see relayctl check --help' &&
        ! "$relayctl" route > "$scratch/out" 2>&1 && [ "$(grep -c -- --help "$scratch/out")" = 1 ]
}
check "a wrong command line is told on behalf of relayctl, and --help named once" usage
finish
