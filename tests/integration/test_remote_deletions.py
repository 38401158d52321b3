"""Copies on a real S3 server, against somebody who deletes there: with this machine's credential, and with every right."""

from __future__ import annotations

import datetime as dt
import secrets
from datetime import timedelta
from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact, delete, objects
from tests.seaweed import BUCKET, LOCKED, Seaweed

from refnet.catalog.remote import Copy
from refnet.store.buckets import s3_requests
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.leases import is_name
from refnet.store.remote import RemoteStore

DATA = secrets.token_bytes(100_000)


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


def _read(store: RemoteStore, copy: Copy) -> bytes:
    with store.artifact(copy).open() as reader:
        return reader.read()


def test_delete_markers_on_everything_lose_nothing_and_prune_removes_all(
    s3: Seaweed, prefix: str, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, s3.bucket(prefix, bucket=LOCKED, credential=s3.machine))
    admin = s3.bucket(prefix, bucket=LOCKED)
    reader, pruner = (s3.bucket(prefix, bucket=LOCKED, credential=one) for one in (s3.reader, s3.pruner))
    copies = [machine.send(artifact(number, DATA)) for number in (1, 2)]
    for one in list(admin.listed("")):
        admin.delete(one.name)

    assert machine.store().entries() == ()
    found = machine.store(key=True).with_versions(reader)
    assert [one.id for one in found.entries()] == [one.id for one in copies]
    assert [_read(found, one) for one in found.entries()] == [DATA, DATA]
    for bucket in (machine.bucket, reader):
        with pytest.raises(BucketError) as refused:
            delete(found.with_versions(bucket), copies[0])
        assert refused.value.kind is BucketFailure.REFUSED
    for bucket in (reader, pruner):
        with pytest.raises(BucketError):
            bucket.put("check/1", b"")

    delete(found.with_versions(pruner), copies[0])
    assert [one.id for one in found.entries()] == [copies[1].id]
    left = [one.name for one in admin.versions("") if copies[0].id in one.name]
    assert all(map(is_name, left))
    assert _read(found, copies[1]) == DATA


def test_what_is_locked_stays_complete_whatever_the_credential_may(
    s3: Seaweed, prefix: str, tmp_path: Path
) -> None:
    lock = timedelta(days=1)
    machine = Machine(tmp_path, s3.bucket(prefix, bucket=LOCKED, credential=s3.machine, lock=lock))
    copy = machine.send(artifact(1, DATA))
    admin = machine.store(key=True).with_versions(s3.bucket(prefix, bucket=LOCKED))

    with pytest.raises(BucketError, match="is locked until") as locked:
        delete(admin, copy)

    assert locked.value.kind is BucketFailure.LOCKED
    assert _read(machine.store(key=True), copy) == DATA


def test_a_bucket_without_versions_is_pruned_too(s3: Seaweed, prefix: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, s3.bucket(prefix, bucket=BUCKET))
    copies = [machine.send(artifact(number, DATA)) for number in (1, 2)]

    delete(machine.store().with_versions(), copies[0])

    assert [one.id for one in machine.store().entries()] == [copies[1].id]
    assert objects(machine.bucket) == sorted([copies[1].object, copies[1].document.pieces[0].name])


@pytest.mark.parametrize("off", [timedelta(minutes=30), timedelta(days=-365)])
def test_a_server_refuses_a_machine_whose_clock_is_wrong(
    s3: Seaweed, prefix: str, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    class Wrong(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Wrong:
            return super().now(tz) + off

    bucket = s3.bucket(prefix)
    bucket.put("check/1", b"x")
    monkeypatch.setattr(s3_requests, "datetime", Wrong)

    with pytest.raises(BucketError, match="cannot delete") as refused:
        bucket.delete("check/1")

    assert "clock" in refused.value.hint
    monkeypatch.undo()
    assert [one.name for one in bucket.listed("")] == ["check/1"]
