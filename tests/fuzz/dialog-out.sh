#!/bin/bash
# Random dialogs with relay-out, as dialog.sh has them with relay-in; POSTERN_SIDE=out: mail goes on at
# once, spool: it is stored first.
# usage: [POSTERN_BUILDDIR=...] [DIALOG_SECONDS=10] [POSTERN_SIDE=out] tests/fuzz/dialog-out.sh [OPTION...]
here=$(cd "$(dirname "$0")" && pwd)
DIALOG_SECONDS=${DIALOG_SECONDS:-8} POSTERN_SIDE=${POSTERN_SIDE:-out} exec "$here/dialog.sh" "$@"
