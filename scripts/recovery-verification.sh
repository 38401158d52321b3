#!/bin/sh
# Compare everything live with the backup; change nothing.
# Usage: recovery-verification.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
exec refnet recover --only check
