#!/bin/sh
# Report whether every source is protected: 0 ok, 1 warning, 2 critical, 3 unknown.
# Usage: monitor-backup.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
exec refnet monitor
