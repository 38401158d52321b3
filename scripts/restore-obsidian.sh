#!/bin/sh
# Restore obsidian from FILE; what is live is kept, and asked for before it is replaced (--force does not ask).
set -eu
. "$(dirname "$0")/_refnet"
[ $# -gt 0 ] || { echo "usage: $0 FILE [--force]" >&2; exit 2; }
exec refnet restore obsidian "$@"
