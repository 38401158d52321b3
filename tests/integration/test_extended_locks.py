"""The locks of shared pieces are extended on a real S3 server, by the policies of the documentation."""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.command import Command
from tests.remote_store import NOW, Machine, artifact, cut_finely, objects
from tests.seaweed import LOCKED, REGION, Seaweed
from tests.shared_pieces import DATA, SCALE, named, read

from refnet.catalog.remote import Copy
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.cutting import Cutting
from refnet.store.keys import MachineKeys
from refnet.store.remote_records import RemoteRecords
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


def test_a_backup_extends_the_locks_of_what_its_copy_shares(s3: Seaweed, tmp_path: Path) -> None:
    for name in ("home", "notes"):
        (tmp_path / name).mkdir(mode=0o700)
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    (tmp_path / "s3.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in s3.machine.items())
    )
    (tmp_path / "notes" / "picture").write_bytes(random.Random(5).randbytes(3 << 20))
    recipient, prefix = refnet("key", "new", "--json").json["recipient"], secrets.token_hex(8)
    (tmp_path / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{tmp_path}/notes"\n[encryption]\nrecipients = ["{recipient}"]\n'
        f'[stores.cloud]\nurl = "s3://{LOCKED}/{prefix}"\nendpoint = "{s3.endpoint}"\nregion = "{REGION}"\n'
        f'credentials_file = "{tmp_path}/s3.toml"\nlock = "1d"\nextend_locks = true\n'
    )
    for name in ("s3.toml", "refnet.toml"):
        (tmp_path / name).chmod(0o600)
    refnet("backup", "notes", "--no-prove").succeeds()
    requests = s3.bucket(prefix, bucket=LOCKED).requests
    assert requests
    pieces = {one.name: one.id for one in requests.versions("") if "/pieces/" in one.name}
    soon = datetime.now(UTC) + timedelta(hours=1)
    cutting = Cutting.of(MachineKeys.in_home(tmp_path / "home").catalog().revealed())
    records = RemoteRecords(tmp_path / "home" / "remote" / "cloud", cutting)
    records.keep_locked_until(dict.fromkeys(pieces, soon))
    settings = (tmp_path / "refnet.toml").read_text()
    (tmp_path / "refnet.toml").write_text(settings.replace('lock = "1d"', 'lock = "5d"'))
    (tmp_path / "notes" / "a.md").write_text("# a note\n")

    made = refnet("backup", "notes", "--no-prove")

    made.succeeds()
    assert re.search(r"copied to cloud: fetched, .*: [0-9.]+ K?i?B sent, [0-9.]+ MiB shared", made.out), (
        made.out
    )
    later = {name: requests.locked_until(name, version) for name, version in pieces.items()}
    extended = [name for name, end in later.items() if end and end > datetime.now(UTC) + timedelta(days=4)]
    known = records.locked_until(datetime.now(UTC))
    assert extended == [name for name in pieces if known[name] > soon]
    assert extended, "the picture did not change"
