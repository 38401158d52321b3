#!/bin/sh
# Bring everything back from the backup folder alone, and start what the restored configuration says.
# Usage: disaster-recovery.sh [OPTION…]    options of `refnet recover`; --plan shows what it would do and run
set -eu
. "$(dirname "$0")/_refnet"
echo "The commands that the restored configuration names are run without asking (--yes-run-restored-commands)." >&2
exec refnet recover --yes-run-restored-commands "$@"
