#!/bin/sh
# Compare what is live with what was backed up.
set -eu
. "$(dirname "$0")/_refnet"
exec refnet recover --only check
