"""Copies that share pieces on a real S3 server: beside prunes of another machine, and after somebody deleted or wrote there."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.remote_store import Machine, artifact, cut_small, objects
from tests.seaweed import BUCKET, LOCKED, Seaweed
from tests.shared_pieces import named, pieces_in, read

from refnet.actions.store import accept, plan_acceptance
from refnet.catalog.remote import Copy
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.copy_checks import sample_back
from refnet.store.remote import RemoteStore

PIECE = 64 << 10
DATA = random.Random(1).randbytes(6 * PIECE + 7)
#: Its pieces are those of DATA, but for the second one and the last one.
CHANGED = DATA[:PIECE] + DATA[PIECE - 1 :: -1] + DATA[2 * PIECE : 6 * PIECE] + b"another end"


@dataclass
class Hooked:
    """Calls `hook` once, before the first put or deletion of an object whose name contains `at`."""

    inner: CloudBucket
    hook: Callable[[], None] | None = None
    at: str = ""
    done: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, name: str, data: bytes) -> str:
        self._call(name)
        return self.inner.put(name, data)

    def delete(self, name: str, *, version: str = "") -> None:
        self._call(name)
        self.inner.delete(name, version=version)

    def _call(self, name: str) -> None:
        if self.hook and self.at in name:
            hook, self.hook = self.hook, None
            self.done.append(name)
            hook()


@dataclass
class Place:
    """Two machines with the same keys, and the credentials of one prefix."""

    machine: Machine
    twin: Machine
    admin: CloudBucket
    pruner: Hooked
    writer: Hooked

    def store(self, machine: Machine) -> RemoteStore:
        """The store as a prune opens it."""
        return machine.store().with_versions(self.pruner)

    def prune(self, machine: Machine, *copies: Copy) -> None:
        """Delete copies as `refnet prune --store` does."""
        store = self.store(machine)
        with store.alone(seconds=0.0), store.pruning({one.document.key for one in copies}):
            for one in copies:
                store.unpublish(one)
            for _, act in store.delete_pieces(copies):
                act()

    def whole(self, *data: bytes) -> None:
        """The store has copies of `data`, whole, and no other piece in any version."""
        copies = self.machine.store().entries()
        assert [self.machine.fetch_back(one).state for one in copies] == ["fetched"] * len(data)
        assert [read(self.machine, one) for one in copies] == [*data]
        there = {one.name for one in self.admin.versions("") if "/pieces/" in one.name}
        assert there == named(*copies)


@pytest.fixture(params=[BUCKET, LOCKED])
def place(
    s3: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Place:
    cut_small(monkeypatch, PIECE)
    prefix, of = secrets.token_hex(8), {"bucket": request.param}
    writer = Hooked(s3.bucket(prefix, credential=s3.machine, **of))  # type: ignore[arg-type]
    machine = Machine(tmp_path / "home", writer)
    assert machine.keys.signing_file.exists()
    shutil.copytree(machine.home / "keys", tmp_path / "twin" / "keys")
    twin = replace(machine, home=tmp_path / "twin", ticks=60)
    pruner = Hooked(s3.bucket(prefix, credential=s3.pruner, **of))  # type: ignore[arg-type]
    return Place(machine, twin, s3.bucket(prefix, **of), pruner, writer)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", ["/pieces/", "/manifests/"])
def test_a_prune_of_another_machine_stops_beside_a_copy(place: Place, at: str) -> None:
    first = place.machine.send(artifact(1, DATA))

    def prune() -> None:
        with pytest.raises(RefnetError, match="a copy is under way") as stopped:
            place.prune(place.twin, first)
        assert stopped.value.code is Exit.LOCKED

    place.writer.hook, place.writer.at = prune, at
    place.machine.send(artifact(2, CHANGED))

    assert place.writer.done
    place.whole(DATA, CHANGED)
    place.prune(place.twin, first)
    place.whole(CHANGED)


def test_a_copy_of_another_machine_that_begins_while_a_prune_deletes_is_not_published(place: Place) -> None:
    first = place.machine.send(artifact(1, DATA))

    def copy() -> None:
        with pytest.raises(RefnetError, match="is being pruned since") as stopped:
            place.twin.send(artifact(2, CHANGED))
        assert stopped.value.code is Exit.LOCKED

    place.pruner.hook, place.pruner.at = copy, "/pieces/"
    place.prune(place.machine, first)

    assert place.pruner.done
    assert place.machine.store().entries() == ()
    place.twin.send(artifact(2, CHANGED))
    place.whole(CHANGED)


def test_what_somebody_with_all_rights_deletes_is_said_and_sent_again(place: Place) -> None:
    copies = [place.machine.send(artifact(number, DATA)) for number in (1, 2, 3)]
    lost = {one.name for one in copies[0].document.pieces[::2]}
    for one in [*place.admin.versions("")]:
        if one.name in lost or one.name == copies[1].object:
            place.admin.delete(one.name, version=one.id)

    sent = place.machine.sent(artifact(4, CHANGED))
    found = sample_back(place.machine.store(), sent.others, place.machine.now, unlisted=sent.unlisted)

    assert sent.unlisted == lost
    assert found
    assert {one.id: one.state for one in place.machine.store().entries()} == {
        copies[0].id: "damaged",
        copies[2].id: "damaged",
        sent.copy.id: "sent",
    }
    assert "missing: number 2" in place.machine.store().contents().gaps[0].why
    assert not lost & named(sent.copy)
    assert place.machine.fetch_back(sent.copy).state == "fetched"
    assert read(place.machine, sent.copy) == CHANGED


def test_a_bogus_manifest_in_the_own_folder_stops_the_deletion_of_pieces_and_one_elsewhere_nothing(
    place: Place, tmp_path: Path
) -> None:
    first, second = place.machine.send(artifact(1, DATA)), place.machine.send(artifact(2, CHANGED))
    name = f"manifests/20301201T000000Z_database_{'ab' * 16}.age"
    place.admin.put(f"{'cd' * 16}/{name}", b"bogus")
    place.admin.put(f"{'cd' * 16}/intents/{'ab' * 16}", b"")
    place.admin.put(f"{'cd' * 16}/leases/{'ab' * 16}", b"")
    other = Machine(tmp_path / "other", place.writer, place.machine.recovery)
    theirs = other.send(artifact(1, DATA))
    place.prune(place.machine, first)
    assert pieces_in(place.machine) == named(second) | named(theirs)

    bogus = f"{second.document.key}/{name}"
    place.admin.put(bogus, b"bogus")
    third = place.machine.send(artifact(3, DATA))
    with pytest.raises(RefnetError, match=bogus) as stopped:
        place.prune(place.machine, second)
    assert stopped.value.code is Exit.UNVERIFIED
    assert pieces_in(place.machine) >= named(second)
    accept(plan_acceptance(place.machine.store()))
    place.prune(place.machine, third)
    assert other.fetch_back(theirs).state == "fetched"
    assert place.machine.store().entries() == ()
    assert bogus in objects(place.admin)
