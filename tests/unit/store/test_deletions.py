"""A prune leaves a signed record, so that a machine without the records in REFNET_HOME takes it for no attack."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact, delete
from tests.shared_pieces import memory

from refnet.catalog.object_names import ManifestName
from refnet.catalog.remote_state import Head
from refnet.core.errors import RefnetError
from refnet.store import deletions
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.deletions import Deletions
from refnet.store.encryption import encrypt
from refnet.store.remote import RemoteStore


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "home")
    for number in range(1, 5):
        made.send(artifact(number, b"x" * number))
    return made


def _pruned(machine: Machine, *numbers: int) -> str:
    """Delete copies as a prune does; return the name of its record."""
    store = machine.store()
    for copy in store.entries():
        if copy.document.counter in numbers:
            delete(store, copy)
    made = deletions.written(
        machine.name, store.records.head(), machine.keys, (machine.recovery.recipient,), machine.now()
    )
    assert made
    store.create(*made)
    return made[0]


def _recovery(machine: Machine, tmp_path: Path, *signers: str) -> RemoteStore:
    """The store as an empty machine with the recovery page sees it, under the name of a URL."""
    trust = replace(
        machine.store(key=True).trust, signers=frozenset(signers or (machine.keys.signer().fingerprint,))
    )
    trust = replace(trust, opener=replace(trust.opener, catalog=None))
    return RemoteStore("url-1", machine.bucket, tmp_path / "empty", trust)


def _missing(machine: Machine, tmp_path: Path) -> list[int]:
    return [one.counter for one in _recovery(machine, tmp_path).contents().gaps]


def test_what_a_prune_deleted_is_no_gap_for_a_recovery(machine: Machine, tmp_path: Path) -> None:
    name = _pruned(machine, 1, 3)
    assert _missing(machine, tmp_path) == []
    assert machine.store().contents().gaps == ()
    machine.bucket.delete(name)
    assert _missing(machine, tmp_path) == [1], "without the record it stays an alarm"
    machine.send(artifact(5, b"more"))
    assert _missing(machine, tmp_path) == [], "the next copy says it too"


def test_what_somebody_else_deleted_stays_a_gap(machine: Machine, tmp_path: Path) -> None:
    other = next(one for one in machine.store().entries() if one.document.counter == 2)
    _pruned(machine, 1)
    machine.bucket.delete(other.object)
    assert _missing(machine, tmp_path) == [2]
    [gap] = machine.store().contents().gaps
    assert gap.counter == 2, "also here"


def test_the_record_of_this_machine_comes_before_those_in_the_bucket(machine: Machine) -> None:
    """Somebody with its key deleted on another machine: here that stays an alarm."""
    head = machine.store().records.head()
    _pruned(machine, 1)
    machine.store().records.keep_head(head)
    assert [one.counter for one in machine.store().contents().gaps] == [1]


def test_nothing_is_asked_for_where_nothing_is_missing(machine: Machine, tmp_path: Path) -> None:
    before = memory(machine).requests.copy()
    _recovery(machine, tmp_path).contents()
    asked = memory(machine).requests - before
    assert (asked["get"], asked["list"]) == (4, 1), "the manifests"


@pytest.mark.parametrize("change", ["signer", "store", "signature", "plain", "text", "large", "missing"])
def test_a_record_that_cannot_be_trusted_explains_nothing(
    machine: Machine, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _pruned(machine, 1)
    kept = memory(machine).contents[name]
    forger = Machine(tmp_path / "forger", recovery=machine.recovery)
    line = json.dumps(Deletions(machine.name, ((1, 1),), NOW).values()).encode() + b"\n"
    signed = machine.keys.sign(line, "refnet-deletions").encode()
    elsewhere = line.replace(b"cloud", b"other")
    data: bytes | None = {
        "signer": line + forger.keys.sign(line, "refnet-deletions").encode(),
        "store": elsewhere + machine.keys.sign(elsewhere, "refnet-deletions").encode(),
        "signature": line + machine.keys.sign(line, "refnet-manifest").encode(),
        "plain": line,
        "text": b"nonsense",
        "large": line + signed,
        "missing": b"",
    }[change]
    data = encrypt(data or b"", (machine.recovery.recipient,)) if change != "text" else data
    if change == "large":
        monkeypatch.setattr(deletions, "_LONGEST", 10)
    kept[-1] = replace(kept[-1], data=None if change == "missing" else data)
    assert _missing(machine, tmp_path) == [1]


def test_records_that_somebody_planted_are_read_up_to_a_limit(machine: Machine, tmp_path: Path) -> None:
    name = _pruned(machine, 1)
    key = name.partition("/")[0]
    for number in range(100):
        machine.bucket.put(f"{key}/deleted/{number}", b"not a name")
        machine.bucket.put(f"{key}/deleted/20990101T000000Z_{number:016x}.age", b"junk")
    before = memory(machine).requests["get"]
    assert _missing(machine, tmp_path) == [1], "an alarm, and not silence"
    assert memory(machine).requests["get"] - before <= 3 + 20
    for number in range(85):
        machine.bucket.delete(f"{key}/deleted/20990101T000000Z_{number:016x}.age")
    assert _missing(machine, tmp_path) == []


def test_a_signer_explains_only_its_own_manifests(machine: Machine, tmp_path: Path) -> None:
    other = Machine(tmp_path / "other", machine.bucket, machine.recovery)
    for number in (1, 2):
        other.send(artifact(number, b"y" * number))
    theirs = next(one for one in other.store().entries() if one.document.counter == 1)
    _pruned(machine, 1)
    machine.bucket.delete(theirs.object)
    both = (machine.keys.signer().fingerprint, other.keys.signer().fingerprint)
    [gap] = _recovery(machine, tmp_path, *both).contents().gaps
    assert "missing: number 1" in gap.why


def test_a_store_that_does_not_answer_is_an_error(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pruned(machine, 1)
    get = MemoryBucket.get

    def silent(bucket: MemoryBucket, name: str, most: int, *, version: str = "") -> bytes:
        if deletions.is_name(name):
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        return get(bucket, name, most, version=version)

    monkeypatch.setattr(MemoryBucket, "get", silent)
    with pytest.raises(RefnetError, match="no answer"):
        _recovery(machine, tmp_path).contents()


def test_records_but_the_newest_are_leftovers_after_90_days(machine: Machine) -> None:
    bucket = memory(machine)
    names = []
    for number, days in ((1, -200), (2, -100), (3, -95)):
        bucket.now = lambda days=days: machine.store().now() + timedelta(days=days)  # type: ignore[misc]
        machine.ticks += 60
        names.append(_pruned(machine, number))
    store = machine.store()
    left = [one for one in store.leftovers() if deletions.is_name(one.name)]
    assert [one.name for one in left] == names[:2]
    for one in left:
        store.clean(one)
    assert [one.name for one in bucket.listed("") if deletions.is_name(one.name)] == names[2:]


@pytest.mark.parametrize("change", [lambda _: Head(), lambda head: replace(head, signer="SHA256:other")])
def test_without_own_deletions_there_is_no_record(machine: Machine, change: Callable[[Head], Head]) -> None:
    _pruned(machine, 1)
    head = change(machine.store().records.head())
    assert deletions.written("cloud", head, machine.keys, (machine.recovery.recipient,), NOW) is None


def test_a_record_of_today_stays_readable() -> None:
    line = b'{"at": "2026-11-30T11:00:00+00:00", "deleted": [[1, 3], [7, 7]], "format": 1, "later": 5, "store": "cloud"}'
    found = Deletions.from_json(line)
    assert (found.store, found.deleted, found.at.isoformat()) == (
        "cloud", ((1, 3), (7, 7)), "2026-11-30T11:00:00+00:00",
    )  # fmt: skip
    assert ManifestName.read("12" * 16 + "/deleted/20261130T110000Z_0123456789abcdef.age") is None
