"""Locks of shared pieces are extended before a manifest needs them; where that fails, the pieces are sent again."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket, MemoryLocks
from tests.remote_store import NOW, Machine, artifact
from tests.shared_pieces import DATA, NOISE, PIECE, damage, fixed_cuts, memory, named, read, send

from refnet import settings
from refnet.catalog.remote import Copy
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.s3_requests import S3Requests
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys
from refnet.store.remote import RemoteStore
from refnet.store.sending import Sender, Sharing, sender_to

LOCK = timedelta(days=30)
DAYS = 60 * 24

pytestmark = pytest.mark.usefixtures("fine_cuts")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = fixed_cuts(tmp_path / "home")
    made.bucket = MemoryBucket(versioned=True, now=lambda: NOW + timedelta(minutes=made.ticks))
    made.sharing = Sharing(lock=LOCK, locks=MemoryLocks(made.bucket, LOCK))
    return made


def locks(machine: Machine) -> MemoryLocks:
    assert isinstance(machine.sharing.locks, MemoryLocks)
    return machine.sharing.locks


def ends(machine: Machine, copy: Copy) -> list[datetime]:
    """When the lock of each piece of a copy ends."""
    known = locks(machine)
    return [end for one in named(copy) if (end := known.locked_until(one, _version(copy, one)))]


def _version(copy: Copy, name: str) -> str:
    return next(one.version for one in copy.document.pieces if one.name == name)


def test_without_extension_a_piece_is_sent_again_when_half_of_its_lock_is_over(machine: Machine) -> None:
    machine.sharing = Sharing(lock=LOCK)
    send(machine, 1)
    machine.ticks = 14 * DAYS
    assert send(machine, 2).new == set()
    machine.ticks = 16 * DAYS
    late = send(machine, 3)
    assert late.new == named(late.copy)


def test_a_lock_of_which_half_is_over_is_extended_and_nothing_is_sent(machine: Machine) -> None:
    first = send(machine, 1)
    machine.ticks = 14 * DAYS
    assert send(machine, 2).new == set()
    assert locks(machine).asked == []
    machine.ticks = 16 * DAYS

    third = send(machine, 3)

    assert third.new == set()
    assert sorted(locks(machine).asked) == sorted(named(first.copy)), "one request a piece"
    assert len(locks(machine).read) == 1, "and one for all of them"
    assert min(ends(machine, third.copy)) >= NOW + timedelta(days=16) + LOCK
    locks(machine).asked.clear()
    machine.ticks = 30 * DAYS
    assert send(machine, 4).new == set()
    assert locks(machine).asked == [], "until half of that is over"
    machine.ticks = 46 * DAYS
    assert send(machine, 5).new == set()
    assert sorted(locks(machine).asked) == sorted(named(first.copy))


def test_only_locks_of_pieces_that_the_copy_names_are_extended(machine: Machine) -> None:
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    second = send(machine, 2, DATA[: len(DATA) // 2] + NOISE.randbytes(3 * PIECE))
    assert sorted(locks(machine).asked) == sorted(named(first.copy) & named(second.copy))
    assert named(first.copy) - named(second.copy)


@pytest.mark.parametrize("manifests", [1, 2])
def test_a_kill_between_the_extension_and_the_manifest_loses_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, manifests: int
) -> None:
    """Killed before the manifest is made, or before it is sent."""
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    changed = DATA + NOISE.randbytes(PIECE)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    at = ("leases.require_no_prune", "sending.Sender._publish")[manifests - 1]
    with monkeypatch.context() as patched:
        patched.setattr(f"refnet.store.{at}", killed)
        with pytest.raises(KeyboardInterrupt):
            machine.send(artifact(2, changed))
    assert sorted(locks(machine).asked) == sorted(named(first.copy) & {*locks(machine).extended})
    assert [one.id for one in machine.store().entries()] == [first.copy.id]

    second = send(machine, 2, changed, lambda: machine.send(artifact(2, changed)))

    assert second.new == set(), "the killed run sent all of it"
    assert len(locks(machine).asked) == len(locks(machine).extended), "nothing is extended twice"
    assert min(ends(machine, second.copy)) >= NOW + timedelta(days=16) + LOCK
    assert machine.fetch_back(second.copy).state == "fetched"
    assert machine.store().contents().gaps == ()


class _Unreadable(MemoryLocks):
    """A server without the request for a lock: it answers with the object."""

    def locked_until(self, name: str, version: str = "") -> datetime | None:
        raise BucketError(BucketFailure.DAMAGED, f"cannot read the lock of {name} {version}: not XML", "")


def test_where_a_lock_cannot_be_read_the_pieces_are_sent_again(machine: Machine) -> None:
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    machine.sharing = replace(machine.sharing, locks=_Unreadable(memory(machine), LOCK))
    sent = machine.sent(artifact(2, DATA))
    assert not named(sent.copy) & named(first.copy)
    assert "does not confirm them" in sent.not_extended


@pytest.mark.parametrize(("refuses", "keeps"), [(True, True), (False, False)])
def test_where_a_lock_is_not_extended_the_pieces_are_sent_again(
    machine: Machine, refuses: bool, keeps: bool
) -> None:
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    machine.sharing = replace(
        machine.sharing, locks=MemoryLocks(memory(machine), LOCK, refuses=refuses, keeps=keeps)
    )
    middle = len(DATA) // 2
    changed = DATA[:middle] + b"changed" + DATA[middle:]

    sent = machine.sent(artifact(2, changed))

    assert not named(sent.copy) & named(first.copy)
    assert read(machine, sent.copy) == changed
    said = "AccessDenied 403" if refuses else "does not confirm them"
    assert said in sent.not_extended
    assert not refuses or len(locks(machine).asked) <= 8, "it is not asked once for each piece"
    again = machine.sent(artifact(3, changed))
    assert (again.not_extended, named(again.copy)) == ("", named(sent.copy))


def test_a_piece_whose_version_is_gone_is_sent_again_and_the_others_are_extended(machine: Machine) -> None:
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    lost = first.copy.document.pieces[1]
    kept = memory(machine).contents[lost.name]
    kept[0] = replace(kept[0], version="another")

    sent = machine.sent(artifact(2, DATA))

    assert sent.not_extended == ""
    assert named(first.copy) - named(sent.copy) == {lost.name}
    assert read(machine, sent.copy) == DATA


def test_a_piece_without_the_id_of_its_version_is_not_extended(machine: Machine) -> None:
    machine.bucket = MemoryBucket(now=memory(machine).now)
    machine.sharing = replace(machine.sharing, locks=MemoryLocks(memory(machine), LOCK))
    send(machine, 1)
    machine.ticks = 16 * DAYS
    second = send(machine, 2)
    assert second.new == named(second.copy)
    assert locks(machine).asked == []


def test_a_damaged_piece_is_not_extended(machine: Machine) -> None:
    first = send(machine, 1)
    lost = first.copy.document.pieces[1].name
    damage(machine, lost, lambda data: data[:-1])
    machine.ticks = 16 * DAYS
    second = send(machine, 2)
    assert len(second.new) == 1
    assert lost not in locks(machine).asked


def test_without_the_record_locks_are_extended_once_more_and_a_longer_one_is_accepted(
    machine: Machine,
) -> None:
    send(machine, 1)
    machine.ticks = 16 * DAYS
    send(machine, 2)
    (machine.store().home / "locks.json").write_text("damaged")
    known = locks(machine)
    known.asked.clear()
    one, *_ = known.extended
    known.extended[one] += timedelta(days=300)

    assert send(machine, 3).new == set()

    assert sorted(known.asked) == sorted(known.extended)
    assert known.extended[one] > NOW + timedelta(days=300)


def test_an_extension_that_another_program_wrote_down_is_not_believed(machine: Machine) -> None:
    first, until = send(machine, 1), NOW + timedelta(days=300)
    forged = {"format": 1, "pieces": dict.fromkeys(named(first.copy), int(until.timestamp()))}
    (machine.store().home / "locks.json").write_text(json.dumps(forged))
    machine.ticks = 16 * DAYS
    assert machine.store().records.locked_until(NOW) == {}
    assert send(machine, 2).new == set()
    assert sorted(locks(machine).asked) == sorted(named(first.copy))


def test_a_server_that_does_not_answer_ends_the_copy_and_the_next_run_continues(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = send(machine, 1)
    machine.ticks = 16 * DAYS
    lock, count = MemoryLocks.lock, 0

    def silent(self: MemoryLocks, name: str, version: str, until: datetime) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        lock(self, name, version, until)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryLocks, "lock", silent)
        with pytest.raises(BucketError):
            machine.send(artifact(2, DATA))
    second = send(machine, 2)
    assert second.new == set()
    assert named(second.copy) == named(first.copy)
    assert min(ends(machine, second.copy)) >= NOW + timedelta(days=16) + LOCK


def test_many_nights_keep_each_lock_longer_than_half_and_extend_it_twice_a_month(machine: Machine) -> None:
    data, chance, asked = DATA, random.Random(3), dict[int, int]()
    for night in range(1, 61):
        machine.ticks = night * DAYS
        before = len(locks(machine).asked)
        if chance.random() < 0.3:
            data += NOISE.randbytes(PIECE // 4)
        copy = machine.send(artifact(night, data))
        assert min(ends(machine, copy)) >= NOW + timedelta(days=night) + LOCK / 2
        asked[night] = len(locks(machine).asked) - before
    once = len({*locks(machine).asked})
    assert once <= sum(asked.values()) <= 4 * once


def _sender(folder: Path, **variables: str) -> Sender:
    """What sends to the store of a settings file."""
    (folder / settings.FILE_NAME).write_text(
        f'[encryption]\nrecipients = ["{PrivateKey.new().recipient.text}"]\n'
        '[stores.cloud]\nurl = "s3://bucket"\nlock = "30d"\nextend_locks = true\nshare_for = "400d"\n'
    )
    (folder / settings.FILE_NAME).chmod(0o600)
    home = folder / "home"
    home.mkdir(mode=0o700)
    given = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(folder / "backups"), **variables}
    found = settings.load(given, folder, root=False, cores=2)
    MachineKeys.in_home(home).make_missing()
    return sender_to(RemoteStore.of_settings(found, "cloud"), found, lambda: NOW)


def test_the_settings_of_a_store_say_what_its_copies_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    found = _sender(tmp_path).sharing
    assert (found.age, found.lock) == (timedelta(days=400), LOCK)
    assert isinstance(found.locks, S3Requests)


def test_locks_cannot_be_extended_by_the_role_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(RefnetError, match="extend_locks needs a credential") as refused:
        _sender(tmp_path)
    assert refused.value.code is Exit.USAGE
    assert "stores.cloud.credentials_file" in refused.value.hint
    (tmp_path / "other").mkdir()
    found = _sender(tmp_path / "other", REFNET_STORES_CLOUD_EXTEND_LOCKS="false")
    assert found.sharing.locks is None
