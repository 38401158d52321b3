"""Prune of a remote store: by the later of the clocks, manifests before pieces, and never what was hidden or cannot be trusted."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import Content, MemoryBucket
from tests.remote_store import NOW, PROOF, Machine, artifact, cut_small, objects, send_format_1

from refnet.actions import prune, store_stats
from refnet.actions.prune import StorePlan, prune_store, prune_stores
from refnet.actions.store import accept, plan_acceptance
from refnet.actions.store_stats import stats
from refnet.catalog.remote import Copy
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.settings.stores import StoreRetention, StoreSettings
from refnet.store import remote
from refnet.store.buckets import opening
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored
from refnet.store.leases import is_name
from refnet.store.store_check import CHECKS

DAY = timedelta(days=1)
DATABASE = [SourceName.DATABASE]


@dataclass
class Place:
    """A machine, its bucket, and its time."""

    folder: Path
    bucket: MemoryBucket = field(default_factory=lambda: MemoryBucket(versioned=True))

    def __post_init__(self) -> None:
        self.at(0)
        self.machine = Machine(self.folder, self.bucket)

    def at(self, days: float, server: float | None = None) -> None:
        """Set the clocks: of the machine, and of the bucket's server if it is another."""
        self.time = NOW + days * DAY
        there = NOW + (days if server is None else server) * DAY
        self.bucket.now = lambda: there

    @property
    def now(self) -> Callable[[], datetime]:
        return lambda: self.time

    def send(self, number: int, *, fetch: bool = False, prove: bool = False) -> Copy:
        copy = self.sent(number, self.machine)
        copy = self.machine.fetch_back(copy) if fetch else copy
        if prove:
            self.machine.store().record(copy, PROOF)
        return copy

    def sent(self, number: int, machine: Machine) -> Copy:
        machine.ticks = int((self.time - NOW).total_seconds() / 60)
        return machine.send(artifact(number, b"x" * number))

    def prune(self, *, plan: bool = False) -> StorePlan:
        return prune_store(self.context, "cloud", [*DATABASE], plan=plan)

    @property
    def context(self) -> Context:
        week = StoreRetention(None, {"database": Retention(days=7)})
        store = replace(StoreSettings.from_url("file:///nas"), name="cloud", retention=week)
        settings = Settings(home=self.folder, backup_dir=self.folder / "backups", stores={"cloud": store})
        return Context(settings, clock=Clock(now=self.now))

    def names(self) -> list[str]:
        """The artifacts whose manifests are there, in any version."""
        return [one.name for one in self.machine.store().with_versions().entries()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path)
    for module in (opening, prune):
        monkeypatch.setattr(module, "open_bucket", lambda _store, **_: found.bucket)
    return found


def deleted(found: StorePlan) -> list[str]:
    return [one.entry.name for one in found.deleted]


def stored(place: Place) -> int:
    """Bytes of the manifests and pieces, in every version."""
    found = [name for name in place.bucket.contents if name in objects(place.bucket)]
    return sum(len(one.data or b"") for name in found for one in place.bucket.contents[name])


def test_what_retention_does_not_keep_goes_with_every_version(place: Place) -> None:
    copies = []
    for day in range(1, 5):
        place.at(day)
        copies.append(place.send(day, fetch=day == 3, prove=day == 2))
    place.bucket.delete(copies[0].object)
    place.at(40)

    planned = place.prune(plan=True)
    assert deleted(planned) == [copies[0].name]
    assert {one.entry.name: one.reasons for one in planned.decisions if one.keep} == {
        copies[1].name: ("the last proven one",),
        copies[2].name: ("the newest that was read back",),
        copies[3].name: ("the newest complete one",),
    }
    assert len(place.names()) == 4

    manifest = len(place.bucket.contents[copies[0].object][0].data)
    done = place.prune()
    assert done.to_json()["bytes_freed"] == copies[0].document.size + manifest
    assert place.names() == [one.name for one in copies[1:]]
    assert all(is_name(name) for name in place.bucket.contents if copies[0].id in name)
    assert place.machine.store().contents().gaps == ()
    assert place.prune().deleted == ()


def test_a_prune_has_no_request_for_each_object_but_its_deletion(place: Place) -> None:
    for number in range(1, 21):
        place.at(1 + number / 100)
        place.send(number)
    place.at(40)
    asked = place.bucket.requests.copy()

    done = prune_store(place.context, "cloud", [*DATABASE], much=True)

    asked = place.bucket.requests - asked
    gone = len(done.deleted)
    assert gone >= 17
    assert asked["delete"] == 3 * gone, "a manifest, a lease and a piece of each"
    assert asked["versions"] + asked["list"] + asked["folders"] < gone


@pytest.mark.parametrize("off", [30 / 1440, -30 / 1440, 365.0, -365.0])
def test_the_later_clock_decides_about_the_age(place: Place, off: float) -> None:
    """A machine whose clock is wrong sends three copies; then its clock is right."""
    for number in (1, 2, 3):
        place.at(number + off, server=number)
        place.send(number, prove=True)
    place.at(6)

    assert place.prune().deleted == ()

    place.at(30)
    kept = place.prune()
    if off > 1:
        assert kept.deleted == ()
        assert kept.decisions[0].reasons == ("dated in the future",)
        place.at(30 + off)
        assert len(place.prune().deleted) == 2
    else:
        assert len(kept.deleted) == 2
    assert len(place.names()) == 1


def test_an_old_artifact_that_was_sent_yesterday_is_a_day_old_there(place: Place) -> None:
    place.at(100)
    for number in (1, 2, 3):
        place.send(number)
    place.at(101)
    assert place.prune().deleted == ()
    assert place.prune(plan=True).decisions[0].reasons == ("younger than 7 days",)
    place.at(108.5)
    assert len(place.prune().deleted) == 2


def test_what_is_still_locked_is_a_result_and_stays_complete(place: Place) -> None:
    place.bucket.lock = 30 * DAY
    for number in (1, 2):
        place.at(number)
        place.send(number)
    place.at(20)

    found = place.prune()

    assert deleted(found) == []
    assert [one.name for one in found.locked] == [artifact(1, b"").name]
    assert "is locked until 2026-12-26" in found.locked[0].why
    assert len(place.names()) == 2
    assert place.machine.store().contents().gaps == ()
    place.at(40)
    assert len(deleted(place.prune())) == 1


def test_newer_copies_of_an_unknown_signer_push_nothing_out_and_stay(place: Place, tmp_path: Path) -> None:
    place.send(1, prove=True)
    other = Machine(tmp_path / "other", place.bucket, place.machine.recovery)
    for number in range(2, 12):
        place.sent(number, other)
    place.at(400)

    found = place.prune()

    assert (deleted(found), found.unlisted, found.leftovers) == ([], (), ())
    assert found.decisions[0].reasons[0] == "the last proven one"


def test_delete_markers_on_manifests_do_not_make_prune_remove_pieces(place: Place) -> None:
    copies = [place.send(number) for number in (1, 2)]
    for one in list(place.bucket.listed("")):
        place.bucket.delete(one.name)
    place.at(5)

    found = place.prune()

    assert (found.deleted, found.leftovers) == ((), ())
    store = place.machine.store(key=True).with_versions()
    for copy in copies:
        with store.artifact(copy).open() as reader:
            assert reader.read()


def test_an_interrupted_prune_leaves_pieces_that_the_next_one_removes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        place.send(number)
    place.at(40)
    delete = MemoryBucket.delete

    def stopped(bucket: MemoryBucket, name: str, *, version: str = "") -> None:
        if "/pieces/" in name:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        delete(bucket, name, version=version)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryBucket, "delete", stopped)
        with pytest.raises(BucketError):
            place.prune()
    assert len(place.names()) == 1
    assert place.machine.store().contents().gaps == ()
    store = place.machine.store().with_versions()
    assert len(store.leftovers()) == 2

    place.bucket.put("check/" + "0" * 32, b"young")
    place.bucket.contents["check/" + "1" * 32] = [Content(b"old", "v", NOW - 40 * DAY)]

    found = prune_store(place.context, "cloud", [*DATABASE, SourceName.CONFIG, SourceName.OBSIDIAN])
    left = ["named by no copy"] * 2
    assert [one.why for one in found.cleaned] == [*left, "of a check of the store"]
    assert [one.why for one in store.leftovers()] == []
    assert len([name for name in place.bucket.contents if not is_name(name)]) == 3


def test_a_prune_that_fails_says_that_it_ended_only_when_no_deletion_is_on_its_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a copy that begins then could share what is deleted a moment later."""
    for number in range(1, 5):
        place.send(number)
    place.at(40)
    delete, put, running, left = MemoryBucket.delete, MemoryBucket.put, set[str](), list[int]()
    failed = threading.Event()

    def slow(bucket: MemoryBucket, name: str, *, version: str = "") -> None:
        if "/pieces/" in name and not running:
            running.add(name)
            failed.set()
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        if "/pieces/" in name:
            running.add(name)
            failed.wait()
            time.sleep(0.2)
        delete(bucket, name, version=version)
        running.discard(name)

    def ended(bucket: MemoryBucket, name: str, data: bytes) -> str:
        if name.endswith(".end"):
            left.append(len(running) - 1)
        return put(bucket, name, data)

    monkeypatch.setattr(MemoryBucket, "delete", slow)
    monkeypatch.setattr(MemoryBucket, "put", ended)
    with pytest.raises(BucketError, match="no answer"):
        place.prune()
    assert left == [0]


ALL = [*DATABASE, SourceName.CONFIG, SourceName.OBSIDIAN]


def test_a_manifest_that_cannot_be_read_stops_the_deletion_of_pieces_until_it_is_accepted(
    place: Place,
) -> None:
    """Whoever wrote it names it below this machine's key: it may name every piece."""
    first, second = place.send(1), place.send(2)
    bogus = f"{first.document.key}/manifests/20261201T000000Z_database_{'ab' * 16}.age"
    place.bucket.put(bogus, b"bogus")
    place.at(40)
    with pytest.raises(RefnetError) as stopped:
        place.prune()
    assert stopped.value.code is Exit.UNVERIFIED
    assert bogus in stopped.value.message
    assert "refnet store accept cloud" in stopped.value.hint
    there = {name for name in objects(place.bucket) if "/pieces/" in name}
    assert there == {one.document.pieces[0].name for one in (first, second)}
    assert [one.name for one in prune_store(place.context, "cloud", ALL).unlisted] == [bogus]
    assert {name for name in objects(place.bucket) if "/pieces/" in name} == there

    accepted = accept(plan_acceptance(place.machine.store()))

    assert [one.name for one in accepted.unreadable] == [bogus]
    found = prune_store(place.context, "cloud", ALL)
    assert [one.name for one in found.cleaned] == [first.document.pieces[0].name]
    assert second.document.pieces[0].name in objects(place.bucket)
    assert bogus in objects(place.bucket)


def test_a_manifest_that_cannot_be_read_and_is_hidden_is_accepted_too(place: Place) -> None:
    first, _ = place.send(1), place.send(2)
    bogus = f"{first.document.key}/manifests/20261201T000000Z_database_{'ab' * 16}.age"
    place.bucket.put(bogus, b"bogus")
    place.bucket.delete(bogus)
    place.at(40)
    with pytest.raises(RefnetError, match="no piece is deleted"):
        place.prune()

    accepted = accept(plan_acceptance(place.machine.store()))

    assert [one.name for one in accepted.unreadable] == [bogus]
    found = prune_store(place.context, "cloud", ALL)
    assert [one.name for one in found.cleaned] == [first.document.pieces[0].name]


def test_a_manifest_with_a_very_long_name_stops_nothing_once_it_is_accepted(place: Place) -> None:
    first, _ = place.send(1), place.send(2)
    bogus = f"{first.document.key}/manifests/{'x' * 400}"
    place.bucket.put(bogus, b"bogus")
    place.at(40)
    accept(plan_acceptance(place.machine.store()))
    assert deleted(place.prune()) == [first.name]
    assert first.document.pieces[0].name not in objects(place.bucket)


def test_twenty_thousand_manifests_are_accepted(place: Place) -> None:
    names = {f"{number:0200}" for number in range(20_000)}
    place.machine.store().records.accept(names)
    assert place.machine.store().records.accepted() == names


def test_too_many_manifests_to_accept_are_refused_and_nothing_is_forgotten(place: Place) -> None:
    records = place.machine.store().records
    records.accept({"earlier"})
    with pytest.raises(RefnetError, match="100,001 manifests cannot be read, and at most 100,000"):
        records.accept(f"{number}" for number in range(100_000))
    assert records.accepted() == {"earlier"}


def test_a_piece_of_a_copy_that_is_published_after_the_plan_is_no_leftover(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run with the same keys that was killed days ago, and continues now."""
    place.send(1)
    shutil.copytree(place.machine.home / "keys", tmp_path / "twin" / "keys")
    twin = replace(place.machine, home=tmp_path / "twin", ticks=60)
    put, listed, plans = MemoryBucket.put, MemoryBucket.listed, 0

    def fails(bucket: MemoryBucket, name: str, data: bytes) -> str:
        if "/manifests/" in name:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        return put(bucket, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryBucket, "put", fails)
        with pytest.raises(BucketError):
            twin.send(artifact(2, b"new"))

    def publishes(bucket: MemoryBucket, prefix: str) -> Iterator[Stored]:
        nonlocal plans
        if prefix == CHECKS:  # after the manifests were listed
            plans += 1
            if plans == 2:
                twin.send(artifact(2, b"new"))
        return listed(bucket, prefix)

    place.at(3)
    monkeypatch.setattr(MemoryBucket, "listed", publishes)
    found = prune_store(place.context, "cloud", ALL)

    assert plans >= 2
    assert found.cleaned == ()
    copy = twin.store().entries()[-1]
    assert copy.name == artifact(2, b"new").name
    assert twin.fetch_back(copy).state == "fetched"


def test_a_bogus_manifest_of_another_machine_stops_nothing(place: Place, tmp_path: Path) -> None:
    other = Machine(tmp_path / "other", place.bucket)
    theirs = place.sent(1, other)
    place.bucket.put(f"{theirs.document.key}/manifests/20261201T000000Z_database_{'ab' * 16}.age", b"bogus")
    first, second = place.send(1), place.send(2)
    place.at(40)

    assert deleted(place.prune()) == [first.name]

    there = {name for name in objects(place.bucket) if "/pieces/" in name}
    assert there == {one.document.pieces[0].name for one in (second, theirs)}


def test_copies_of_both_formats_are_pruned_by_one_rule(place: Place) -> None:
    def old(number: int) -> Copy:
        place.machine.ticks = int((place.time - NOW).total_seconds() / 60)
        return send_format_1(place.machine, artifact(number, b"x" * number))

    copies = []
    for number, make in enumerate((old, place.send, place.send), 1):
        place.at(number)
        copies.append(make(number))
    place.at(40)
    before = stored(place)

    done = place.prune()

    assert deleted(done) == [one.name for one in copies[:2]]
    assert place.names() == [copies[2].name]
    assert place.machine.store().contents().gaps == ()
    assert set(objects(place.bucket)) == {copies[2].object, copies[2].document.pieces[0].name}
    assert done.to_json()["bytes_freed"] == before - stored(place)


def _same(place: Place, *days: int) -> list[Copy]:
    """Copies of the same bytes, which share their piece."""
    copies = []
    for day in days:
        place.at(day)
        place.machine.ticks = int((place.time - NOW).total_seconds() / 60)
        copies.append(place.machine.send(artifact(day, b"the same bytes")))
    return copies


def test_pieces_that_a_kept_copy_shares_stay(place: Place) -> None:
    copies = _same(place, 1, 2, 3)
    place.at(40)

    assert deleted(place.prune()) == [one.name for one in copies[:2]]

    assert set(objects(place.bucket)) == {copies[2].object, copies[2].document.pieces[0].name}
    assert place.machine.fetch_back(copies[2]).state == "fetched"


def test_a_store_without_a_credential_that_may_delete_is_left_alone(place: Place) -> None:
    place.send(1)
    context = place.context
    cloud = replace(StoreSettings.from_url("s3://bucket"), name="cloud")
    context = replace(context, settings=replace(context.settings, stores={"cloud": cloud}))

    assert prune_stores(context, DATABASE) == ([], [])
    with pytest.raises(RefnetError, match="no credential that may delete") as refused:
        prune_store(context, "cloud", DATABASE)
    assert refused.value.code is Exit.USAGE
    assert len(prune_store(context, "cloud", DATABASE, plan=True).decisions) == 1


def test_the_plan_and_the_stats_count_what_the_deleted_copies_alone_need(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "open_bucket", lambda _store: place.bucket)
    cut_small(monkeypatch, 64 << 10)
    data = random.Random(1).randbytes(3 << 16)
    copies = []
    for day, changed in ((1, b""), (2, b"a" * 70_000), (3, b"b" * 100)):
        place.at(day)
        copies.append(place.machine.send(artifact(day, data + changed)))
        place.machine.fetch_back(copies[-1])
    place.at(40)
    [found], errors = stats(place.context)
    assert not errors
    own = found.sources["database"]
    assert found.sources == {"database": found.total}
    assert (own.copies, own.stored) == (3, stored(place))
    assert own.shared > 2 * len(data)

    planned = place.prune(plan=True)
    assert deleted(planned) == [one.name for one in copies[:2]]
    kept = {one.name for one in copies[2].document.pieces}
    alone = {
        one.name: one.size for copy in copies[:2] for one in copy.document.pieces if one.name not in kept
    }
    manifests = [len(place.bucket.contents[one.object][0].data or b"") for one in copies]
    assert planned.bytes_freed == sum(alone.values()) + sum(manifests[:2])
    assert found.freed("database") == found.freed_in_all == planned.bytes_freed
    assert planned.bytes_freed < sum(one.document.size for one in copies[:2]) / 2
    place.prune()
    [after], _ = stats(place.context, "cloud")
    assert after.total.stored == own.stored - planned.bytes_freed
    assert (after.freed_in_all, after.leftovers) == (0, 0)


def test_the_stats_say_why_nothing_is_freed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "open_bucket", lambda _store: place.bucket)
    monkeypatch.setattr(store_stats, "can_prune", lambda _: False)
    place.send(1)
    place.at(40)
    [found], _ = stats(place.context)
    assert (found.plan, found.freed_in_all, found.freed("database")) == (None, 0, 0)
    said = found.to_json()
    assert "no credential that may delete" in said["frees_nothing"]
    assert said["all"] == {**found.total.to_json(), "bytes_freed": 0}
