#!/bin/bash
# Random dialogs with relay-out, like dialog.sh for relay-in. POSTERN_SIDE=out: mail is passed on at once; spool: it is
# stored first.
# usage: [POSTERN_BUILDDIR=...] [DIALOG_SECONDS=5] [POSTERN_SIDE=out] tests/fuzz/dialog-out.sh [OPTION...]
here=$(cd "$(dirname "$0")" && pwd)
DIALOG_SECONDS=${DIALOG_SECONDS:-5} POSTERN_SIDE=${POSTERN_SIDE:-out} exec "$here/dialog.sh" "$@"
