"""Pieces that several copies share stay while one names them, and go with the last one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, delete, objects
from tests.shared_pieces import (
    DATA,
    DAY,
    MOST_BLOCK,
    memory,
    named,
    pieces_in,
    read,
    send,
)

from refnet.core.errors import Exit, RefnetError

pytestmark = pytest.mark.usefixtures("fine_cuts")


def test_deleting_one_of_two_copies_keeps_what_the_other_names(machine: Machine) -> None:
    middle = len(DATA) // 2
    first, second = send(machine, 1), send(machine, 2, DATA[:middle] + b"changed" + DATA[middle:])

    delete(machine.store(), first.copy)

    assert pieces_in(machine) == named(second.copy)
    assert machine.fetch_back(second.copy).state == "fetched"
    assert read(machine, second.copy) == DATA[:middle] + b"changed" + DATA[middle:]
    assert machine.store().contents().gaps == ()
    assert send(machine, 3).size <= 5 * MOST_BLOCK


def test_deleting_both_copies_leaves_nothing(machine: Machine) -> None:
    copies = [send(machine, number).copy for number in (1, 2)]
    for one in copies:
        delete(machine.store(), one)
    assert objects(machine.bucket) == []
    assert machine.store().leftovers() == ()
    assert machine.store().contents().gaps == ()
    assert send(machine, 3).copy.document.counter == 3


def test_copies_that_are_deleted_together_leave_nothing(machine: Machine) -> None:
    copies = [send(machine, number).copy for number in (1, 2, 3)]
    store = machine.store()
    for one in copies[:2]:
        store.unpublish(one)
    for _, act in store.delete_pieces(copies[:2]):
        act()
    assert pieces_in(machine) == named(copies[2])
    delete(machine.store(), copies[2])
    assert objects(machine.bucket) == []


def _bogus(machine: Machine, key: str, data: bytes = b"bogus") -> str:
    name = f"{key}/manifests/20261201T000000Z_database_{'ab' * 16}.age"
    machine.bucket.put(name, data)
    return name


@pytest.mark.parametrize("kind", ["bogus", "of another signer", "for other keys", "no manifest's name"])
def test_a_manifest_below_our_key_that_cannot_be_read_stops_the_deletion_of_pieces(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    first, second = send(machine, 1), send(machine, 2, DATA[::-1])
    key = first.copy.document.key
    if kind == "of another signer":
        thief = Machine(tmp_path / "thief", MemoryBucket(), machine.recovery)
        thief.keys.catalog_file.write_bytes(machine.keys.catalog_file.read_bytes())
        name = thief.send(artifact(3, b"theirs")).object
        machine.bucket.put(name, thief.bucket.get(name, 1 << 20))
    elif kind == "for other keys":
        other = Machine(tmp_path / "other", MemoryBucket())
        name = _bogus(machine, key, other.bucket.get(other.send(artifact(3, b"x")).object, 1 << 20))
    elif kind == "bogus":
        name = _bogus(machine, key)
    else:
        name = f"{key}/manifests/odd"
        machine.bucket.put(name, b"odd")

    with pytest.raises(RefnetError) as caught:
        delete(machine.store(), first.copy)

    assert caught.value.code is Exit.UNVERIFIED == 3
    assert name in caught.value.message
    assert pieces_in(machine) == named(first.copy, second.copy), "not one piece was deleted"
    assert machine.store().entries() == (second.copy,)
    assert machine.store().leftovers() == ()
    machine.bucket.delete(name)
    delete(machine.store(), second.copy)
    assert pieces_in(machine) == named(first.copy), "a leftover, once it is old enough"


def test_another_machines_folder_neither_blocks_nor_counts(machine: Machine, tmp_path: Path) -> None:
    other = Machine(tmp_path / "other", machine.bucket)
    theirs = send(other, 1)
    first, second = send(machine, 1), send(machine, 2)
    _bogus(machine, theirs.copy.document.key)
    assert machine.store().contents().unlisted == ()
    assert machine.store().contents().gaps == ()

    for one in (first, second):
        delete(machine.store(), one.copy)

    assert set(objects(machine.bucket)) >= {theirs.copy.object, *named(theirs.copy)}
    assert pieces_in(machine) == named(theirs.copy)
    assert machine.store().leftovers() == ()
    assert other.fetch_back(theirs.copy).state == "fetched"


def test_the_manifests_of_other_machines_are_not_fetched(machine: Machine, tmp_path: Path) -> None:
    mine, other = machine.send(artifact(1, b"mine")), Machine(tmp_path / "other", machine.bucket)
    for number in range(3):
        other.send(artifact(number, b"x"))
    for number in range(100):
        memory(machine).put(f"{number:032x}/manifests/bogus", b"bogus")
    bucket = memory(machine)
    for versions in (False, True):
        bucket.requests.clear()
        store = machine.store().with_versions() if versions else machine.store()
        assert [one.id for one in store.entries()] == [mine.id]
        assert bucket.requests["get"] <= 1
        assert bucket.requests["list"] + bucket.requests["versions"] + bucket.requests["folders"] <= 3
    recovery = replace(other, recovery=machine.recovery).store(key=True, any_signer=True)
    assert len(recovery.entries()) == 4, "a recovery key may open all"


def test_a_young_piece_that_nothing_names_is_not_a_leftover_for_two_days(machine: Machine) -> None:
    """Another machine with the same keys may be sending it."""
    copy = machine.send(artifact(1, DATA))
    machine.bucket.delete(copy.object)
    assert machine.store().leftovers() == ()
    bucket = memory(machine)
    bucket.contents = {
        name: [replace(one, created=one.created - 3 * DAY) for one in kept]
        for name, kept in bucket.contents.items()
    }
    left = {one.name: one for one in machine.store().leftovers()}
    assert set(left) == named(copy)
    for one in left.values():
        machine.store().clean(one)
    assert objects(machine.bucket) == []
