#!/bin/bash
# Random dialogs with the built relay-in, see dialog.py; peers/run.sh sets the stage.
# usage: [POSTERN_BUILDDIR=...] [DIALOG_SECONDS=30] [DIALOG_SEED=...] tests/fuzz/dialog.sh [OPTION...]
here=$(cd "$(dirname "$0")" && pwd)
POSTERN_PROGRAM=$here/dialog.py exec "$here/../peers/run.sh" "$@"
