#!/bin/sh
# Prove the newest artifact of every source, with a clock and a report.
set -eu
. "$(dirname "$0")/_refnet"
exec refnet drill
