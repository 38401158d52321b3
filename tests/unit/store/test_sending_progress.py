"""Progress of a copy on its way: what has arrived, also while nothing does."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, cut_small

from refnet.store import sending_pieces

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)


class _Stalls(MemoryBucket):
    """Creates the second piece only when `reported` is set."""

    reported = threading.Event()
    count = 0

    def put(self, name: str, data: bytes) -> str:
        self.count += 1
        if self.count == 2:
            assert self.reported.wait(20)
        return super().put(name, data)


def test_progress_is_what_is_in_the_store_and_goes_on_while_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch, PIECE)
    monkeypatch.setattr(sending_pieces, "_REPORTED_SECONDS", 0.01)
    bucket, seen = _Stalls(), list[int]()

    def progress(_step: str, done: int, total: int | None) -> None:
        assert total == len(DATA)
        assert done <= PIECE * len(list(bucket.listed("")))
        seen.append(done)
        if len(seen) > 20:
            bucket.reported.set()

    Machine(tmp_path / "home", bucket).send(artifact(1, DATA), progress)

    assert seen == sorted(seen)
    assert seen.count(2 * PIECE + 7) > 10 or seen.count(2 * PIECE) > 10
    assert seen[-1] == len(DATA)
