#!/bin/sh
# Prove an artifact by restoring it into a throwaway server; none given: the newest of the database.
set -eu
. "$(dirname "$0")/_refnet"
exec refnet verify "${1:-database}"
