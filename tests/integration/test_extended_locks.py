"""The locks of shared pieces are extended on a real S3 server, by the policies of the documentation."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.remote_store import NOW, Machine, artifact, cut_finely, objects
from tests.seaweed import LOCKED, Seaweed
from tests.shared_pieces import DATA, SCALE, named, read

from refnet.catalog.remote import Copy
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.sending import Sharing

LOCK = timedelta(days=30)


@pytest.fixture(autouse=True)
def _fine_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_finely(monkeypatch, SCALE)


@pytest.fixture
def machine(s3: Seaweed, tmp_path: Path) -> Machine:
    bucket = s3.bucket(secrets.token_hex(8), bucket=LOCKED, credential=s3.machine, lock=LOCK)
    made = Machine(tmp_path / "home", bucket, sharing=Sharing(lock=LOCK, locks=bucket.requests))
    _at(made, timedelta())
    return made


def _at(machine: Machine, later: timedelta) -> None:
    """Set the clock of the machine, apart from that of its requests, to `later` than now."""
    machine.ticks = int((datetime.now(UTC) + later - NOW).total_seconds() // 60)


def _ends(machine: Machine, copy: Copy) -> list[datetime]:
    bucket = machine.bucket
    assert isinstance(bucket, CloudBucket)
    assert bucket.requests
    found = [bucket.requests.locked_until(one.name, one.version) for one in copy.document.pieces]
    return [one for one in found if one]


def test_locks_are_extended_by_the_policy_of_the_documents(s3: Seaweed, machine: Machine) -> None:
    first = machine.send(artifact(1, DATA))
    there, before = objects(machine.bucket), _ends(machine, first)
    assert len(before) == len(named(first))
    _at(machine, timedelta(days=20))

    second = machine.sent(artifact(2, DATA))

    assert second.not_extended == ""
    assert {*objects(machine.bucket)} - {*there} == {second.copy.object}, "the manifest alone is new"
    after = _ends(machine, second.copy)
    assert min(after) > datetime.now(UTC) + timedelta(days=49)
    assert min(after) - max(before) > timedelta(days=19)
    assert read(machine, second.copy) == DATA
    piece = second.copy.document.pieces[0]
    with pytest.raises(BucketError) as refused:
        s3.bucket("", bucket=LOCKED).delete(_full(machine, piece.name), version=piece.version)
    assert refused.value.kind is BucketFailure.LOCKED


def _full(machine: Machine, name: str) -> str:
    return f"{machine.bucket.shown.partition(f'{LOCKED}/')[2].partition(' ')[0]}/{name}"


@pytest.mark.parametrize("who", ["writer", "reader"])
def test_a_credential_that_may_not_extend_locks_sends_the_pieces_again(
    s3: Seaweed, machine: Machine, who: str
) -> None:
    first = machine.send(artifact(1, DATA))
    before = _ends(machine, first)
    credential: Mapping[str, str] = getattr(s3, who)
    prefix = _full(machine, "").rstrip("/")
    other = s3.bucket(prefix, bucket=LOCKED, credential=credential)
    machine.sharing = replace(machine.sharing, locks=other.requests)
    _at(machine, timedelta(days=20))

    sent = machine.sent(artifact(2, DATA))

    assert "AccessDenied 403" in sent.not_extended
    assert not named(sent.copy) & named(first)
    assert _ends(machine, first) == before
    assert read(machine, sent.copy) == DATA
