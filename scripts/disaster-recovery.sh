#!/bin/sh
# Restore everything from the backup folder, and start the services of the restored configuration.
# Usage: disaster-recovery.sh [OPTION…]    options of `refnet recover`; --plan shows what it would do and run
set -eu
. "$(dirname "$0")/_refnet"
echo "Commands of the restored configuration run without a question (--yes-run-restored-commands)." >&2
exec refnet recover --yes-run-restored-commands "$@"
