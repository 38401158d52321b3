"""Pieces are fetched once, whatever reads them how often, and only ciphertext is on the disk meanwhile."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, cut_small

from refnet.core.processes import until

PIECE = 64 << 10
DATA = random.Random(1).randbytes(8 * PIECE + 7)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    cut_small(monkeypatch, PIECE)
    return Machine(tmp_path / "home")


def _fetched(machine: Machine) -> int:
    """Read an artifact from several places in turn; return the requests for its nine pieces."""
    bucket = machine.bucket
    assert isinstance(bucket, MemoryBucket)
    copy = machine.send(artifact(1, DATA))
    opened = machine.store(key=True).artifact(copy)
    before = bucket.requests["get"]
    readers = [opened.open() for _ in range(4)]
    for at in range(0, 4 * PIECE, PIECE // 2):
        for number, reader in enumerate(readers):
            reader.seek(at + number * PIECE)
            assert reader.read(100) == DATA[at + number * PIECE :][:100]
    for reader in readers:
        reader.seek(0)
        assert reader.read() == DATA
    return bucket.requests["get"] - before


def test_a_piece_is_fetched_once_by_all_readers(machine: Machine) -> None:
    assert _fetched(machine) == 9
    left = [
        one for one in (machine.home / "remote").rglob("*") if one.is_file() and one.stat().st_size >= PIECE
    ]
    assert left == []


def test_a_disk_without_space_costs_requests_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(machine.home.parent)._replace(free=2 * len(DATA))
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert _fetched(machine) > 9


def test_what_is_kept_is_encrypted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.pwrite

    def seen(file: int, data: bytes, at: int) -> int:
        written.append(data)
        return write(file, data, at)

    monkeypatch.setattr("os.pwrite", seen)
    _fetched(machine)
    assert len(written) == 9
    assert all(one.startswith(b"age-encryption.org/v1\n") for one in written)
    assert all(DATA[at : at + 64] not in b"".join(written) for at in range(0, len(DATA) - 64, PIECE))


def test_a_reader_that_reads_on_fetches_a_few_pieces_ahead_and_each_once(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    bucket = machine.bucket
    assert isinstance(bucket, MemoryBucket)
    reader = machine.store(key=True).artifact(copy).open()
    before = bucket.requests["get"]
    assert reader.read(PIECE + 1) == DATA[: PIECE + 1]
    assert until(lambda: bucket.requests["get"] - before == 4, 10)
    assert reader.read() == DATA[PIECE + 1 :]
    assert bucket.requests["get"] - before == 9


def test_a_reader_of_everything_fetches_ahead_from_the_first_piece_on(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    bucket = machine.bucket
    assert isinstance(bucket, MemoryBucket)
    before = bucket.requests["get"]
    reader = machine.store(key=True).artifact(copy, in_order=True).open()
    assert reader.read(1) == DATA[:1]
    assert until(lambda: bucket.requests["get"] - before == 3, 10)
    assert DATA[:1] + reader.read() == DATA
    assert bucket.requests["get"] - before == 9


def test_what_a_single_reader_reads_in_order_is_not_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = machine.send(artifact(1, DATA))
    write = Mock(side_effect=os.pwrite)
    monkeypatch.setattr("os.pwrite", write)
    with machine.store(key=True).artifact(copy).open() as reader:
        assert reader.read() == DATA
    assert write.call_count == 1, "the first alone: it may be read again"
