"""Copies and prunes of machines with the same keys avoid each other: whichever comes second stops, and nothing is lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact, cut_small, delete, objects

from refnet.actions.store import accept, plan_acceptance
from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Copy
from refnet.core.errors import Exit, RefnetError
from refnet.store import leases
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure
from refnet.store.local import LocalStore
from refnet.store.sealed import SealedStore

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)
#: Its first and third piece are those of DATA.
CHANGED = DATA[:PIECE] + DATA[PIECE - 1 :: -1] + DATA[2 * PIECE : 3 * PIECE] + b"another end"


@dataclass
class Hooked(MemoryBucket):
    """Calls `hook` once, before the first put or deletion of an object whose name contains `at`."""

    hook: Callable[[], None] | None = None
    at: str = ""
    fails: bool = False
    done: list[str] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> str:
        self._call(name)
        return super().put(name, data)

    def delete(self, name: str, *, version: str = "") -> None:
        self._call(name)
        super().delete(name, version=version)

    def _call(self, name: str) -> None:
        if self.hook and self.at in name:
            hook, self.hook = self.hook, None
            self.done.append(name)
            hook()
            if self.fails:
                raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")


@pytest.fixture
def bucket() -> Hooked:
    return Hooked(now=lambda: NOW)


@pytest.fixture
def machine(tmp_path: Path, bucket: Hooked, monkeypatch: pytest.MonkeyPatch) -> Machine:
    cut_small(monkeypatch, PIECE)
    return Machine(tmp_path / "home", bucket)


@pytest.fixture
def twin(machine: Machine, tmp_path: Path) -> Machine:
    """Another machine with the same keys."""
    assert machine.keys.signing_file.exists()
    shutil.copytree(machine.home / "keys", tmp_path / "twin" / "keys")
    return replace(machine, home=tmp_path / "twin", ticks=60)


def _prune(machine: Machine, *copies: Copy) -> None:
    """Delete copies as `refnet prune --store` does."""
    store = machine.store()
    with store.pruning({one.document.key for one in copies}):
        for one in copies:
            store.unpublish(one)
        for _, act in store.delete_pieces(copies):
            act()


def _whole(machine: Machine, *data: bytes) -> None:
    """The store has copies of `data`, whole, and no other piece."""
    copies = machine.store().entries()
    for copy, expected in zip(copies, data, strict=True):
        assert machine.fetch_back(copy).state == "fetched"
        with machine.store(key=True).artifact(copy).open() as reader:
            assert reader.read() == expected
    named = {piece.name for one in copies for piece in one.document.pieces}
    assert {name for name in objects(machine.bucket) if SharedName.read(name)} == named


@contextmanager
def _refused(*words: str) -> Iterator[None]:
    with pytest.raises(RefnetError) as caught:
        yield
    assert caught.value.code is Exit.LOCKED
    assert all(word in caught.value.message + caught.value.hint for word in words), caught.value


def _killed(machine: Machine, bucket: Hooked, at: str, number: int = 2, data: bytes = CHANGED) -> None:
    """A copy whose run ends before it puts an object `at`."""
    bucket.hook, bucket.at, bucket.fails = lambda: None, at, True
    with pytest.raises(BucketError):
        machine.send(artifact(number, data))
    bucket.fails = False


def test_a_published_copy_does_not_stop_a_prune(machine: Machine) -> None:
    first = machine.send(artifact(1, DATA))
    machine.send(artifact(2, CHANGED))
    _prune(machine, first)
    _whole(machine, CHANGED)


@pytest.mark.parametrize("at", ["/pieces/", "/manifests/"])
def test_a_prune_that_begins_while_a_copy_is_under_way_stops(
    machine: Machine, twin: Machine, bucket: Hooked, at: str
) -> None:
    first = machine.send(artifact(1, DATA))

    def prune() -> None:
        with _refused("cloud: a copy is under way since 2026-11-25 17:00 UTC", "refnet store accept cloud"):
            _prune(twin, first)

    bucket.hook, bucket.at = prune, at
    machine.send(artifact(2, CHANGED))

    assert bucket.done
    _whole(machine, DATA, CHANGED)
    _prune(machine, first)
    _whole(machine, CHANGED)


def test_a_copy_that_begins_while_a_prune_deletes_is_not_published(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))

    def copy() -> None:
        with _refused("cloud is being pruned since 2026-11-25 17:00 UTC", "refnet store accept cloud"):
            twin.send(artifact(2, CHANGED))

    bucket.hook, bucket.at = copy, "/pieces/"
    _prune(machine, first)

    assert bucket.done
    assert machine.store().entries() == ()
    there = {name for name in objects(bucket) if SharedName.read(name)}
    second = twin.send(artifact(2, CHANGED))
    assert {piece.name for piece in second.document.pieces} >= there
    _whole(twin, CHANGED)


def test_a_copy_that_waits_for_a_prune_sends_nothing_twice(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    key = machine.send(artifact(1, DATA)).document.key
    intent = f"{key}/intents/{'ab' * 16}"
    bucket.hook, bucket.at = lambda: bucket.put(intent, b"") and None, "/pieces/"
    with _refused("is being pruned"):
        twin.send(artifact(2, CHANGED))
    bucket.put(f"{intent}.end", b"")
    sent = bucket.requests["put"]
    twin.send(artifact(2, CHANGED))
    assert bucket.requests["put"] - sent == 1, "the manifest"
    _whole(twin, DATA, CHANGED)


def test_a_copy_of_the_same_bytes_waits_for_a_prune_too(machine: Machine, bucket: Hooked) -> None:
    key = machine.send(artifact(1, DATA)).document.key
    bucket.put(f"{key}/intents/{'ab' * 16}", b"")
    with _refused("is being pruned"):
        machine.send(artifact(2, DATA))
    bucket.put(f"{key}/intents/{'ab' * 16}.end", b"")
    machine.send(artifact(2, DATA))
    _whole(machine, DATA, DATA)


def test_a_copy_of_the_same_bytes_whose_lease_was_ended_at_once_is_not_published(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.send(artifact(1, DATA))
    begin = leases.lease

    def lease(bucket: Bucket, key: str, copy: str) -> None:
        begin(bucket, key, copy)
        leases.end_lease(bucket, key, copy)

    with monkeypatch.context() as patched:
        patched.setattr(leases, "lease", lease)
        with _refused("its lease was ended while it was under way"):
            machine.send(artifact(2, DATA))
    machine.send(artifact(2, DATA))
    _whole(machine, DATA, DATA)


@pytest.mark.parametrize("at", ["/pieces/", "/manifests/"])
def test_the_lease_of_a_dead_run_stops_a_prune_until_it_is_accepted(
    machine: Machine, twin: Machine, bucket: Hooked, at: str
) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(twin, bucket, at)
    with _refused("refnet store accept cloud"):
        _prune(machine, first)
    assert machine.fetch_back(first).state == "fetched"

    planned = plan_acceptance(machine.store())
    assert len(planned.leases) == 1
    assert accept(planned).accepted

    _prune(machine, first)
    assert machine.store().entries() == ()
    with pytest.raises(RefnetError, match="has no gap"):
        plan_acceptance(machine.store())


@pytest.mark.parametrize("at", ["/pieces/", "/manifests/"])
def test_a_run_that_continues_after_its_lease_was_ended_is_whole(
    machine: Machine, bucket: Hooked, at: str
) -> None:
    """The pieces that it was to share are gone by now."""
    first = machine.send(artifact(1, DATA))
    _killed(machine, bucket, at)
    accept(plan_acceptance(machine.store()))
    _prune(machine, first)

    machine.send(artifact(2, CHANGED))

    for copy in machine.store().entries():
        assert machine.fetch_back(copy).state == "fetched"
    assert any(one.state == "fetched" for one in machine.store().entries())


@pytest.mark.parametrize(
    ("data", "at"), [(CHANGED, "/pieces/"), (CHANGED, "/manifests/"), (DATA, "/manifests/")]
)
def test_a_run_that_continues_after_its_lease_was_ended_has_a_lease_again(
    machine: Machine, twin: Machine, bucket: Hooked, data: bytes, at: str
) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(machine, bucket, at, data=data)
    accept(plan_acceptance(machine.store()))

    def prune() -> None:
        with _refused("a copy is under way"):
            _prune(twin, first)

    bucket.hook, bucket.at = prune, "/manifests/"
    machine.send(artifact(2, data))

    assert machine.fetch_back(machine.store().entries()[-1]).state == "fetched"


def test_a_run_that_was_killed_continues_and_stops_no_prune_any_more(
    machine: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(machine, bucket, "/manifests/")
    machine.send(artifact(2, CHANGED))
    _whole(machine, DATA, CHANGED)
    _prune(machine, first)
    _whole(machine, CHANGED)


def test_a_prune_ends_the_lease_of_this_machines_copy_that_failed(machine: Machine, bucket: Hooked) -> None:
    first = machine.send(artifact(1, DATA))
    machine.send(artifact(2, DATA[:PIECE]))
    _killed(machine, bucket, "/pieces/", 3)

    _prune(machine, first)
    machine.send(artifact(3, CHANGED))

    _whole(machine, DATA[:PIECE], CHANGED)
    assert machine.store().unfinished() == ((), (), ())


def test_a_prune_says_how_old_the_lease_is_by_the_servers_clock(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(twin, bucket, "/pieces/")
    bucket.now = lambda: NOW + timedelta(hours=5)
    with _refused(
        "under way since 2026-11-25 17:00 UTC, 5 h ago by the server's clock", "Retry when it has ended."
    ):
        _prune(machine, first)
    bucket.now = lambda: NOW + timedelta(days=6)
    with _refused(
        "6 d ago by the server's clock, so no piece is deleted",
        "Its run was probably killed: look on the machines that send there; then: `refnet store accept cloud`.",
    ):
        _prune(machine, first)


def test_the_intent_of_a_killed_prune_counts_for_a_day(machine: Machine, bucket: Hooked) -> None:
    key = machine.send(artifact(1, DATA)).document.key
    bucket.put(f"{key}/intents/{'ab' * 16}", b"")
    with _refused("is being pruned"):
        machine.send(artifact(2, CHANGED))
    for minutes, is_open in ((24 * 60 - 5, True), (24 * 60 + 5, False)):
        machine.ticks = minutes
        bucket.now = lambda now=NOW + timedelta(minutes=minutes): now  # type: ignore[misc]
        with _refused("is being pruned") if is_open else nullcontext():
            machine.send(artifact(2, CHANGED))
    _whole(machine, DATA, CHANGED)
    assert machine.store().unfinished()[0] == (), "the lease that was begun a day ago has ended"


@pytest.mark.parametrize("at", ["", "/pieces/", "/manifests/"])
def test_a_clock_that_is_days_ahead_of_the_servers_hides_no_prune(
    machine: Machine, twin: Machine, bucket: Hooked, at: str
) -> None:
    """Of a copy that begins, and of one that continues after it had sent nothing, or all but its manifest."""
    kept, first = machine.send(artifact(0, DATA[:PIECE])), machine.send(artifact(1, DATA))
    if at:
        _killed(twin, bucket, at)
        accept(plan_acceptance(machine.store()))
    twin.ticks = 3 * 24 * 60

    def copy() -> None:
        with _refused("cloud is being pruned since 2026-11-25 17:00 UTC"):
            twin.send(artifact(2, CHANGED))

    bucket.hook, bucket.at = copy, "/pieces/"
    _prune(machine, first)

    assert bucket.done
    assert machine.store().entries() == (kept,)
    twin.send(artifact(2, CHANGED))
    _whole(twin, DATA[:PIECE], CHANGED)


def test_a_prune_that_takes_almost_a_day_stops_before_copies_forget_it(
    machine: Machine, bucket: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [machine.send(artifact(number, DATA)) for number in (1, 2)]
    store, began = machine.store(), leases.now_awake()
    with (
        _refused("the prune of cloud is stopped after 20 h", "the next prune continues"),
        store.pruning({copies[0].document.key}),
    ):
        store.unpublish(copies[0])
        monkeypatch.setattr(leases, "now_awake", lambda: began + 21 * 3600)  # the machine slept
        store.unpublish(copies[1])
    assert machine.store().entries() == (copies[1],)
    assert machine.store().contents().gaps == ()
    monkeypatch.undo()
    cut_small(monkeypatch, PIECE)
    _prune(machine, copies[1])
    assert objects(bucket) == []


def test_an_intent_of_a_damaged_record_counts_for_a_day_and_stops_no_prune(
    machine: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))
    record = machine.store().home / "intents.json"
    for content in (b"", b"{}", b'{"format":1,"intents":{"../x":"y"}}', None):
        record.write_bytes(content) if content is not None else record.mkdir()
        if content is None:
            with pytest.raises(RefnetError, match="Is a directory"):
                machine.send(artifact(2, CHANGED))
            record.rmdir()
        else:
            machine.send(artifact(2, CHANGED))
            assert not record.exists()
    _prune(machine, first)
    assert not record.exists()
    _whole(machine, CHANGED)


def test_a_copy_whose_name_something_else_took_sends_no_piece_again(machine: Machine, bucket: Hooked) -> None:
    """Who can write there sees the id of the copy in its lease, and guesses when its manifest comes."""
    first = machine.send(artifact(1, DATA))
    taken: list[str] = []

    def take() -> None:
        taken.append(bucket.done[-1])
        MemoryBucket.put(bucket, taken[0], b"bogus")

    bucket.hook, bucket.at = take, "/manifests/"
    with pytest.raises(BucketError) as refused:
        machine.send(artifact(2, CHANGED))
    assert refused.value.kind is BucketFailure.EXISTS
    sent = bucket.requests["put"]
    second = machine.send(artifact(2, CHANGED))
    assert bucket.requests["put"] - sent == 1, "the manifest"
    assert machine.store().entries() == (first, second)
    assert machine.fetch_back(second).state == "fetched"
    assert machine.store().unfinished()[0] == ()


def test_the_intent_of_a_killed_prune_can_be_ended(machine: Machine, bucket: Hooked) -> None:
    key = machine.send(artifact(1, DATA)).document.key
    bucket.put(f"{key}/intents/{'ab' * 16}", b"")
    with _refused("is being pruned", "If its run was killed: `refnet store accept cloud`."):
        machine.send(artifact(2, CHANGED))

    planned = plan_acceptance(machine.store())
    assert [one.id for one in planned.intents] == ["ab" * 16]
    accept(planned)
    machine.send(artifact(2, CHANGED))

    _whole(machine, DATA, CHANGED)
    assert machine.store().unfinished() == ((), (), ())


def test_a_prune_that_fails_ends_its_intent(machine: Machine, bucket: Hooked) -> None:
    first = machine.send(artifact(1, DATA))
    bucket.hook, bucket.at, bucket.fails = lambda: None, "/pieces/", True
    with pytest.raises(BucketError):
        _prune(machine, first)
    bucket.fails = False
    machine.send(artifact(2, CHANGED))
    assert [one.name for one in machine.store().entries()] == [artifact(2, b"").name]
    assert machine.fetch_back(machine.store().entries()[0]).state == "fetched"


def test_leases_and_intents_of_another_machine_stop_nothing(
    machine: Machine, bucket: Hooked, tmp_path: Path
) -> None:
    other = Machine(tmp_path / "other", bucket)
    theirs = other.send(artifact(1, DATA))
    _killed(other, bucket, "/manifests/")
    bucket.put(f"{theirs.document.key}/intents/{'ab' * 16}", b"")

    first = machine.send(artifact(1, DATA))
    machine.send(artifact(2, CHANGED))
    _prune(machine, first)

    [left] = machine.store().entries()
    assert machine.fetch_back(left).state == "fetched"
    assert other.fetch_back(theirs).state == "fetched"


def test_leases_and_intents_that_ended_are_leftovers_after_90_days(machine: Machine, bucket: Hooked) -> None:
    first = machine.send(artifact(1, DATA))
    _prune(machine, first)
    machine.send(artifact(2, DATA))
    key = first.document.key
    bucket.put(f"{key}/leases/{'ab' * 16}", b"")

    def ages(days: int) -> set[str]:
        for name, kept in bucket.contents.items():
            bucket.contents[name] = [replace(one, created=one.created - timedelta(days=days)) for one in kept]
        return {one.name for one in machine.store().leftovers()}

    for name, kept in bucket.contents.items():
        bucket.contents[name] = [replace(one, created=datetime.now(UTC)) for one in kept]
    assert ages(89) == set()
    left = ages(2)
    assert {name.split("/")[1] for name in left} == {"leases", "intents"}
    assert all(map(leases.is_name, left))
    assert f"{key}/leases/{'ab' * 16}" not in left, "it is open"
    for one in machine.store().leftovers():
        machine.store().clean(one)
    assert machine.store().leftovers() == ()
    assert machine.store().unfinished()[0]
    [copy] = machine.store().entries()
    with _refused("a copy is under way"):
        _prune(machine, copy)
    delete(machine.store(), copy)


@pytest.mark.parametrize(
    "name",
    [
        "", "leases/", f"{'ab' * 16}/leases/", f"{'ab' * 16}/leases/{'cd' * 15}", f"{'ab' * 16}/leases/{'cd' * 16}.age",
        f"{'ab' * 16}/leases/{'cd' * 16}.end\n", f"{'ab' * 16}/pieces/{'cd' * 16}", f"leases/{'cd' * 16}",
        f"{'ab' * 16}/leases/../{'cd' * 16}", f"{'ab' * 16}/leases/{'CD' * 16}",
    ],
)  # fmt: skip
def test_other_names_are_not_of_leases(name: str, machine: Machine, bucket: Hooked) -> None:
    assert not leases.is_name(name)
    first = machine.send(artifact(1, DATA))
    if name.strip() == name and name and not name.endswith("/") and ".." not in name:
        bucket.put(name, b"")
    _prune(machine, first)
    assert machine.store().entries() == ()


def test_a_copy_that_lists_while_a_prune_deletes_and_ends_later_is_whole(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))
    store = machine.store()
    prune = store.pruning({first.document.key})

    def end() -> None:
        for _, act in store.delete_pieces([first]):
            act()
        prune.__exit__(None, None, None)

    def begin() -> None:
        prune.__enter__()
        store.unpublish(first)
        bucket.hook, bucket.at = end, "/pieces/"

    bucket.hook, bucket.at = begin, "/leases/"
    with _refused("is being pruned"):
        twin.send(artifact(2, CHANGED))
    end()
    twin.send(artifact(2, CHANGED))
    _whole(twin, CHANGED)


def test_a_run_that_had_sent_no_piece_when_its_lease_was_ended_has_a_lease_again(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(machine, bucket, "/manifests/", data=DATA)
    accept(plan_acceptance(machine.store()))

    def prune() -> None:
        with _refused("a copy is under way"):
            _prune(twin, first)

    bucket.hook, bucket.at = prune, "/manifests/"
    machine.send(artifact(2, DATA))
    _whole(machine, DATA, DATA)


def test_a_copy_whose_lease_is_ended_meanwhile_is_not_published(
    machine: Machine, twin: Machine, bucket: Hooked
) -> None:
    first = machine.send(artifact(1, DATA))

    def prune() -> None:
        accept(plan_acceptance(twin.store()))
        _prune(twin, first)

    bucket.hook, bucket.at = prune, "/pieces/"
    with _refused("its lease was ended", "Retry"):
        machine.send(artifact(2, CHANGED))
    machine.send(artifact(2, CHANGED))
    _whole(machine, CHANGED)


def test_a_copy_that_waits_for_its_manifest_is_whole_after_a_deletion_in_the_encrypted_backup_folder(
    machine: Machine, bucket: Hooked, tmp_path: Path
) -> None:
    machine.name = "local"
    first = machine.fetch_back(machine.send(artifact(1, DATA)))
    _killed(machine, bucket, "/manifests/")
    (tmp_path / "backups").mkdir()
    store = machine.store()
    sealed = SealedStore(store.name, bucket, store.home, store.trust)
    sealed.folder = LocalStore(tmp_path / "backups")
    sealed.delete(first)

    machine.send(artifact(2, CHANGED))

    _whole(machine, CHANGED)


def test_a_damaged_artifact_that_is_not_copied_stops_no_prune(machine: Machine) -> None:
    first = machine.send(artifact(1, DATA))
    for _ in range(2):
        with pytest.raises(RefnetError, match="is damaged"):
            machine.send(artifact(2, CHANGED, sha256="00" * 32))
    _prune(machine, first)
    assert machine.store().entries() == ()


def test_a_copy_that_another_signer_made_and_left_stops_no_prune(machine: Machine, bucket: Hooked) -> None:
    first = machine.send(artifact(1, DATA))
    _killed(machine, bucket, "/manifests/")
    machine.trusted = (machine.keys.signer().fingerprint,)
    machine.keys.signing_file.unlink()
    del machine.keys
    third = machine.send(artifact(3, DATA[::-1]))
    _prune(machine, first)
    assert machine.store().entries() == (third,)
