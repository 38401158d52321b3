"""Two machines with one backup folder, a lost REFNET_HOME, a clone: whose artifacts are chosen, kept and counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet import wiring
from refnet.actions.backup import Options, backup
from refnet.actions.choose import choose_to_restore, newest_of
from refnet.actions.list import notes
from refnet.actions.overview import overview_reader
from refnet.actions.prune import prune
from refnet.catalog.identity import SourceId
from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring import Status
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.sources.folder.source import Folder
from refnet.sources.restoring import RestoreRequest

VAULT = SourceName.OBSIDIAN
#: The folder says when it was read, by the clock of the system.
NOON = datetime.now(UTC)


@dataclass
class Machine:
    """A home and a vault, and the backup folder that machines share."""

    settings: Settings
    notes: list[str]
    now: datetime = NOON

    @property
    def context(self) -> Context:
        return Context(self.settings, Clock(lambda: self.now), note=self.notes.append)

    @property
    def vault(self) -> Path:
        return self.settings.vault_dir

    def backup(self, text: str, *, prove: bool = False) -> str:
        (self.vault / "note.md").write_text(text)
        self.now += timedelta(hours=1)
        made = backup(self.context, VAULT, Options(prove=prove))
        assert made
        return made.manifest.name

    def chosen(self) -> str:
        return newest_of(self.context, (VAULT,))[0].name

    def restore(self, artifact: str | None = None) -> None:
        chosen = choose_to_restore(self.context, VAULT, artifact, None)
        request = RestoreRequest(named=artifact is not None)
        work = Folder(self.settings, VAULT).restoring(self.context, chosen, request)
        work.plan(self.context).check()
        work.restore(self.context)

    def entry(self, name: str) -> Entry:
        (found,) = (one for one in wiring.store(self.settings).entries(VAULT) if one.name == name)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    def of(name: str) -> Machine:
        folder = tmp_path / name
        (folder / "vault").mkdir(parents=True)
        settings = Settings(
            home=folder / "home",
            backup_dir=tmp_path / "backups",
            vault_dir=folder / "vault",
            origins={"vault_dir": "a test"},
            database_url=None,
        )
        return Machine(settings, [])

    return of


def test_each_artifact_has_the_identity_of_its_source_and_the_next_number(machine):
    one = machine("a")

    first, second = one.entry(one.backup("1")), one.entry(one.backup("2"))

    assert first.whose == second.whose == source_of(one.settings, VAULT).whose()
    assert isinstance(first.whose, SourceId)
    assert [first.manifest.number, second.manifest.number] == [1, 2]
    assert first.manifest.format == 3


def test_a_number_is_not_used_again_after_its_artifact_is_gone(machine):
    one = machine("a")
    one.backup("1")
    wiring.store(one.settings).delete(one.entry(one.backup("2")))

    assert one.entry(one.backup("3")).manifest.number == 3


def test_two_machines_choose_their_own_from_one_backup_folder(machine):
    one, other = machine("a"), machine("b")
    mine, theirs = one.backup("mine"), other.backup("theirs")

    assert (one.chosen(), other.chosen()) == (mine, theirs)
    one.restore()
    assert (one.vault / "note.md").read_text() == "mine"
    assert "stay separate" in other.notes[0]


def test_one_machines_vault_does_not_replace_anothers_without_being_named(machine):
    one, other = machine("a"), machine("b")
    name = one.backup("mine")
    (other.vault / "note.md").write_text("theirs")

    with pytest.raises(RefnetError, match="is of another machine") as refused:
        other.restore()

    assert name in refused.value.hint
    assert (other.vault / "note.md").read_text() == "theirs"
    other.restore(name)
    assert (other.vault / "note.md").read_text() == "mine"


def test_prune_of_one_machine_keeps_the_last_proven_artifact_of_the_other(machine):
    one, other = machine("a"), machine("b")
    mine = one.backup("mine", prove=True)
    other.now = NOON + timedelta(days=400)
    for text in "123":
        other.backup(text, prove=True)
    short = replace(other.settings, retention_obsidian=Retention(1))
    other.now += timedelta(days=3)

    prune(replace(other.context, settings=short), (VAULT,))

    assert mine in {entry.name for entry in wiring.store(one.settings).entries()}


def test_the_monitor_counts_two_machines_apart(machine):
    one, other = machine("a"), machine("b")
    mine = one.backup("mine", prove=True)
    other.now += timedelta(hours=9)
    other.backup("theirs", prove=True)

    checks = overview_reader(one.settings, lambda: other.now, VAULT)().checks

    age = next(check for check in checks if check.source == VAULT and check.what == "age")
    assert mine in age.says
    others = next(check for check in checks if check.source == VAULT and check.what == "others")
    assert "1 artifact" in others.says


def test_a_much_smaller_vault_of_a_second_machine_is_not_shrunk(machine):
    one, other = machine("a"), machine("b")
    for number in range(40):
        (one.vault / f"{number}.md").write_text("x")
    one.backup("mine")

    assert not other.entry(other.backup("theirs")).shrunk


def test_a_new_home_that_restores_goes_on_as_the_source_of_the_artifact(machine):
    lost, new = machine("a"), machine("b")
    for text in "123":
        lost.backup(text)

    new.now = lost.now
    new.restore()
    made = new.entry(new.backup("4"))

    assert made.whose == source_of(lost.settings, VAULT).whose()
    assert made.manifest.number == 4


def test_containers_beside_a_recovered_machine_continue_the_same_source(machine):
    lost, host, container = machine("a"), machine("b"), machine("c")
    lost.backup("1")

    host.now = container.now = lost.now
    host.restore()
    container.backup("2")
    third = machine("d")
    third.now = container.now
    third.backup("3")

    whose = source_of(lost.settings, VAULT).whose()
    assert source_of(host.settings, VAULT).whose() == source_of(container.settings, VAULT).whose() == whose
    assert source_of(third.settings, VAULT).whose() != whose  # the recovery was handed over once


def test_a_new_home_that_backs_up_first_begins_a_source_of_its_own(machine):
    lost, new = machine("a"), machine("b")
    old = lost.backup("1")

    made = new.entry(new.backup("2"))

    assert made.whose != source_of(lost.settings, VAULT).whose()
    assert made.manifest.number == 1
    assert old in {entry.name for entry in wiring.store(new.settings).entries()}


def test_a_clone_of_a_machine_makes_artifacts_of_the_same_source(machine, tmp_path: Path):
    one = machine("a")
    one.backup("1")
    clone = machine("b")
    shutil.copytree(one.settings.home, clone.settings.home)
    clone.now = one.now

    first, second = one.entry(one.backup("2")), clone.entry(clone.backup("3"))

    assert first.whose == second.whose
    assert [first.manifest.number, second.manifest.number] == [2, 3]


def test_a_renamed_folder_is_the_same_source(machine):
    one = machine("a")
    first = one.entry(one.backup("1"))
    moved = one.vault.rename(one.vault.with_name("moved"))
    one.settings = replace(one.settings, vault_dir=moved)

    assert one.entry(one.backup("2")).whose == first.whose


def test_artifacts_of_an_older_refnet_stay_the_machines_own(machine):
    one = machine("a")
    old = one.backup("1")
    manifest = wiring.store(one.settings).folder(VAULT) / f"{old}.json"
    whose = one.entry(old).manifest.identity_id
    text = manifest.read_text().replace(whose, "").replace('"number": 1', '"number": null')
    manifest.write_text(text.replace('"format": 3', '"format": 1'))
    shutil.rmtree(one.settings.home)

    assert one.chosen() == old
    one.restore()
    new = one.backup("2")
    assert one.chosen() == new
    assert not one.notes


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"id": 7, "number": 1}', '{"id": "x", "number": 1}', '{"id": ""}']
)
def test_a_damaged_record_of_an_identity_is_an_error_with_a_way_out(machine, text: str):
    one = machine("a")
    one.backup("1")
    record = one.settings.home / "identities" / "obsidian.json"
    record.write_text(text)

    with pytest.raises(RefnetError, match="is not the record of a source") as refused:
        one.backup("2")

    assert "Remove it" in refused.value.hint


def ahead_then_right(one: Machine, days: int = 400) -> tuple[str, str]:
    """Make an artifact with a clock that is ahead, then one with the right clock; return their names."""
    right = one.now
    one.now += timedelta(days=days)
    wrong = one.backup("with a wrong clock")
    one.now = right
    return wrong, one.backup("with the lost file")


def test_one_run_with_a_clock_that_was_ahead_decides_no_later_restore(machine):
    one = machine("a")
    one.backup("first")
    _, right = ahead_then_right(one)

    assert one.chosen() == right
    (one.vault / "note.md").unlink()
    one.restore()
    assert (one.vault / "note.md").read_text() == "with the lost file"
    one.now += timedelta(days=401)  # the day of the wrong clock has come
    assert one.chosen() == right


def test_what_is_dated_in_the_future_is_said_by_plan_list_and_monitor(machine):
    one = machine("a")
    one.backup("first", prove=True)
    wrong, _ = ahead_then_right(one)

    chosen = newest_of(one.context, (VAULT,))[0]
    assert any(wrong in note and "dated in the future" in note for note in chosen.notes)
    assert any("dated in the future" in note for note in notes(one.entry(wrong), one.now))
    one.now += timedelta(days=9)
    checks = overview_reader(one.settings, lambda: one.now, VAULT)().checks
    says = {check.what: check for check in checks if check.source == VAULT}
    assert (says["clock"].status, wrong in says["clock"].says) == (Status.WARNING, True)
    assert says["age"].status is Status.CRITICAL
    assert "9 d old" in says["age"].says


def test_an_artifact_of_the_future_is_chosen_by_name_or_if_it_is_the_only(machine):
    one = machine("a")
    one.now += timedelta(days=400)
    wrong = one.backup("with a wrong clock")
    one.now -= timedelta(days=400)

    assert one.chosen() == wrong
    assert choose_to_restore(one.context, VAULT, wrong, None).name == wrong
    assert any("dated in the future" in note for note in newest_of(one.context, (VAULT,))[0].notes)


def test_prune_with_a_clock_ahead_asks_before_deleting_many_days(machine):
    one = machine("a")
    names = [
        one.backup(str(day)) for day in range(8) if setattr(one, "now", one.now + timedelta(days=1)) is None
    ]
    one.now += timedelta(days=365)

    plans, errors = prune(one.context, (VAULT,))

    assert plans == []
    assert [error.code for error in errors] == [Exit.CONFIRM]
    assert "7 artifacts" in errors[0].message
    assert len(wiring.store(one.settings).entries(VAULT)) == len(names)
    plans, errors = prune(one.context, (VAULT,), much=True)
    assert (len(plans[0].deleted), errors) == (7, [])


def test_a_prune_of_what_a_night_leaves_does_not_ask(machine):
    one = machine("a")
    for day in range(6):
        one.backup(str(day))
        one.now += timedelta(days=1)
    one.now += timedelta(days=30 - 4)

    plans, errors = prune(one.context, (VAULT,))

    assert (len(plans[0].deleted), errors) == (3, [])
