#!/bin/sh
# Back up obsidian, prove the artifact, then delete what its time is over for.
# Usage: backup-obsidian.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
refnet backup obsidian
exec refnet prune obsidian
