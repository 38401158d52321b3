"""A fetch that is killed, or whose disk is full: nothing is half there, and the next run continues."""

from __future__ import annotations

import itertools
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.conftest import fill
from tests.lost_machine import Loss, names
from tests.remote_store import Machine, artifact, cut_small

from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.store.buckets.folder import FolderBucket

PIECE = 64 << 10
DATA = random.Random(3).randbytes(3 * PIECE + 7)
SHOP = SourceName("shop", Kind.DATABASE)
#: The artifacts of the set; the second one comes second.
FIRST, SECOND = artifact(1, b"first"), artifact(2, DATA, source=SHOP, name="shop_20261127_170000.sql.gz")


@pytest.fixture
def loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loss:
    cut_small(monkeypatch, PIECE)
    (tmp_path / "bucket").mkdir(mode=0o700)
    sender = Machine(tmp_path / "sender", FolderBucket(tmp_path / "bucket"))
    for one in (FIRST, SECOND):
        sender.send(one)
    return Loss(tmp_path, sender)


class _Killing(FolderBucket):
    """Kills its process when the piece `at` of the second artifact is read."""

    at = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._reads = itertools.count()

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        if "/pieces/" in name and most > PIECE and next(self._reads) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get(name, most, version=version)


@pytest.mark.parametrize("at", [0, 2])
def test_a_killed_fetch_continues_with_the_artifacts_that_are_missing(
    loss: Loss, tmp_path: Path, at: int
) -> None:
    killing = _Killing(tmp_path / "bucket")
    killing.at = at
    killed = replace(loss, sender=replace(loss.sender, bucket=killing))
    if (child := os.fork()) == 0:
        killed.brought()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [one.name for one in loss.context.local.entries()] == [FIRST.name]
    assert names(loss.brought()) == [SECOND.name]
    (left,) = loss.context.local.leftovers()
    assert left.source == SHOP
    assert (tmp_path / "backups" / "shop" / SECOND.name).read_bytes() == DATA


def test_a_full_disk_ends_a_fetch_and_the_next_run_continues(loss: Loss, small_disk: Path) -> None:
    full = replace(loss, folder=small_disk)
    fill(small_disk, free=PIECE + (100 << 10))
    with pytest.raises(RefnetError) as refused:
        full.brought()
    assert refused.value.message.startswith(f"no space left in {small_disk}")
    assert [one.name for one in full.context.local.entries()] == [FIRST.name]
    assert full.context.local.leftovers() == ()
    (small_disk / "filler").unlink()
    assert names(full.brought()) == [SECOND.name]
