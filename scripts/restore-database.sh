#!/bin/sh
# Restore the database from FILE: beside what is live, compared, then exchanged (--force does not ask).
set -eu
. "$(dirname "$0")/_refnet"
[ $# -gt 0 ] || { echo "usage: $0 FILE [--force]" >&2; exit 2; }
exec refnet restore database "$@"
