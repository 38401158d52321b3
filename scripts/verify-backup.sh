#!/bin/sh
# Prove an artifact by restoring it into a throwaway server.
# Usage: verify-backup.sh [FILE]    without FILE: the newest artifact of the database
set -eu
. "$(dirname "$0")/_refnet"
exec refnet verify "${1:-database}"
