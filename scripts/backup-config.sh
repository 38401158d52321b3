#!/bin/sh
# Back up config, prove the artifact, then prune.
# Usage: backup-config.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
refnet backup config
exec refnet prune config
