# shellcheck shell=bash
# Sourced by tests in bash that speak TAP: check, skip, finish.
#   check NAME COMMAND...   one test; what the command printed is shown when it fails
#   skip NAME REASON        one test that this machine cannot run
#   finish                  prints the plan; the exit status is 1 when a test failed
tap_number=0 tap_failed=0

check() {
    local name=$1 output
    shift
    tap_number=$((tap_number + 1))
    if output=$("$@" 2>&1); then
        echo "ok $tap_number - $name"
    else
        echo "not ok $tap_number - $name"
        printf '%s\n' "$output" | sed 's/^/# /'
        tap_failed=$((tap_failed + 1))
        return 1
    fi
}

skip() {
    tap_number=$((tap_number + 1))
    echo "ok $tap_number - $1 # SKIP $2"
}

finish() {
    echo "1..$tap_number"
    [ $tap_failed = 0 ]
}

# await SECONDS COMMAND...: until it succeeds
await() {
    local tries=$(($1 * 10))
    shift
    while ! "$@" > /dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.1
    done
}

# says PATTERN COMMAND...: its output holds the pattern, whatever its exit status
says() {
    local pattern=$1 output
    shift
    output=$("$@" 2>&1) || true
    grep -qE -e "$pattern" <<< "$output" || { printf 'expected: %s\ngot:\n%s\n' "$pattern" "$output"; return 1; }
}
