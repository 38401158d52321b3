"""Progress of a copy on its way: what has arrived, also while nothing does."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact

from refnet.catalog import remote
from refnet.store import remote_pieces, sending

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)


class _Stalls(MemoryBucket):
    """Creates the second piece only when `reported` is set."""

    reported = threading.Event()

    def put(self, name: str, data: bytes) -> str:
        if "/00001-" in name:
            assert self.reported.wait(20)
        return super().put(name, data)


def test_progress_is_what_is_in_the_store_and_goes_on_while_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (remote, remote_pieces, sending):
        monkeypatch.setattr(module, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(sending, "_REPORTED_SECONDS", 0.01)
    bucket, seen = _Stalls(), list[int]()

    def progress(_step: str, done: int, total: int | None) -> None:
        assert total == len(DATA)
        assert done <= PIECE * len(list(bucket.listed("data/")))
        seen.append(done)
        if len(seen) > 20:
            bucket.reported.set()

    Machine(tmp_path / "home", bucket).send(artifact(1, DATA), progress)

    assert seen == sorted(seen)
    assert seen.count(2 * PIECE + 7) > 10 or seen.count(2 * PIECE) > 10
    assert seen[-1] == len(DATA)
