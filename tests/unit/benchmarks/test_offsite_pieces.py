"""A store with many pieces: commands need little memory for each, as `./dev bench --offsite-files` measures with 100,000."""

from __future__ import annotations

import pytest
from benchmarks import offsite_pieces
from benchmarks.offsite_pieces import Bench

_PIECES = 20_000
#: The program itself, and 1.25 KB for each piece: 200 MB for 100,000.
_MOST = 75_000_000 + 1_250 * _PIECES


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    found = Bench(folder=tmp_path_factory.mktemp("store"), sample=True)
    found.make(_PIECES, copies=4)
    return found


@pytest.mark.parametrize("command", ["verify", "list", "store stats", "copy", "prune"])
def test_memory_for_each_piece_is_bounded(bench: Bench, command: str) -> None:
    way = offsite_pieces.way(*offsite_pieces.COMMANDS[command])
    assert 10_000_000 < (way(bench).run.peak or 0) < _MOST
