#!/bin/sh
# Back up the database, prove the artifact, then prune.
# Usage: backup-database.sh [DIR]    with DIR: write it there, outside the catalog
set -eu
. "$(dirname "$0")/_refnet"
case ${1-} in
    '') refnet backup database; exec refnet prune database ;;
    -*) nothing "$@" ;;
    *) exec refnet backup database --to "$1" ;;
esac
