#!/bin/sh
# Compare what is live with what was backed up; change nothing.
# Usage: recovery-verification.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
exec refnet recover --only check
