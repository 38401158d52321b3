"""Copies come back into the backup folder: only what a trusted key signed, compared, once, and never over another file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.lost_machine import Loss, names
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact

from refnet import wiring
from refnet.actions.fetch import FetchRequest, bring, find, plan
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.object_names import ManifestName
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.encryption import PrivateKey

DATA = random.Random(7).randbytes(100_000)


@pytest.fixture
def loss(tmp_path: Path) -> Loss:
    bucket = MemoryBucket(versioned=True)
    sender = Machine(tmp_path / "sender", bucket)
    for number in (1, 2):
        sender.send(artifact(number, DATA + bytes([number])))
    return Loss(tmp_path, sender)


NEWEST, OLDER = artifact(2, b"").name, artifact(1, b"").name


def test_the_newest_copy_comes_back_and_counts_as_intact_not_as_proven(loss: Loss) -> None:
    assert names(list(plan(loss.context, loss.found()))) == [NEWEST]
    assert not (loss.folder / "backups").exists()
    assert names(loss.brought()) == [NEWEST]
    (entry,) = loss.context.local.entries()
    assert entry.state == "intact"
    assert entry.manifest == artifact(2, DATA + b"\2").manifest
    assert loss.sender.keys.signer().fingerprint in entry.evidence[-1].reasons[0]
    assert loss.read(NEWEST) == DATA + b"\2"
    assert (loss.folder / "backups" / "database" / NEWEST).stat().st_mode & 0o777 == 0o600


def test_what_is_here_already_is_compared_and_not_fetched_again(loss: Loss) -> None:
    loss.brought()
    for one in [one for one in loss.sender.bucket.versions("") if "/pieces/" in one.name]:
        loss.sender.bucket.delete(one.name, version=one.id)
    assert names(loss.brought()) == []
    path = loss.folder / "backups" / "database" / NEWEST
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(RefnetError, match=f"{path} already exists and is a different file"):
        loss.brought()


def test_another_file_of_the_name_stays_as_it_is(loss: Loss) -> None:
    path = loss.folder / "backups" / "database" / NEWEST
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_bytes(b"mine")
    for act in (loss.brought, lambda: list(plan(loss.context, loss.found()))):
        with pytest.raises(RefnetError, match=f"{path} already exists and is a different file"):
            act()
    assert path.read_bytes() == b"mine"


def test_what_is_left_of_an_artifact_whose_file_was_deleted_is_named(loss: Loss) -> None:
    loss.brought()
    path = loss.folder / "backups" / "database" / NEWEST
    path.unlink()
    with pytest.raises(
        RefnetError, match=f"{path} is missing, and its manifest or another file beside it"
    ) as caught:
        loss.brought()
    assert "Move it and" not in caught.value.hint
    for one in path.parent.glob(f"{NEWEST}.*"):
        one.unlink()
    assert names(loss.brought()) == [NEWEST]


def test_a_name_a_source_and_a_time_choose(loss: Loss) -> None:
    assert names(loss.brought(FetchRequest(OLDER))) == [OLDER]
    assert names(loss.brought(FetchRequest("database"))) == [NEWEST]
    assert [one.name for one in loss.found(FetchRequest(at=str(NOW + timedelta(days=1)))).chosen] == [OLDER]
    for request, says in (
        (FetchRequest("nothing"), "no usable copy of 'nothing'"),
        (FetchRequest(OLDER, at="2026-11-25"), "not a source"),
        (FetchRequest(at="2020-01-01"), "2020"),
    ):
        with pytest.raises(RefnetError, match=says):
            loss.found(request)


def test_a_damaged_copy_is_noted_and_the_next_older_one_comes_back(loss: Loss) -> None:
    for piece in loss.sender.store().entries()[1].document.pieces:
        for one in list(loss.sender.bucket.versions(piece.name)):
            loss.sender.bucket.delete(one.name, version=one.id)
    assert names(loss.brought()) == [OLDER]
    assert NEWEST in loss.notes[0]
    assert "is damaged" in loss.notes[0]
    assert [one.name for one in loss.found().chosen] == [OLDER]
    with pytest.raises(RefnetError, match="has no usable copy"):
        loss.found(FetchRequest(NEWEST))


def test_a_source_whose_copies_are_all_damaged_does_not_stop_the_others(loss: Loss) -> None:
    for one in [one for one in loss.sender.bucket.versions("") if "/pieces/" in one.name]:
        loss.sender.bucket.delete(one.name, version=one.id)
    other = replace(artifact(3, DATA), source=SourceName("shop", Kind.DATABASE))
    assert other.manifest
    manifest = replace(other.manifest, source=other.source, name="shop_20261128_170000.sql.gz")
    loss.sender.send(replace(other, name=manifest.name, manifest=manifest, entry=Entry(manifest)))
    brought = loss.brought()
    assert names(brought) == [manifest.name]
    assert [one.exit for one in brought] == [Exit.DAMAGED, Exit.DONE]
    assert "an older copy is used" in loss.notes[0]
    for one in brought:
        assert bool(one.to_json()["error"]) == bool(one.error)


def test_delete_markers_and_a_thousand_bogus_manifests_hide_nothing(loss: Loss) -> None:
    for one in list(loss.sender.bucket.listed("")):
        loss.sender.bucket.delete(one.name)
    forger = Machine(loss.folder / "forger", MemoryBucket(), loss.sender.recovery)
    forged = forger.bucket.get(forger.send(artifact(9, b"forged")).object, 1 << 20)
    for number in range(1000):
        name = ManifestName(NOW + timedelta(days=9, minutes=number), "database", f"{number:032x}").named()
        loss.sender.bucket.put(name, forged if number % 2 else b"bogus")
    found = loss.found()
    assert [one.name for one in found.chosen] == [NEWEST]
    assert any(forger.keys.signer().fingerprint in one for one in found.notes)
    assert any("500 objects that cannot be read" in one for one in found.notes)
    assert names(list(bring(loss.context, found))) == [NEWEST]


def _refused(act: Callable[[], object]) -> RefnetError:
    with pytest.raises(RefnetError) as refused:
        act()
    return refused.value


def test_an_unknown_signer_is_refused_and_named(loss: Loss) -> None:
    error = _refused(lambda: loss.found(trusted=()))
    assert error.code is Exit.DAMAGED
    assert loss.sender.keys.signer().fingerprint in error.message
    assert "recovery page" in error.hint


def test_a_page_of_another_store_opens_nothing(loss: Loss) -> None:
    error = _refused(lambda: loss.found(recovery=PrivateKey.new()))
    assert error.code is Exit.USAGE
    assert "the recovery key opens none of 2 manifests" in error.message
    nothing = _refused(lambda: loss.found(bucket=MemoryBucket()))
    assert "has no copy" in nothing.message


def test_a_page_from_before_two_rotations_names_what_it_cannot_open(
    loss: Loss,
) -> None:
    page = loss.sender.recovery
    for number in (3, 4):
        loss.sender.recovery = PrivateKey.new()
        loss.sender.send(artifact(number, DATA))
    found = loss.found(recovery=page)
    assert [one.name for one in found.chosen] == [NEWEST]
    assert any("does not open 2 newer manifests" in one for one in found.notes)


def test_the_sender_trusts_its_recovery_key_and_an_old_page_is_no_attack(
    loss: Loss,
) -> None:
    sender, page = loss.sender, loss.sender.recovery
    sender.recovery = PrivateKey.new()
    error = _refused(lambda: find(loss.context, sender.store(key=True), FetchRequest()))
    assert error.code is Exit.USAGE
    assert "the recovery key opens none of 2 manifests" in error.message
    sender.send(artifact(3, DATA))
    sender.recovery = page
    found = find(loss.context, sender.store(key=True), FetchRequest())
    assert [one.name for one in found.chosen] == [NEWEST]
    (alarm, newer) = found.notes
    assert "or the recovery key does not open them" in alarm
    assert "does not open 1 newer manifest" in newer


def test_a_removed_copy_is_an_alarm_and_does_not_stop(loss: Loss) -> None:
    gone = loss.sender.store().entries()[0]
    for one in list(loss.sender.bucket.versions(gone.object)):
        loss.sender.bucket.delete(one.name, version=one.id)
    assert any(one.startswith("alarm: cloud") for one in loss.found().notes)
    assert names(loss.brought()) == [NEWEST]


def test_a_credential_that_cannot_list_versions_reads_what_is_listed(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str) -> None:
        raise BucketError(BucketFailure.REFUSED, f"versions of {prefix} refused", "Permit it.")

    monkeypatch.setattr(loss.sender.bucket, "versions", refuse)
    assert "this credential cannot list deleted" in loss.found().notes[0]
    assert names(loss.brought()) == [NEWEST]


def test_an_acceptance_that_was_signed_comes_back_too(loss: Loss) -> None:
    shrunk = artifact(3, DATA, shrunk=("papers",), shrunk_from=NEWEST)
    accepts = Evidence(NOW, Level.WRITTEN, Outcome.PASSED, 0.0, accepts=True)
    assert shrunk.manifest
    loss.sender.send(replace(shrunk, entry=Entry(shrunk.manifest, (accepts,))))
    loss.brought()
    (entry,) = loss.context.local.entries()
    assert entry.manifest.shrunk
    assert not entry.shrunk


def test_a_fetched_copy_has_no_number_and_the_next_artifact_follows_it(loss: Loss) -> None:
    held = artifact(3, DATA)
    assert held.manifest
    manifest = replace(held.manifest, number=9)
    loss.sender.send(replace(held, manifest=manifest, entry=Entry(manifest)))

    loss.brought()

    (entry,) = loss.context.local.entries()
    assert entry.manifest == replace(manifest, number=None)
    assert wiring.identities(loss.context.settings).of(SourceName.DATABASE).number == 9
    assert names(loss.brought()) == []
