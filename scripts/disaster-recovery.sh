#!/bin/sh
# Bring everything back from the backup folder alone.
set -eu
. "$(dirname "$0")/_refnet"
exec refnet recover "$@"
