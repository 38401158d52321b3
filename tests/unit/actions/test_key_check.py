"""A recovery key that is typed in opens the newest copy of each store, or the check says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.remote_store import Machine, artifact

from refnet.actions.keys import check_key
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.encryption import PrivateKey
from refnet.store.keys import history_file


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "home")


def context(machine, *recipients):
    keys = recipients or (machine.recovery.recipient.text,)
    return Context(Settings(home=machine.home, encryption_recipients=keys))


def test_the_key_opens_the_newest_copy_and_that_is_recorded(machine):
    for number in (1, 2):
        sent = machine.send(artifact(number, b"a" * 100))
    found = check_key(context(machine), [machine.recovery], [machine.store()])
    assert found.exit is Exit.DONE
    (tried,) = found.tried
    assert tried.outcome is Outcome.PASSED
    assert tried.says == f"opens {sent.name}: its manifest and piece 1 of 1"
    assert history_file(context(machine).settings).read().checked(machine.recovery.recipient.text)
    assert machine.recovery.revealed() not in str(found.to_json())


def test_a_key_that_cannot_open_the_newest_copy_is_not_marked_as_checked(machine):
    machine.send(artifact(1, b"a" * 100))
    key = PrivateKey.new()
    here = context(machine, key.recipient.text)
    found = check_key(here, [key], [machine.store()])
    assert found.exit is Exit.DAMAGED
    assert "encrypted to other keys" in found.tried[0].says
    assert history_file(here.settings).read().events == ()


def test_a_store_without_copies_could_not_be_tried(machine):
    found = check_key(context(machine), [machine.recovery], [machine.store()])
    assert found.exit is Exit.UNVERIFIED
    assert "no copy" in found.tried[0].says


def test_a_store_that_does_not_answer_does_not_stop_the_others(machine, monkeypatch):
    machine.send(artifact(1, b"a" * 100))
    away = replace(machine, name="away", bucket=type(machine.bucket)()).store()

    def unreachable(_prefix):
        raise BucketError(BucketFailure.UNREACHABLE, "away does not answer", "Retry later.")

    monkeypatch.setattr(away.bucket, "listed", unreachable)
    found = check_key(context(machine), [machine.recovery], [away, machine.store()])
    assert [one.outcome for one in found.tried] == [Outcome.UNVERIFIED, Outcome.PASSED]
    assert found.exit is Exit.UNVERIFIED


def test_a_damaged_piece_is_named(machine):
    copy = machine.send(artifact(1, b"a" * 100))
    machine.bucket.delete(copy.document.pieces[0].name)
    found = check_key(context(machine), [machine.recovery], [machine.store()])
    assert found.exit is Exit.DAMAGED
    assert copy.name in found.tried[0].says


def test_nothing_is_checked_without_recipients(machine):
    with pytest.raises(RefnetError, match="is not set"):
        check_key(Context(Settings(home=machine.home)), [machine.recovery], ())
