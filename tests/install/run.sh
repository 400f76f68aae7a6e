#!/bin/bash
# What "make install" installs besides the programs: units, manual pages, completions, certificate hooks,
# fail2ban filter, AppArmor profile. Installs into a scratch folder. Speaks TAP.
# usage: [POSTERN_BUILDDIR=...] tests/install/run.sh
# Checks call functions by name, and shellcheck believes them unreachable:
# shellcheck disable=SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${POSTERN_BUILDDIR:-$PWD}
. "$here/../tap.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

# The variables of the make that runs this test are not meant for the installation.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES TESTS
check "make install into a folder" make -s -C "$build" install DESTDIR="$root" || { finish; exit 1; }

installed() { find "$root" -path "*/$1" \( -type f -o -type l \); }
in_all() {  # in_all PATTERN COMMAND...: the command succeeds for each file, and there is at least one
    local files file
    mapfile -t files < <(installed "$1")
    shift
    [ ${#files[@]} -gt 0 ] || { echo "nothing of that kind is installed"; return 1; }
    for file in "${files[@]}"; do "$@" "$file" || { echo "in $file"; return 1; }; done
}
without_leftovers() { ! grep -nE '@[A-Za-z_]+@' "$1"; }

# --- systemd
for kind in service socket; do
    check "units: no placeholder is left in a *.$kind" in_all "systemd/system/*.$kind" without_leftovers
done
starts_what_is_installed() {
    local program
    program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$1")
    [ -n "$program" ] && [ -x "$root$program" ] || { echo "ExecStart=$program is not installed"; return 1; }
}
check "units: what they start is installed" in_all 'systemd/system/*.service' starts_what_is_installed
if command -v systemd-analyze > /dev/null; then
    # Verified with the programs in their current place.
    mkdir "$scratch/units"
    while read -r unit; do
        sed -E "s,^(Exec[A-Za-z]+=)(/[^ ]*/(relay-in|relay-out|relayctl|postern-exporter)),\\1$root\\2," "$unit" > "$scratch/units/${unit##*/}"
    done < <(installed 'systemd/system/*')
    # relay-out's unit is checked even if relay-out is not built; relay-in takes its program's place.
    if [ ! -e "$scratch/units/relay-out.service" ] && make -s -C "$build" relay-out.service > /dev/null; then
        sed -E "s,^(Exec[A-Za-z]+=)/[^ ]*/relay-out,\\1$(find "$root" -name relay-in -perm -1 -type f)," \
            "$build/relay-out.service" > "$scratch/units/relay-out.service"
        check "units: no placeholder is left in relay-out.service" without_leftovers "$scratch/units/relay-out.service"
    fi
    verified() {
        local said
        said=$(systemd-analyze verify --man=no "$scratch"/units/* 2>&1) && [ -z "$said" ] || { echo "$said"; return 1; }
    }
    check "units: systemd-analyze verify has nothing to say" verified
    for unit in "$scratch"/units/relay-*.service; do
        if systemd-analyze --help | grep -q -e --offline; then
            check "units: exposure of ${unit##*/} is 1.5 at most" \
                systemd-analyze security --offline=yes --threshold=15 "$unit"
        else
            skip "units: exposure of ${unit##*/} is 1.5 at most" "this systemd-analyze has no --offline"
        fi
    done
else
    skip "units: systemd-analyze verify has nothing to say" "no systemd-analyze"
fi
# debhelper stops only what it starts, and "systemctl disable" takes no patterns.
packaging=$here/../../packaging
stopped_at_removal() {
    grep -q '^\[Install\]' "$1" || return 0
    grep -qw -e "${1##*/}" "$packaging"/debian/*.prerm &&
        sed -n '/^%preun/,/^fi/p' "$packaging/rpm/postern.spec" | grep -qw -e "${1##*/}"
}
check "packages: what can be enabled is stopped when its package is removed" \
    in_all 'systemd/system/*.*' stopped_at_removal
if command -v systemd-tmpfiles > /dev/null && command -v systemd-sysusers > /dev/null; then
    folders() {
        mkdir -p "$scratch/system/etc" && touch "$scratch/system/etc/passwd" "$scratch/system/etc/group" &&
            systemd-sysusers --root="$scratch/system" "$(installed 'sysusers.d/postern.conf')" &&
            grep -q '^postern:' "$scratch/system/etc/passwd" &&
            systemd-tmpfiles --root="$scratch/system" --create "$(installed 'tmpfiles.d/postern.conf')" &&
            [ "$(stat -c %a "$scratch/system/etc/postern/tls")" = 750 ] &&
            [ "$(stat -c %a "$scratch/system/var/spool/postern")" = 700 ]
    }
    check "sysusers.d and tmpfiles.d: make the user and the folders" folders
else
    skip "sysusers.d and tmpfiles.d: make the user and the folders" "no systemd-sysusers"
fi

# --- manual pages
if command -v mandoc > /dev/null; then
    # Pages of the package itself cannot be found before it is installed, and no reader sees the length of a source line.
    lint() {
        mandoc -Tlint -Wstyle "$1" > "$scratch/lint"
        ! grep -vE 'STYLE: (referenced manual not found|input text line longer)' "$scratch/lint"
    }
    check "manual pages: mandoc -Tlint has nothing to say" in_all 'man/man*/*' lint
else
    skip "manual pages: mandoc -Tlint has nothing to say" "no mandoc"
fi
check "manual pages: no placeholder is left" in_all 'man/man*/*' without_leftovers

# --- completions: they ask the programs, so they offer every option and command of --help
completes() {  # completes "WORDS BEFORE" WORD EXPECTED
    # shellcheck disable=SC2016
    PATH=$build:$PATH bash -c '
        . "$1"
        read -ra COMP_WORDS <<< "$2"
        COMP_WORDS+=("$3") COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _postern "${COMP_WORDS[0]}" "$3" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s\n" "${COMPREPLY[@]}"' - "$(installed 'completions/relayctl')" "$1" "$2" > "$scratch/completed"
    [ "$(sort "$scratch/completed" | tr '\n' ' ')" = "$3 " ] ||
        { printf 'expected: %s\ngot:      %s\n' "$3" "$(tr '\n' ' ' < "$scratch/completed")"; return 1; }
}
check "bash: relay-in --<TAB>" completes "relay-in" "--c" "--check --config"
check "bash: relayctl s<TAB> offers sink" eval 'completes relayctl sin sink'
check "bash: relayctl sink --no-<TAB>" completes "relayctl sink" "--no-" "--no-ext --no-pipelining --no-xclient"
check "bash: relayctl sink --delay <TAB> offers the steps" completes "relayctl sink --delay" "r" "rcpt rset"
check "bash: relayctl queue <TAB> offers its commands" completes "relayctl queue" "re" "release remove retry"
check "bash: relayctl queue show --<TAB> knows the options of its commands" \
    completes "relayctl queue show" "--b" "--body --bounce --by-domain --by-sender"
touch "$scratch/some.conf"
check "bash: relayctl certificate <TAB> offers files" completes "relayctl certificate" "$scratch/some" "$scratch/some.conf"
check "bash: relayctl password <TAB> offers files" completes "relayctl password" "$scratch/some" "$scratch/some.conf"
check "bash: relay-in -c <TAB> offers files" completes "relay-in -c" "$scratch/some" "$scratch/some.conf"
check "bash: relayctl check --config <TAB> offers files" \
    completes "relayctl check --config" "$scratch/some" "$scratch/some.conf"
if command -v zsh > /dev/null; then
    zsh_completes() {
        # _describe, compadd and _files are replaced by functions that print their arguments.
        # shellcheck disable=SC2016
        PATH=$build:$PATH zsh -fc '
            _describe() { print -rl -- ${(P)2} }; compadd() { shift; print -rl -- $@ }
            _files() { print files }; _message() { print $1 }
            words=(${=2}) CURRENT=$#words
            [[ $3 == . ]] && { words+=("") ; (( CURRENT++ )) }
            source $1' - "$(installed 'site-functions/_postern')" "$1" "$2" > "$scratch/completed" 2>&1
        grep -qx -e "$3" "$scratch/completed" || { cat "$scratch/completed"; return 1; }
    }
    check "zsh: relayctl <TAB>" zsh_completes "relayctl" . 'sink:.*'
    check "zsh: relay-in <TAB>" zsh_completes "relay-in" . '--check:.*'
    check "zsh: relayctl queue <TAB>" zsh_completes "relayctl queue" . 'hold:.*'
    check "zsh: relayctl queue remove <TAB>" zsh_completes "relayctl queue remove" . '--bounce:.*'
    check "zsh: relayctl password <TAB>" zsh_completes "relayctl password" . files
    check "zsh: relayctl sink --store <TAB>" zsh_completes "relayctl sink --store" . files
    check "zsh: relayctl sink --delay <TAB>" zsh_completes "relayctl sink --delay" . rcpt
else
    skip "zsh completion" "no zsh"
fi

# --- certificate hooks: certificates of several names, good and bad
# certificate FOLDER NAME [DAYS]: self-signed, valid from yesterday for so many days (negative: expired)
certificate() {
    local folder=$scratch/$1 days=${3:-30}
    mkdir -p "$folder"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$folder/privkey.pem" \
        -out "$folder/request" 2> /dev/null
    printf '[ca]\ndefault_ca = own\n[own]\ndatabase = %s/index\nrand_serial = yes\nnew_certs_dir = %s\n' "$folder" "$folder" \
        > "$folder/conf"
    printf 'default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n[names]\nsubjectAltName = DNS:%s\n' "$2" \
        >> "$folder/conf"
    : > "$folder/index"
    openssl ca -batch -selfsign -config "$folder/conf" -extensions names -in "$folder/request" -keyfile "$folder/privkey.pem" \
        -startdate "$(date -u -d '-60 days' +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "$days days" +%Y%m%d%H%M%SZ)" \
        -notext -out "$folder/fullchain.pem" 2> /dev/null
}
certificate mail.example.com mail.example.com
certificate www.example.com www.example.com
certificate second mail.example.com
certificate expired mail.example.com -1
certificate mail.example.com_ecc mail.example.com
certificate other mail.example.org
mkdir "$scratch/der" "$scratch/unfit" "$scratch/issued" "$scratch/backwards"
openssl x509 -in "$scratch/second/fullchain.pem" -outform DER -out "$scratch/der/fullchain.pem"
cp "$scratch/second/privkey.pem" "$scratch/der/"
cp "$scratch/second/fullchain.pem" "$scratch/www.example.com/privkey.pem" "$scratch/unfit/"
# One issued by a CA, without that CA's certificate, like certbot's cert.pem; and one with both in the wrong order.
openssl req -new -key "$scratch/second/privkey.pem" -subj /CN=mail.example.com 2> /dev/null |
    openssl x509 -req -CA "$scratch/www.example.com/fullchain.pem" -CAkey "$scratch/www.example.com/privkey.pem" \
        -set_serial 2 -days 30 -extfile "$scratch/mail.example.com/conf" -extensions names \
        -out "$scratch/issued/fullchain.pem" 2> /dev/null
cp "$scratch/second/privkey.pem" "$scratch/issued/"
cat "$scratch/issued/fullchain.pem" "$scratch/second/fullchain.pem" > "$scratch/backwards/fullchain.pem"
cp "$scratch/second/privkey.pem" "$scratch/backwards/"
cat > "$scratch/relay.conf" <<'END'
hostname = "mail.example.com";
in = { domains = [ "example.com" ]; backend = { hosts = [ "10.0.0.2" ]; identity = "xclient"; }; };
dns = { servers = [ "127.0.0.1:1" ]; validate = false; };
END
helper=$(installed 'postern/install-certificate')
# The hooks name the helper by its installed path.
for hook in certbot-hook acme.sh/postern.sh; do
    sed "s,'/[^']*/install-certificate','$helper'," "$(installed "postern/$hook")" > "$scratch/${hook##*/}"
done
chmod +x "$scratch/certbot-hook"
group=$(id -gn)
export POSTERN_GROUP=$group POSTERN_TLS=$scratch/tls POSTERN_CONF=$scratch/relay.conf
POSTERN_RELAYCTL=$(installed 'bin/relayctl')
export POSTERN_RELAYCTL
holds() {  # holds NAME: its certificate and key are installed, for the group only
    cmp "$scratch/$1/fullchain.pem" "$POSTERN_TLS/fullchain.pem" && cmp "$scratch/$1/privkey.pem" "$POSTERN_TLS/privkey.pem" &&
        [ "$(stat -c %a:%G "$POSTERN_TLS/privkey.pem")" = "640:$group" ] && [ "$(stat -c %a "$POSTERN_TLS")" = 750 ]
}
by_certbot() { RENEWED_LINEAGE=$scratch/$1 RENEWED_DOMAINS=$1 POSTERN_CERTBOT_SETTINGS=$scratch/settings "$scratch/certbot-hook"; }
certbot_installs() { by_certbot mail.example.com && holds mail.example.com; }
certbot_leaves() { by_certbot www.example.com && holds mail.example.com; }
certbot_names() {
    echo 'POSTERN_NAMES="mail.example.org"' > "$scratch/settings"
    by_certbot other && holds other && by_certbot www.example.com && holds other && by_certbot mail.example.com && holds mail.example.com
}
certbot_chooses() {
    echo 'POSTERN_CERTIFICATE=mail.example.com' > "$scratch/settings"
    by_certbot second && holds mail.example.com
    local result=$?
    rm "$scratch/settings"
    return $result
}
certbot_first() {  # relay.conf names the files that the hook is about to write
    local POSTERN_CONF=$scratch/first.conf POSTERN_TLS=$scratch/first
    { cat "$scratch/relay.conf"; echo 'tls = { certificates = ( { cert = "first/fullchain.pem"; key = "first/privkey.pem"; } ); };'; } > "$POSTERN_CONF"
    by_certbot www.example.com && [ ! -e "$POSTERN_TLS" ] && by_certbot mail.example.com && holds mail.example.com
}
certbot_asks() { ! POSTERN_CONF=$scratch/none.conf by_certbot www.example.com && holds mail.example.com; }
by_acme() {  # calls it as acme.sh does, with acme.sh's functions: DOMAIN, folder of the chain, folder of the key
    (
        saved=''
        _info() { :; }; _err() { echo "$1"; }; _getdeployconf() { :; }; _savedeployconf() { saved=$saved$1=$2; }
        . "$scratch/postern.sh"
        postern_deploy "$1" "$scratch/$3/privkey.pem" cert.cer ca.cer "$scratch/$2/fullchain.pem" &&
            [ "$saved" = "POSTERN_TLS=$POSTERN_TLS" ]
    )
}
acme_installs() { by_acme mail.example.com mail.example.com_ecc mail.example.com_ecc && holds mail.example.com_ecc; }
acme_installs_rsa() { by_acme mail.example.com mail.example.com mail.example.com && holds mail.example.com; }
acme_refuses() {
    ! by_acme mail.example.com "$1" "$2" > "$scratch/said" && grep -q 'was not installed' "$scratch/said" && holds mail.example.com
}
refuses() {  # refuses FOLDER WORDS: it refuses with these words and changes nothing
    says "$2" "$helper" "$scratch/$1/fullchain.pem" "$scratch/$1/privkey.pem" &&
        ! "$helper" "$scratch/$1/fullchain.pem" "$scratch/$1/privkey.pem" && holds mail.example.com
}
forces() {
    "$helper" --force "$scratch/expired/fullchain.pem" "$scratch/expired/privkey.pem" && holds expired &&
        ! "$helper" --force "$scratch/der/fullchain.pem" "$scratch/der/privkey.pem" && holds expired
}
unnamed() {
    POSTERN_CONF=$scratch/none.conf says 'cannot tell whether' "$helper" "$scratch/other/fullchain.pem" "$scratch/other/privkey.pem" &&
        holds other
}
check "certbot hook: installs certificate and key for the group only" certbot_installs
check "certbot hook: installs the first certificate for a relay.conf that names it already" certbot_first
check "certbot hook: leaves the certificate of another host alone, and is content" certbot_leaves
check "certbot hook: takes those of the names in its settings" certbot_names
check "certbot hook: keeps to the certificate that its settings name" certbot_chooses
check "certbot hook: without a hostname it installs nothing, and says so" certbot_asks
check "acme.sh hook: installs certificate and key, remembers the folder" acme_installs
check "acme.sh hook: the same from its folder for RSA" acme_installs_rsa
check "acme.sh hook: a key that does not fit changes nothing" acme_refuses mail.example.com www.example.com
check "acme.sh hook: the certificate of another host changes nothing" acme_refuses www.example.com www.example.com
check "install-certificate: refuses one of another host" refuses www.example.com 'it is for www.example.com, not for mail.example.com'
check "install-certificate: refuses DER" refuses der 'nothing was changed'
check "install-certificate: refuses a key that does not fit" refuses unfit 'nothing was changed'
check "install-certificate: refuses an expired one" refuses expired 'it has expired'
check "install-certificate: refuses one without its issuer's" refuses issued 'use fullchain.pem, not cert.pem'
check "install-certificate: refuses a chain in disorder" refuses backwards 'wrong order'
check "install-certificate: --force overrules what can be used all the same" forces
check "install-certificate: before relay.conf is written it takes any" unnamed
for file in $(installed 'postern/*-*'); do
    case $file in */libexec/*) check "shell: ${file##*/} parses" sh -n "$file" ;; esac
done

# --- README: its configuration is valid
readme_holds() {
    mkdir -p "$scratch/readme/tls" && cp "$scratch/mail.example.com/fullchain.pem" "$scratch/mail.example.com/privkey.pem" "$scratch/readme/tls/" &&
        sed -n '/^    hostname = /,/^    };/s/^    //p' "$here/../../README.md" > "$scratch/readme/relay.conf" &&
        [ -s "$scratch/readme/relay.conf" ] && "$build/relayctl" check -c "$scratch/readme/relay.conf"
}
check "README: the configuration of its set-up is valid" readme_holds

# --- AppArmor
if command -v apparmor_parser > /dev/null; then
    check "AppArmor: apparmor_parser takes the profiles" in_all 'apparmor.d/usr.sbin.*' \
        apparmor_parser --skip-kernel-load --skip-cache
else
    skip "AppArmor: apparmor_parser takes the profiles" "no apparmor_parser"
fi

# --- fail2ban, on lines that the built relay-in logs
if ! command -v fail2ban-regex > /dev/null; then
    skip "fail2ban: the filter finds the offenders in a real log" "no fail2ban-regex"
elif [ "$(id -u)" != 0 ] || ! unshare --net true 2> /dev/null; then
    skip "fail2ban: the filter finds the offenders in a real log" "no network namespace without root"
else
    mkdir "$scratch/filter.d"
    cp /etc/fail2ban/filter.d/common.conf "$scratch/filter.d/"
    cp "$(installed 'filter.d/postern.conf')" "$scratch/filter.d/postern.conf"
    real_log() {
        PYTHONDONTWRITEBYTECODE=1 unshare --net -- /usr/bin/python3 "$here/offenders.py" "$build" "$scratch" > "$scratch/relay.log" &&
            grep -q 'status=delivered' "$scratch/relay.log"
    }
    finds() {  # finds ADDRESS TIMES
        local found
        found=$(fail2ban-regex -o ip "$scratch/relay.log" "$scratch/filter.d/postern.conf" 2>&1 | grep -cFx "$1")
        [ "$found" = "$2" ] || { echo "$1: found $found times, expected $2"; cat "$scratch/relay.log"; return 1; }
    }
    if check "fail2ban: a relay-in with offenders in front of it" real_log; then
        check "fail2ban: who tries to relay is found" finds 198.51.100.1 1
        check "fail2ban: who asks for unknown recipients is found" finds 198.51.100.2 2
        check "fail2ban: who talks before the greeting is found" finds 198.51.100.3 1
        check "fail2ban: who makes too many errors is found" finds 2001:db8::4 1
        check "fail2ban: who is deferred or has one message refused is not" finds 198.51.100.5 0
        check "fail2ban: who delivers is not" finds 198.51.100.6 0
    fi
    check "fail2ban: the jail is off until somebody wants it" \
        grep -q '^enabled = false' "$(installed 'jail.d/postern.conf')"
fi
finish
