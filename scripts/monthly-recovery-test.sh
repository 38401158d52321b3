#!/bin/sh
# Go the way of a recovery into scratch places: prove the newest artifact of every source, with timing and a report.
# Usage: monthly-recovery-test.sh
set -eu
. "$(dirname "$0")/_refnet"
nothing "$@"
exec refnet drill --recovery
