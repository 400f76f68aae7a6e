#!/bin/bash
# The model of live and stored delivery (agreement.pml), with the table that relay-out decides by; and with mistakes,
# each of which must be found. Needs spin and a C compiler. Speaks TAP.
set -u
here=$(cd "$(dirname "$0")" && pwd)
decisions=${POSTERN_BUILDDIR:-$PWD}/tests/model/decisions
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" && cp "$here/agreement.pml" . || exit 99

# Searches all that can happen, with WRONG set to $1. 0: nothing is wrong; 1: something is; 2: it did not run.
search() {
    rm -f pan* ./*.trail
    spin -DWRONG="$1" -a agreement.pml >spin.log 2>&1 && ${CC:-cc} -w "-O$((${1} == 0))" -DSAFETY -o pan pan.c >>spin.log 2>&1 ||
        return 2
    ./pan -m2000 -w22 >pan.log 2>&1
    grep -q 'errors: 0$' pan.log && ! grep -q 'not completed\|too small' pan.log && return 0
    grep -q 'assertion violated' pan.log && return 1
    return 2
}

number=0
report() { # RESULT WANTED NAME
    number=$((number + 1))
    if [ "$1" = "$2" ]; then
        echo "ok $number - $3"
    else
        echo "not ok $number - $3"
        sed 's/^/# /' spin.log pan.log 2>/dev/null | tail -n 30
        [ -f agreement.pml.trail ] && spin -DWRONG="$wrong" -t -p -l -g agreement.pml | sed 's/^/# /' | tail -n 60
    fi
}

mistakes=$(sed -n '/^.\* Mistakes/,/^$/s/^#define \([A-Z_]*\) \([1-9]\) .*/\1=\2/p' agreement.pml)
"$decisions" >decision.pml || { echo "Bail out! no $decisions"; exit 1; }
echo "1..$(($(echo "$mistakes" | wc -l) + 5))"
wrong=0
search 0
report $? 0 "nothing lost, nothing twice, no false 250, no bounce of what arrived"
sed -n 's/^ *\([0-9]*\) states, stored.*/# \1 states/p' pan.log
for mistake in $mistakes; do
    wrong=${mistake#*=}
    search "$wrong"
    report $? 1 "found: $(echo "${mistake%=*}" | tr 'A-Z_' 'a-z ')"
done
# Mistakes in the table: TAKEN beside others, UNDECIDED alone or beside REFUSED, all agree that it is refused.
wrong=0
for change in 3=1 8=1 12=2 4=0; do
    "$decisions" | sed "s/present == ${change%=*} -> decision = .*/present == ${change%=*} -> decision = ${change#*=}/" >decision.pml
    search 0
    report $? 1 "found: decision ${change#*=} for the outcomes ${change%=*}"
done
