#!/bin/sh
# Back up obsidian, prove the artifact, then prune.
# Usage: backup-obsidian.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
refnet backup obsidian
exec refnet prune obsidian
