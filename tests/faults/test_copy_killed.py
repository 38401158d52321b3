"""kill -9 before and after every object that a copy sends or a deletion removes: the next run continues, nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact, cut_small, delete, objects

from refnet.catalog.remote import Copy
from refnet.store.buckets.folder import FolderBucket

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)
#: The lease, four pieces and the manifest.
OBJECTS = 6
#: The first and the third piece are those of DATA; so a copy of it sends the second, the last one and its manifest.
CHANGED = DATA[:PIECE] + DATA[PIECE - 1 :: -1] + DATA[2 * PIECE : 3 * PIECE] + b"another end"
NEW_OBJECTS = 4
#: What a prune of the copy of DATA changes: its intent, a lease, a manifest, two pieces, the end of the intent.
PRUNED = 6


class _Killing(FolderBucket):
    """Kills its process at the put or the deletion number `at`, before or after it."""

    at, after, count = 0, False, 0

    def put(self, name: str, data: bytes) -> str:
        with self._killing():
            return super().put(name, data)

    def delete(self, name: str, *, version: str = "") -> None:
        with self._killing():
            super().delete(name, version=version)

    @contextmanager
    def _killing(self) -> Iterator[None]:
        number, self.count = self.count, self.count + 1
        if number == self.at and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        yield
        if number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    cut_small(monkeypatch, PIECE)
    (tmp_path / "bucket").mkdir(mode=0o700)
    return Machine(tmp_path / "home", FolderBucket(tmp_path / "bucket"))


def _killed(machine: Machine, at: int, after: bool, act: Callable[[], object]) -> None:
    """Kill `act` at the change number `at` of the bucket."""
    bucket = machine.bucket
    assert isinstance(bucket, FolderBucket)
    killing = _Killing(bucket.root)
    killing.at, killing.after, machine.bucket = at, after, killing
    if (child := os.fork()) == 0:
        act()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    machine.bucket = bucket


def _whole(machine: Machine, *copies: Copy) -> None:
    """The store has these copies, and not one object more."""
    assert machine.store().entries() == copies
    named = (piece.name for one in copies for piece in one.document.pieces)
    assert set(objects(machine.bucket)) == {*(one.object for one in copies), *named}
    assert machine.store().leftovers() == ()
    assert machine.store().contents().gaps == ()
    assert list((machine.store().home / "sending").iterdir()) == []


def _read(machine: Machine, copy: Copy) -> bytes:
    with machine.store(key=True).artifact(copy).open() as reader:
        return reader.read()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(OBJECTS))
def test_a_killed_copy_continues(machine: Machine, at: int, after: bool) -> None:
    earlier = machine.send(artifact(0, b"an earlier one"))
    _killed(machine, at, after, lambda: machine.send(artifact(1, DATA)))

    seen = [one.name for one in machine.store().entries()]
    assert seen in ([earlier.name], [earlier.name, artifact(1, DATA).name])
    assert machine.store().contents().gaps == () or at == OBJECTS - 1
    copy = machine.fetch_back(machine.send(artifact(1, DATA)))
    assert copy.state == "fetched"
    _whole(machine, earlier, copy)
    assert _read(machine, copy) == DATA


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(NEW_OBJECTS))
def test_a_killed_copy_that_shares_pieces_continues(machine: Machine, at: int, after: bool) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(machine, at, after, lambda: machine.send(artifact(2, CHANGED)))

    assert _read(machine, first) == DATA
    second = machine.send(artifact(2, CHANGED))
    shared = {*first.document.pieces} & {*second.document.pieces}
    assert (len(shared), len(second.document.pieces)) == (2, 4)
    _whole(machine, first, second)
    assert _read(machine, second) == CHANGED
    assert [machine.fetch_back(one).state for one in (first, second)] == ["fetched"] * 2


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(NEW_OBJECTS - 1))
def test_a_killed_deletion_of_a_copy_that_shares_pieces_leaves_the_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    first, second = machine.send(artifact(1, DATA)), machine.send(artifact(2, CHANGED))
    _killed(machine, at, after, lambda: delete(machine.store(), first))

    assert second in machine.store().entries()
    assert _read(machine, second) == CHANGED
    monkeypatch.setattr("refnet.store.remote._ON_THE_WAY", timedelta())
    if first in machine.store().entries():
        delete(machine.store(), first)
    for one in machine.store().leftovers():
        machine.store().clean(one)
    _whole(machine, second)
    assert machine.fetch_back(second).state == "fetched"


def _prune(machine: Machine, copy: Copy) -> None:
    """Delete a copy as `refnet prune --store` does."""
    store = machine.store()
    with store.alone(seconds=0.0), store.pruning({copy.document.key}):
        delete(store, copy)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(PRUNED))
def test_a_killed_prune_stops_neither_the_next_copy_nor_the_next_prune(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    """Also one that was killed before it had said that it ended: this machine knows that none of its prunes runs."""
    first, second = machine.send(artifact(1, DATA)), machine.send(artifact(2, CHANGED))
    _killed(machine, at, after, lambda: _prune(machine, first))

    third = machine.fetch_back(machine.send(artifact(3, DATA)))

    assert third.state == "fetched"
    if first in machine.store().entries():
        _prune(machine, first)
    _prune(machine, second)
    monkeypatch.setattr("refnet.store.remote._ON_THE_WAY", timedelta())
    for one in machine.store().leftovers():
        machine.store().clean(one)
    _whole(machine, third)
    assert _read(machine, third) == DATA
    assert machine.store().unfinished() == ((), (), ())
