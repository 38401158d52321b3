#!/bin/sh
# Bring everything back, one stage after the other; a stage that fails stops it.
set -eu
. "$(dirname "$0")/_refnet"
for stage in config database vault background edge check; do
    refnet recover --only "$stage" "$@"
done
