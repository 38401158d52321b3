#!/bin/sh
# Restore the database from FILE: load a copy, compare it, swap it in.
# Usage: restore-database.sh FILE [--force]    --force: do not ask before something live is replaced
set -eu
. "$(dirname "$0")/_refnet"
[ $# -gt 0 ] || { echo "usage: $0 FILE [--force]" >&2; exit 2; }
exec refnet restore database "$@"
