#!/bin/sh
# Back up the database, prove the artifact, then delete what its time is over for. With DIR: write it there, outside the catalog.
set -eu
. "$(dirname "$0")/_refnet"
if [ $# -gt 0 ]; then
    exec refnet backup database --to "$1"
fi
refnet backup database
exec refnet prune database
