#!/bin/sh
# Back up obsidian, prove the artifact, then delete what its time is over for.
set -eu
. "$(dirname "$0")/_refnet"
refnet backup obsidian
exec refnet prune obsidian
