"""A bucket that keeps versions: what somebody deleted or replaced there is still found, and a deletion removes all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, cut_small, delete

from refnet.catalog.object_names import MANIFESTS
from refnet.catalog.remote import Copy
from refnet.core.errors import Exit, RefnetError
from refnet.store import remote_pieces
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.leases import is_name
from refnet.store.remote import RemoteStore

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, PIECE)


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(versioned=True, lock=timedelta(days=30))


@pytest.fixture
def machine(tmp_path: Path, bucket: MemoryBucket) -> Machine:
    return Machine(tmp_path / "home", bucket)


def _behind(machine: Machine) -> RemoteStore:
    """The store with what is behind delete markers, as a recovery opens it."""
    now = machine.store(key=True)
    return RemoteStore(now.name, now.bucket, now.home, now.trust, versions=True)


def _read(store: RemoteStore, copy: Copy) -> bytes:
    with store.artifact(copy).open() as reader:
        return reader.read()


def _copies(machine: Machine) -> Iterator[Copy]:
    for number in (1, 2):
        machine.send(artifact(number, DATA))
    yield from machine.store().entries()


def test_delete_markers_on_everything_hide_nothing_from_a_recovery(
    machine: Machine, bucket: MemoryBucket
) -> None:
    sent = list(_copies(machine))
    for one in list(bucket.listed("")):
        bucket.delete(one.name)

    assert machine.store().entries() == ()
    assert machine.store().contents().gaps
    found = _behind(machine)
    assert [one.id for one in found.entries()] == [one.id for one in sent]
    assert [_read(found, one) for one in found.entries()] == [DATA, DATA]


def test_what_replaced_a_manifest_or_piece_hides_nothing_from_recovery(
    machine: Machine, bucket: MemoryBucket
) -> None:
    sent = list(_copies(machine))
    for one in list(bucket.listed("")):
        bucket._add(one.name, b"x" * one.size)
    for number in range(1000):
        bucket._add(f"{MANIFESTS}20990101T{number:06}Z_database_{number:032x}.age", b"bogus")

    found = _behind(machine)

    assert [one.id for one in found.entries()] == [one.id for one in sent]
    assert [_read(found, one) for one in found.entries()] == [DATA, DATA]


def test_a_piece_of_unknown_version_is_found_behind_a_delete_marker(
    machine: Machine, bucket: MemoryBucket
) -> None:
    copy = machine.send(artifact(1, DATA))
    piece = replace(copy.document.pieces[0], version="")
    bucket.delete(piece.name)

    assert remote_pieces.fetch(bucket, piece, "x") == bucket.contents[piece.name][0].data
    bucket.contents[piece.name].pop(0)
    with pytest.raises(RefnetError) as damaged:
        remote_pieces.fetch(bucket, piece, "x")
    assert damaged.value.code is Exit.DAMAGED


def test_a_deletion_removes_every_version_and_every_mark(machine: Machine, bucket: MemoryBucket) -> None:
    [copy, other] = _copies(machine)
    for one in list(bucket.listed("")):
        bucket.delete(one.name)
    with pytest.raises(BucketError) as locked:
        delete(_behind(machine), copy)
    assert locked.value.kind is BucketFailure.LOCKED
    assert len(_behind(machine).entries()) == 2

    bucket.lock = None
    delete(_behind(machine), copy)

    assert all(is_name(name) for name in bucket.contents if copy.id in name)
    assert [one.id for one in _behind(machine).entries()] == [other.id]


def test_pieces_of_a_manifest_behind_a_delete_marker_are_not_leftovers(
    machine: Machine, bucket: MemoryBucket
) -> None:
    machine.send(artifact(1, DATA))
    copy = machine.send(artifact(2, DATA[::-1]))
    bucket.delete(copy.object)
    bucket.contents = {
        name: [replace(one, created=one.created - timedelta(days=9)) for one in kept]
        for name, kept in bucket.contents.items()
    }

    assert machine.store().leftovers() == _behind(machine).leftovers() == ()

    bucket.contents[copy.object].clear()
    assert {one.name for one in machine.store().leftovers()} == {one.name for one in copy.document.pieces}


def test_a_look_behind_markers_costs_the_next_list_nothing(machine: Machine, bucket: MemoryBucket) -> None:
    copies = list(_copies(machine))
    assert {one.id for one in _behind(machine).entries()} == {one.id for one in copies}
    before = bucket.requests["get"]
    machine.store().entries()
    _behind(machine).entries()
    assert bucket.requests["get"] == before
