"""Pins, tags and lineage go with copies, and come back with a recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.remote_store import NOW, Machine, artifact

from refnet.actions import set_records
from refnet.catalog import retention
from refnet.catalog.evidence import Marks, MarksOf
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry
from refnet.catalog.schedule import Retention
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.settings import Settings
from refnet.store import settings_copies
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter
from refnet.store.settings_copies import LONGEST, SettingsCopy
from refnet.store.source_records import KeptMarks, Lineage

PINNED = Marks(pinned=True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def context(machine: Machine, tmp_path: Path, notes: list[str]) -> Context:
    settings = Settings(home=machine.home, backup_dir=tmp_path / "backups")
    return Context(settings, Clock(machine.now), note=notes.append)


def _backed_up(context: Context, number: int, marks: Marks = Marks()) -> Entry:  # noqa: B008  # it is frozen
    made = artifact(number, bytes([number]))
    assert made.manifest
    place = context.local
    with place.lock(made.source), place.draft(made.source) as draft:
        draft.out.write(bytes([number]))
        draft.publish_again(made.manifest, None)
    entry = Entry(made.manifest)
    if marks != Marks():
        place.mark(entry, marks)
    return entry


def _sender(machine: Machine) -> Sender:
    return Sender(machine.store(), Encrypter((machine.recovery.recipient,), machine.keys), machine.now)


def _sent(machine: Machine) -> list[str]:
    return [one.name for one in machine.bucket.listed("") if "/settings/" in one.name]


def _newest(machine: Machine) -> SettingsCopy | None:
    at, signer = machine.now() + timedelta(days=1), machine.keys.signer().fingerprint
    return settings_copies.newest_sent(machine.store(key=True), at, {signer})


def test_nothing_is_sent_where_there_is_nothing(machine: Machine, context: Context) -> None:
    _backed_up(context, 1)
    set_records.send(context, _sender(machine))
    assert _sent(machine) == []


def test_marks_are_sent_when_they_change_and_also_that_there_are_none_any_more(
    machine: Machine, context: Context
) -> None:
    entry = _backed_up(context, 1, PINNED)
    other = _backed_up(context, 2, Marks(tags=("good", "old")))
    Lineage.at(machine.home).add(Identity("shop", "2"), Identity("shop", "1"))
    for _ in range(2):
        set_records.send(context, _sender(machine))
    assert len(_sent(machine)) == 1
    found = _newest(machine)
    assert found
    assert {one.name: one.marks for one in found.marks} == {
        entry.name: PINNED,
        other.name: Marks(tags=("good", "old")),
    }
    assert [(one.database, one.system, one.before) for one in found.lineage] == [("shop", "2", ("1",))]

    for one in (entry, other):
        context.local.mark(one, Marks())
    set_records.send(context, _sender(machine))
    assert len(_sent(machine)) == 2
    found = _newest(machine)
    assert found
    assert found.marks == ()


def test_of_two_sets_sent_in_one_second_the_later_one_comes_back(
    machine: Machine, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, second = _backed_up(context, 1), machine.now()
    context = replace(context, clock=Clock(lambda: second))
    for ending, pinned in (("f" * 16, True), ("0" * 16, False), ("8" * 16, True)):
        monkeypatch.setattr("refnet.store.settings_copies.secrets.token_hex", lambda _, one=ending: one)
        context.local.mark(entry, Marks(pinned=pinned))
        set_records.send(context, _sender(machine))
        newest = _newest(machine)
        assert newest
        assert [one.pinned for one in newest.marks] == [True] * pinned


def test_unreadable_marks_travel_as_a_pin(machine: Machine, context: Context) -> None:
    entry = _backed_up(context, 1, PINNED)
    (context.local.path(entry).parent / f"{entry.name}.marks.json").write_text("{")
    assert [one.marks for one in set_records.current(context).marks] == [PINNED]


def test_a_settings_file_that_was_sent_before_marks_travelled_is_not_sent_again(
    machine: Machine, context: Context
) -> None:
    import hashlib
    import json

    sender = _sender(machine)
    found = SettingsCopy("jobs = 1", "/etc/refnet/refnet.toml", NOW)
    settings_copies.send(machine.store(), sender.encrypter, found)
    known = (found.text, sender.encrypter.digest, machine.keys.signer().fingerprint)
    record = json.loads((machine.store().home / "settings.json").read_text())
    assert record["digest"] == hashlib.sha256(json.dumps(known).encode()).hexdigest()


def test_more_marks_than_a_recovery_reads_are_left_out_and_that_is_said(
    machine: Machine, context: Context, notes: list[str]
) -> None:
    tags = tuple(f"{number:040}" for number in range(50))
    many = [
        MarksOf(f"{number:064x}", f"a_{number:05}", number % 2 == 0, None, tags) for number in range(3_000)
    ]
    KeptMarks.in_home(machine.home).keep(many)
    found = set_records.current(context)
    assert len(found.to_line()) <= LONGEST
    assert len(found.marks) == 1_000
    assert all(one.pinned for one in found.marks)
    assert notes == ["pins and tags of 2,000 artifacts are not sent with the copies: too many"]


def test_a_recovery_keeps_what_came_and_overrides_nothing(machine: Machine, context: Context) -> None:
    copies = [machine.send(artifact(number, bytes([number]))) for number in range(1, 4)]
    first, second, third = copies
    _backed_up(context, 2, Marks(tags=("mine",)))
    _backed_up(context, 3)
    sent = SettingsCopy(
        "",
        "",
        NOW,
        tuple(MarksOf.of(one.manifest.sha256, one.name, Marks(True, tags=("theirs",))) for one in copies),
    )
    set_records.keep(context, sent, [second, third])
    there = {one.name: one.marks for one in context.local.entries()}
    assert there == {second.name: Marks(tags=("mine",)), third.name: Marks(True, tags=("theirs",))}
    listed = {one.name: one.marks.pinned for one in machine.store().entries()}
    assert listed == {first.name: True, second.name: True, third.name: True}

    later = NOW + timedelta(days=4_000)
    marks = {one.manifest.sha256: one.marks for one in context.local.entries()}
    decided = retention.decide_copies(machine.store().entries(), Retention(days=1), later, None, {}, marks)
    kept = {one.entry.name for one in decided if one.keep}
    assert kept == {first.name, third.name}

    again = set_records.current(context)  # they travel on, for the next loss
    assert {one.name: one.tags for one in again.marks} == {
        first.name: ("theirs",), second.name: ("mine",), third.name: ("theirs",)
    }  # fmt: skip


def test_kept_marks_are_forgotten_where_an_artifact_is_marked_here(
    machine: Machine, context: Context
) -> None:
    kept = KeptMarks.in_home(machine.home)
    one = MarksOf("ab" * 32, "x.sql.gz", True)
    kept.keep([one, replace(one, sha256="cd" * 32)])
    kept.keep([replace(one, pinned=False, tags=("late",))])
    assert {each.sha256: each.pinned for each in kept.read()} == {"ab" * 32: True, "cd" * 32: True}
    kept.forget("ab" * 32)
    assert [each.sha256 for each in kept.read()] == ["cd" * 32]
