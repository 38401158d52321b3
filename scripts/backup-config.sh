#!/bin/sh
# Back up config, prove the artifact, then delete what its time is over for.
set -eu
. "$(dirname "$0")/_refnet"
refnet backup config
exec refnet prune config
