"""A remote store: what is sent is listed, read and proven again, and nothing else is trusted."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact, cut_small, delete

from refnet.catalog.object_names import ManifestName, SharedName
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import Head
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.copy_checks import sample_back
from refnet.store.encryption import PrivateKey, encrypt
from refnet.store.leases import is_name
from refnet.store.remote_records import RemoteRecords

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, PIECE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def _bucket(machine: Machine) -> MemoryBucket:
    assert isinstance(machine.bucket, MemoryBucket)
    return machine.bucket


def _names(machine: Machine, prefix: str = "") -> list[str]:
    return [one.name for one in machine.bucket.listed(prefix) if not is_name(one.name)]


def _pieces(machine: Machine) -> list[str]:
    return [name for name in _names(machine) if SharedName.read(name)]


def _read(machine: Machine, copy: Copy) -> bytes:
    with machine.store(key=True).artifact(copy).open() as reader:
        return reader.read()


def test_a_copy_is_listed_without_the_recovery_key_and_read_with_it(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    [listed] = machine.store().entries()
    assert (listed, listed.state) == (copy, "sent")
    assert listed.row_digests == "ab" * 16
    assert _read(machine, listed) == DATA
    with pytest.raises(RefnetError, match="recovery key is needed"):
        machine.store().artifact(listed).open().read(1)


def test_a_copy_takes_a_request_for_each_new_piece_and_seven_more(machine: Machine) -> None:
    machine.send(artifact(1, DATA))
    assert _bucket(machine).requests == {"list": 4, "put": 4 + 1, "run": 1}
    machine.send(artifact(2, DATA[:-PIECE] + bytes(PIECE)))
    new = 2  # the piece with the border of what changed, and that of the end
    assert _bucket(machine).requests == {"list": 9, "put": 4 + 1 + new + 1, "run": 2, "get": 1}
    store = machine.store()
    store.entries()
    store.entries()
    assert _bucket(machine).requests["get"] == 2
    machine.store().entries()
    assert _bucket(machine).requests["get"] == 2


def test_only_the_pieces_that_are_read_are_fetched(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    before = _bucket(machine).requests["get"]
    with machine.store(key=True).artifact(copy).open() as reader:
        reader.seek(3 * PIECE)
        assert reader.read() == DATA[3 * PIECE :]
        assert _bucket(machine).requests["get"] == before + 1
        reader.seek(PIECE - 3)
        assert reader.read(6) == DATA[PIECE - 3 : PIECE + 3]
        reader.seek(-7, os.SEEK_END)
        assert reader.read() == DATA[-7:]


def test_a_reader_whose_piece_failed_reads_no_early_end(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    with machine.store(key=True).artifact(copy).open() as reader:
        reader.read(10)
        removed = _bucket(machine).contents.pop(copy.document.pieces[1].name)
        reader.seek(PIECE)
        with pytest.raises(RefnetError):
            reader.read(1)
        reader.seek(20)
        assert reader.read(10) == DATA[20:30]
        _bucket(machine).contents[copy.document.pieces[1].name] = removed
        assert reader.read() == DATA[30:]


def test_what_is_there_is_not_sent_again(machine: Machine) -> None:
    first = machine.send(artifact(1, DATA))
    assert machine.send(artifact(1, DATA)).id == first.id
    assert len(_names(machine)) == 5


def test_a_copy_is_read_back_without_the_recovery_key(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    assert machine.fetch_back(copy).state == "fetched"
    [listed] = machine.store().entries()
    assert listed.state == "fetched"


def _flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "change", [_flip, lambda content: content[:-1], lambda content: content + b"x", lambda _: None]
)
def test_a_piece_that_changed_is_found_and_the_artifact_is_sent_again(
    machine: Machine, change: Callable[[bytes], bytes | None]
) -> None:
    copy = machine.send(artifact(1, DATA))
    stored = _bucket(machine).contents[copy.document.pieces[1].name]
    stored[0] = replace(stored[0], data=change(stored[0].data or b""))
    damaged = machine.fetch_back(copy)
    assert damaged.state == "damaged"
    assert copy.document.pieces[1].name in damaged.evidence[-1].reasons[0]
    with pytest.raises(RefnetError) as error:
        _read(machine, copy)
    assert error.value.code is Exit.DAMAGED
    again = machine.send(artifact(1, DATA))
    assert again.id != copy.id
    assert [one.state for one in machine.store().entries()] == ["sent", "damaged"]
    assert _read(machine, again) == DATA


def test_a_lost_piece_of_an_older_copy_is_found_by_a_sample(machine: Machine) -> None:
    copies = [machine.send(artifact(n, b"x" * n)) for n in range(1, 6)]
    assert sample_back(machine.store(), copies, machine.now) == ()
    lost = copies[2]
    machine.bucket.delete(lost.document.pieces[0].name)
    [damaged] = sample_back(machine.store(), copies[2:], machine.now)
    assert (damaged.id, damaged.state) == (lost.id, "damaged")
    assert [one.state for one in machine.store().entries() if one.id == lost.id] == ["damaged"]
    assert machine.send(artifact(3, b"xxx")).id != lost.id


def test_a_removed_manifest_is_damage_when_it_is_read_back(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    machine.bucket.delete(copy.object)
    assert machine.fetch_back(copy).state == "damaged"


def test_pieces_of_another_copy_are_refused(machine: Machine) -> None:
    one, other = machine.send(artifact(1, DATA)), machine.send(artifact(2, DATA[::-1]))
    theirs = _bucket(machine).contents[other.document.pieces[0].name][0]
    _bucket(machine).contents[one.document.pieces[0].name] = [theirs]
    with pytest.raises(RefnetError, match="is damaged"):
        _read(machine, one)


def test_a_list_of_files_goes_with_its_artifact(machine: Machine) -> None:
    listed = json.dumps({"files": [str(n) for n in range(50_000)]}).encode()
    packed = gzip.compress(listed, 0)
    made = artifact(
        1, DATA, source=SourceName.OBSIDIAN, name="vault_20261126.tar.gz", details={"files": 50_000, "folders": 0, "links": 0},
        files_sha256=hashlib.sha256(listed).hexdigest(),
    )  # fmt: skip
    copy = machine.send(replace(made, packed_files=lambda: packed))
    assert sum(one.length for one in copy.document.list_ranges) == len(packed) > 4 * PIECE
    opened = machine.store(key=True).artifact(copy)
    assert opened.files() == listed
    assert opened.packed_files() == packed


def test_an_artifact_that_is_not_what_its_manifest_says_is_not_published(machine: Machine) -> None:
    for data in (_flip(DATA), DATA[:-1], DATA + b"x"):
        made = artifact(1, data, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        with pytest.raises(RefnetError) as error:
            machine.send(made)
        assert error.value.code is Exit.DAMAGED
    assert _names(machine, "manifests/") == []


def test_the_raw_objects_contain_nothing_of_the_artifact(machine: Machine) -> None:
    machine.send(artifact(1, b"a known sentence " * 20_000, details={"database": "a_known_database"}))
    everything = b"".join(one.data or b"" for kept in _bucket(machine).contents.values() for one in kept)
    for known in (b"known", b"refnet_2026", b"database"):
        assert known not in everything


class _Breaks(MemoryBucket):
    """Fails at the put number `at`, before or after it is done."""

    at, after = 0, False

    def put(self, name: str, data: bytes) -> str:
        breaks = self.requests["put"] == self.at and not is_name(name)
        if breaks and not self.after:
            self.requests["put"] += 1
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        version = super().put(name, data)
        if breaks:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        return version


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(5))
def test_a_copy_that_was_interrupted_continues(tmp_path: Path, at: int, after: bool) -> None:
    bucket = _Breaks()
    bucket.at, bucket.after = at, after
    machine = Machine(tmp_path / "home", bucket)
    with pytest.raises(BucketError):
        machine.send(artifact(1, DATA))
    assert machine.store().entries() == () or at == 4
    machine.store().home.joinpath("lock").touch()
    there = len(_pieces(machine))
    sent_before = bucket.requests["put"]
    copy = machine.send(artifact(1, DATA))
    assert _read(machine, copy) == DATA
    assert bucket.requests["put"] - sent_before == 5 - there
    assert len(_names(machine)) == 5
    assert machine.store().contents().gaps == ()
    assert machine.store().leftovers() == ()
    assert list((machine.store().home / "sending").iterdir()) == []


def test_another_recipient_begins_a_copy_of_its_own(tmp_path: Path) -> None:
    bucket = _Breaks()
    bucket.at = 2
    machine = Machine(tmp_path / "home", bucket)
    with pytest.raises(BucketError):
        machine.send(artifact(1, DATA))
    machine.recovery = PrivateKey.new()
    assert _read(machine, machine.send(artifact(1, DATA))) == DATA


def test_pieces_without_a_manifest_are_leftovers_once_no_run_sends_them(tmp_path: Path) -> None:
    bucket = _Breaks(now=lambda: NOW - timedelta(days=900))
    bucket.at = 3
    machine = Machine(tmp_path / "home", bucket)
    with pytest.raises(BucketError):
        machine.send(artifact(1, DATA))
    assert machine.store().leftovers() == ()
    for file in (machine.store().home / "sending").iterdir():
        file.unlink()
    left = machine.store().leftovers()
    assert [one.name for one in left] == _pieces(machine)
    machine.store().clean(left[0])
    assert len(machine.store().leftovers()) == len(left) - 1


def test_a_deleted_copy_leaves_nothing_and_no_gap(machine: Machine) -> None:
    copies = [machine.send(artifact(n, DATA[:n])) for n in range(1, 4)]
    delete(machine.store(), copies[1])
    assert machine.store().entries() == (copies[0], copies[2])
    assert machine.store().contents().gaps == ()
    assert len(_names(machine)) == 4
    machine.send(artifact(4, DATA))
    assert machine.store().entries()[-1].document.present == ((1, 1), (3, 4))


def test_a_deletion_without_an_answer_is_no_gap_whether_it_was_done_or_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [machine.send(artifact(number, b"x")) for number in (1, 2)]
    done, remove = True, MemoryBucket.delete

    def lost(bucket: MemoryBucket, name: str, *, version: str = "") -> None:
        if done:
            remove(bucket, name, version=version)
        if "/manifests/" in name:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")

    monkeypatch.setattr(MemoryBucket, "delete", lost)
    for copy in copies:
        with pytest.raises(BucketError):
            machine.store().unpublish(copy)
        done = False
    assert machine.store().entries() == (copies[1],)
    assert machine.store().contents().gaps == ()


def test_a_locked_copy_is_not_deleted_in_part(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    _bucket(machine).lock = timedelta(days=30)
    with pytest.raises(BucketError) as error:
        delete(machine.store(), copy)
    assert error.value.kind is BucketFailure.LOCKED
    assert len(_names(machine)) == 5
    assert machine.store().records.head().deleted == ()


def test_manifests_that_go_together_are_noted_at_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, kept = [machine.send(artifact(number, DATA)) for number in range(1, 5)], list[Head]()
    remove, keep = MemoryBucket.delete, RemoteRecords.keep_head

    def refusing(bucket: MemoryBucket, name: str, *, version: str = "") -> None:
        if name == copies[1].object:
            raise BucketError(BucketFailure.LOCKED, "locked", "Wait.")
        if name == copies[2].object:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        remove(bucket, name, version=version)

    def keeping(records: RemoteRecords, head: Head) -> None:
        kept.append(head)
        keep(records, head)

    monkeypatch.setattr(MemoryBucket, "delete", refusing)
    monkeypatch.setattr(RemoteRecords, "keep_head", keeping)
    with machine.store().unpublishing(copies) as unpublish:
        unpublish(copies[0])
        for copy, why in ((copies[1], "locked"), (copies[2], "no answer")):
            with pytest.raises(BucketError, match=why):
                unpublish(copy)
    first, last = kept
    assert (first.deleted, first.unsure) == (((1, 4),), ((1, 4),)), "a crash must not look like an attack"
    assert (last.deleted, last.unsure) == (((1, 1), (3, 3)), ((3, 3),)), (
        "the locked one and the last one stay"
    )
    assert machine.store().contents().gaps == ()


def test_a_manifest_that_somebody_removed_is_a_gap(machine: Machine) -> None:
    copies = [machine.send(artifact(n, DATA[:n])) for n in range(1, 4)]
    machine.bucket.delete(copies[1].object)
    assert [one.counter for one in machine.store().contents().gaps] == [2]
    copies.append(machine.send(artifact(4, DATA[:4])))
    assert [one.counter for one in machine.store().contents().gaps] == [2], "the next copy does not hide it"
    machine.bucket.delete(copies[3].object)
    assert [one.counter for one in machine.store().contents().gaps] == [2, 4]


def test_a_copy_of_another_machine_is_refused_until_its_signer_is_named(
    machine: Machine, tmp_path: Path
) -> None:
    other = Machine(tmp_path / "other", machine.bucket, machine.recovery)
    copy = other.send(artifact(1, DATA))
    fresh = Machine(tmp_path / "fresh", machine.bucket, machine.recovery)
    store = fresh.store(key=True)
    assert store.entries() == ()
    [refused] = store.contents().unlisted
    assert other.keys.signer().fingerprint in refused.why
    assert refused.source == SourceName.DATABASE
    fresh.trusted = (other.keys.signer().fingerprint,)
    assert fresh.store(key=True).entries() == (copy,)
    assert fresh.store(key=True).contents().gaps == ()
    fresh.trusted = ()
    assert fresh.store(key=True, any_signer=True).entries() == (copy,)


def test_a_manifest_of_another_machine_is_reported_where_a_recovery_key_might_open_it(
    machine: Machine, tmp_path: Path
) -> None:
    other = Machine(tmp_path / "other", machine.bucket)
    other.send(artifact(1, DATA))
    assert machine.store().contents().unlisted == ()
    [unlisted] = machine.store(key=True).contents().unlisted
    assert "encrypted to other keys" in unlisted.why


def _forged(machine: Machine, number: int, content: bytes) -> str:
    name = ManifestName(NOW + timedelta(days=1000, seconds=number), "database", f"{number:032x}").named()
    machine.bucket.put(name, content)
    return name


def test_forged_manifests_are_reported_and_hide_nothing(machine: Machine, tmp_path: Path) -> None:
    copy = machine.send(artifact(1, DATA))
    forger = Machine(tmp_path / "forger", MemoryBucket(), machine.recovery)
    forged = forger.send(artifact(2, DATA))
    machine.bucket.put(forged.object, forger.bucket.get(forged.object, 1 << 20))
    ours = machine.bucket.get(copy.object, 1 << 20)
    recipients = (machine.recovery.recipient, machine.keys.catalog().recipient)
    names = {
        _forged(machine, n, content)
        for n, content in enumerate(
            [
                b"",
                b"age-encryption.org/v1\n",
                ours,
                ours[:-1],
                encrypt(b"", recipients),
                encrypt(b"{}\n", recipients),
            ]
        )
    }
    machine.bucket.put("manifests/odd name"[:13], b"x")
    store = machine.store(key=True)
    assert store.entries() == (copy,)
    assert {one.name for one in store.contents().unlisted} == {*names, forged.object, "manifests/odd"}
    assert all(one.why and one.advice for one in store.contents().unlisted)
    assert store.contents().gaps == ()


def test_a_thousand_forged_manifests_cost_little(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    recipients = (machine.recovery.recipient, machine.keys.catalog().recipient)
    forged = encrypt(b'{"format":1}\n-----BEGIN SSH SIGNATURE-----\n', recipients)
    for number in range(1000):
        _forged(machine, number, forged)
    began = time.process_time()
    contents = machine.store().contents()
    assert (contents.copies, len(contents.unlisted)) == ((copy,), 1000)
    assert time.process_time() - began < 5


def test_a_manifest_that_is_too_large_is_not_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.store.remote_manifests.MANIFEST_OBJECT_BYTES", 100)
    machine.bucket.put(ManifestName(NOW, "shop", "ab" * 16).named(), b"x" * 101)
    assert "too much" in machine.store().contents().unlisted[0].why
    assert _bucket(machine).requests["get"] == 0


def test_a_changed_cache_is_not_trusted(machine: Machine) -> None:
    copy = machine.send(artifact(1, DATA))
    machine.store().entries()
    [cached] = (machine.store().home / "manifests").iterdir()
    for content in (b"x" * cached.stat().st_size, b"x", b""):
        cached.write_bytes(content)
        assert machine.store().entries() == (copy,)


def test_the_head_is_damaged(machine: Machine) -> None:
    machine.send(artifact(1, DATA))
    (machine.store().home / "head.json").write_text("{}")
    with pytest.raises(RefnetError, match=r"head\.json cannot be used"):
        machine.store().entries()


def test_a_lost_home_continues_the_order_of_the_store(machine: Machine) -> None:
    first = machine.send(artifact(1, DATA))
    machine.name = "cloud"
    for file in machine.store().home.rglob("*"):
        if file.is_file():
            file.unlink()
    second = machine.send(artifact(2, DATA))
    assert (second.document.counter, second.document.previous) == (2, first.signed.sha256)
