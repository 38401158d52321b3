#!/bin/sh
# Bring everything back, one stage after the other, and start what the restored configuration says.
# Usage: staged-recovery.sh [OPTION…]    options of `refnet recover`; a stage that fails stops it
set -eu
. "$(dirname "$0")/_refnet"
echo "The commands that the restored configuration names are run without asking (--yes-run-restored-commands)." >&2
for stage in config database vault background edge check; do
    refnet recover --only "$stage" --yes-run-restored-commands "$@"
done
