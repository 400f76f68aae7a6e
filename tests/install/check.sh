#!/bin/bash
# relayctl check: all errors in one run, as the daemon's user, and valid settings that are hardly meant. Speaks TAP.
# usage: [POSTERN_BUILDDIR=...] tests/install/check.sh
# shellcheck disable=SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/../tap.sh"
relayctl=${POSTERN_BUILDDIR:-$PWD}/relayctl
# In a folder that every user may enter, like /etc.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/postern-check.XXXXXX")
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
conf=$scratch/relay.conf
export LC_ALL=C

write() { cat > "$conf"; }
# checks STATUS [TEXT...]: it ends with that status and prints each text
checks() {
    local wanted=$1 got=0 text
    shift
    "$relayctl" check --config "$conf" > "$scratch/out" 2>&1 || got=$?
    [ $got = "$wanted" ] || { echo "status $got, not $wanted"; cat "$scratch/out"; return 1; }
    for text in "$@"; do
        grep -qE -- "$text" "$scratch/out" || { echo "nothing like '$text'"; cat "$scratch/out"; return 1; }
    done
}
silent_about() { ! grep -qE -- "$1" "$scratch/out" || { cat "$scratch/out"; return 1; }; }
certificate() { # certificate NAME SUBJECT [OPTION...]
    local name=$1 subject=$2
    shift 2
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$subject" \
        -addext "subjectAltName=DNS:$subject" -keyout "$scratch/$name.key" -out "$scratch/$name.pem" "$@" 2> /dev/null
    chmod 644 "$scratch/$name.key"
}
# good [IN [OUT [TLS [HOSTNAME]]]]: a valid file, with additions to its groups
tls='tls = { certificates = ( { cert = "good.pem"; key = "good.key"; } ); };'
good() {
    write << END
hostname = "${4-mail.example.com}"; user = "nobody"; control = "";
${3-$tls}
in = { listen = [ "127.0.0.1:2525" ]; domains = [ "example.com" ]; ${1-}
  backend = { hosts = [ "10.0.0.2:25" ]; identity = "xclient"; }; };
out = { listen = [ "127.0.0.1:2526" ]; allow = [ "10.0.0.2" ]; spool = ""; ${2-} };
END
}
certificate good mail.example.com -days 90

sound() { good && checks 0 && silent_about 'relay.conf.*:.*:' ; }
check "nothing is said of a sound file" sound

all() {
    write << 'END'
hostname = "mail.example.com"; user = "nobody";
tls = { certificates = ( { cert = "nowhere.pem"; } ); priority = "NORMAL:+NONSENSE"; };
in = { listen = [ "[::]:99999" ]; domains = [ "a b" ]; workers = 0; spelt = 1;
  backend = "10.0.0.2"; };
out = { listen = [ "127.0.0.1:2526" ]; allow = [ "0.0.0.0/0" ]; default_route = 3;
  routes = ( { domain = [ "x.example" ]; user = "me"; } ); };
END
    checks 78 'conf:2: tls.certificates\[0\].cert' 'conf:2: tls.priority: .*NONSENSE' 'conf:3: in.listen' \
        'conf:3: in.domains' 'conf:3: in.workers' 'conf:3: in.spelt' 'conf:4: in.backend' 'conf:5: out.allow' \
        'conf:5: out.default_route' 'out.routes\[0\]: .*next_hop' 'out.routes\[0\]: .*password_file' &&
        silent_about 'VERS-TLS' && [ "$(grep -c 'in.backend:' "$scratch/out")" = 1 ] && silent_about 'no domain to take'
}
check "one run names every error, with file, line and option, and none of what follows from another" all

both_certificates() {
    certificate other mail.example.com
    echo nonsense > "$scratch/bad.pem"
    good "" "" 'tls = { certificates = ( { cert = "good.pem"; key = "other.key"; }, { cert = "bad.pem"; key = "good.key"; } ); };'
    checks 78 'conf:2: tls.certificates\[0\]: .*good' 'conf:2: tls.certificates\[1\]: .*bad'
}
check "each certificate that does not work is named, with its place" both_certificates

user_cannot() {
    good "" "" 'tls = { certificates = ( { cert = "good.pem"; key = "closed.key"; } ); };'
    cp "$scratch/good.key" "$scratch/closed.key" && chmod 600 "$scratch/closed.key" &&
        checks 78 'as user nobody: .*closed.key.*Permission denied'
}
conf_closed() { good && chmod 600 "$conf" && checks 78 'as user nobody: .*relay.conf'; local r=$?; chmod 644 "$conf"; return $r; }
list_closed() {
    good 'domains_file = "domains";' && echo example.org > "$scratch/domains" && chmod 600 "$scratch/domains" &&
        checks 78 'as user nobody: .*in.domains_file.*domains'
}
spool_of_root() { mkdir -p "$scratch/spool" && good "" "spool_reserve = 0;" && sed -i "s,spool = \"\",spool = \"$scratch/spool\"," "$conf" && checks 78 'out.spool: nobody cannot write' 'chown'; }
no_user() { good && sed -i 's/user = "nobody"/user = "nosuchuser"/' "$conf" && checks 0 'there is no user "nosuchuser"'; }
if [ "$(id -u)" = 0 ]; then
    check "a key that only root can read" user_cannot
    check "a relay.conf that only root can read" conf_closed
    check "a list that only root can read" list_closed
    check "a spool that is root's" spool_of_root
    check "a user who is not there yet is only named" no_user
else
    echo "Bail out! these tests need root: they look with the eyes of another user"
    exit 1
fi

old() { certificate old mail.example.com -days 3 && good "" "" 'tls = { certificates = ( { cert = "old.pem"; key = "old.key"; } ); };' && checks 0 'conf:2: tls.certificates\[0\]: .*old.pem expires on'; }
check "a certificate that ends soon" old
other_name() { certificate name other.example -days 90 && good "" "" 'tls = { certificates = ( { cert = "name.pem"; key = "name.key"; } ); };' && checks 0 'tls.certificates: no certificate is for mail.example.com'; }
check "a certificate for another name" other_name
plain() { good "" "" "" && checks 0 'tls.certificates: there is none'; }
check "no certificate" plain
word() { good "" "" "$tls" vps && checks 0 'hostname: "vps" is a single word'; }
check "a hostname of one word" word
nobody_told() { good && sed -i 's/identity = "xclient"/identity = "none"/' "$conf" && checks 0 'conf:[0-9]+: in.backend.identity: "none"'; }
check "identity none" nobody_told
public() { good && sed -i 's/127.0.0.1:2526/0.0.0.0:2526/' "$conf" && checks 0 'conf:[0-9]+: out.listen: 0.0.0.0:2526 can be reached'; }
check "relay-out on every address" public
foreign() { good && sed -i 's/127.0.0.1:2526/10.77.66.55:2526/' "$conf" && checks 0 'out.listen: no interface of this host has 10.77.66.55'; }
check "an address that is nobody's here" foreign
held() {
    /usr/bin/python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()' < <(sleep 60) > "$scratch/port" &
    local pid=$! r=0
    await 10 test -s "$scratch/port"
    good && sed -i "s/127.0.0.1:2525/127.0.0.1:$(cat "$scratch/port")/" "$conf" && checks 0 'in.listen: python3.* holds port' || r=1
    kill $pid
    wait $pid 2> /dev/null
    return $r
}
check "a port that another program holds" held

changed() {
    good 'workers = 99;' && "$relayctl" check --config "$conf" --changed > "$scratch/out" &&
        grep -qx 'in.workers = 99;' "$scratch/out" && ! grep -q 'in.limits' "$scratch/out"
}
check "--changed shows what is not at its default, and nothing else" changed

full() {
    local got=0
    good && "$relayctl" check --config "$conf" --changed > /dev/full 2> "$scratch/out" || got=$?
    [ "$got" = 74 ] && grep -q 'could not be written' "$scratch/out" || { echo "exit status $got"; cat "$scratch/out"; return 1; }
    # A reader that has seen enough is no fault.
    { "$relayctl" check --config "$conf" --changed 2> "$scratch/out"; echo $? > "$scratch/status"; } | true
    [ "$(cat "$scratch/status")" = 0 ] && [ ! -s "$scratch/out" ]
}
check "output that is lost is told, and is no success" full
finish
