#!/bin/sh
# Restore everything, one stage after the other, and start the services of the restored configuration.
# Usage: staged-recovery.sh [OPTION…]    options of `refnet recover`; stops at a failed stage
set -eu
. "$(dirname "$0")/_refnet"
echo "Commands of the restored configuration run without a question (--yes-run-restored-commands)." >&2
for stage in config database vault background edge check; do
    refnet recover --only "$stage" --yes-run-restored-commands "$@"
done
