#!/bin/bash
# Every catalogue in po/ is complete for the strings in the source. Speaks TAP.
# usage: [POSTERN_SRCDIR=...] tests/install/translations.sh
# When it fails: make -C po update-po, then translate what "msgattrib --untranslated" and "--only-fuzzy" show.
# shellcheck disable=SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
cd "${POSTERN_SRCDIR:-$here/../..}" || exit 1
# shellcheck source=tests/tap.sh
. "$here/../tap.sh"
for tool in xgettext msgmerge msgfmt; do
    command -v $tool > /dev/null || { skip "translations are complete" "no $tool"; finish; exit; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The texts of the option table make relay.conf(5), which is in English.
files_listed() {
    local file missing=0
    while read -r file; do
        grep -qxF "$file" po/POTFILES.in || { echo "$file is missing in po/POTFILES.in"; missing=1; }
    done < <(grep -rlE --include='*.c' '\b(_|N_|ngettext)\(' src | grep -vxE "src/(config/options|server/events)\.c")
    return $missing
}
check "po/POTFILES.in names every file with texts for people" files_listed

options=$(sed -n 's/^XGETTEXT_OPTIONS = //p' po/Makevars)
# shellcheck disable=SC2086
check "the texts are extracted" xgettext $options --keyword=ngettext:1,2 -f <(grep -v '^#' po/POTFILES.in) \
    -o "$scratch/postern.pot"
complete() {
    local found
    msgmerge --quiet "po/$1.po" "$scratch/postern.pot" -o "$scratch/$1.po" &&
        msgfmt -c -o "$scratch/$1.mo" "$scratch/$1.po" || return 1
    found=$(msgattrib --untranslated "$scratch/$1.po"; msgattrib --only-fuzzy "$scratch/$1.po")
    [ -z "$found" ] || { msgfmt --statistics -o /dev/null "$scratch/$1.po"; grep -A1 '^msgid' <<< "$found"; return 1; }
}
for language in $(grep -v '^#' po/LINGUAS); do
    check "$language: every text is translated, none is fuzzy" complete "$language"
done

# A German operator sees German, from an installed catalogue, in a locale of our own: the machine may have none.
speaks() {
    mkdir -p "$scratch/de/LC_MESSAGES" "$scratch/locales" && cp "$scratch/de.mo" "$scratch/de/LC_MESSAGES/postern.mo" &&
        localedef -i de_DE -f UTF-8 "$scratch/locales/de_DE.UTF-8" &&
        says 'die Konfiguration ist gültig' env -u LANGUAGE LOCPATH="$scratch/locales" LC_ALL=de_DE.UTF-8 \
            TEXTDOMAINDIR="$scratch" gettext -d postern $'%s: the configuration is valid\n'
}
check "a catalogue in its place is found" speaks
finish
