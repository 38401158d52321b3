#!/bin/sh
# Back up config, prove the artifact, then delete what its time is over for.
# Usage: backup-config.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
refnet backup config
exec refnet prune config
