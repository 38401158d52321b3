"""Recovery in stages: their order, waiting, going on after an interruption, and what the end says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Manifest, Outcome, SourceName
from refnet.recovery.model.recovering import Journal, Stage, stage, stages
from refnet.recovery.model.source import Finding
from refnet.recovery.verbs.recover import Machine, Recovered, Remembering, read_journal, recover

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class World:
    """A machine that writes down what is asked of it."""

    asked: list[str] = field(default_factory=list)
    slow: int = 2
    fails: str = ""
    differs: str = ""

    def machine(self, started: Mapping[Stage, tuple[str, ...]], *, services: bool = True) -> Machine:
        self.asked.append("settings")
        return Machine(
            restore=self.restore,
            compare=lambda source, _: (Finding(source, self.outcome(source), "it differs"),),
            live=lambda _: "",
            services=self if services else None,
            started=started,
            seconds=5,
        )

    def restore(self, source: SourceName, entry: Entry) -> str:
        if source == self.fails:
            raise RefnetError("the disk is full", "Free space.")
        self.asked.append(f"restore {entry.name}")
        return f"{source} stands"

    def outcome(self, source: SourceName) -> Outcome:
        return Outcome.FAILED if source == self.differs else Outcome.PASSED

    def start(self, names: Sequence[str]) -> None:
        self.asked.append(f"start {' '.join(names)}")

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        self.slow -= 1
        return tuple(names) if self.slow > 0 else ()


def entry(source: SourceName, hours: int) -> Entry:
    created = NOW - timedelta(hours=hours)
    return Entry(Manifest(source, f"{source}.gz", created, size=1, sha256="", seconds=1))


SET = {
    SourceName.DATABASE: entry(SourceName.DATABASE, 10),
    SourceName.CONFIG: entry(SourceName.CONFIG, 50),
    SourceName.OBSIDIAN: entry(SourceName.OBSIDIAN, 11),
}
LISTED = {
    Stage.CONFIG: ("postgres", "redis"),
    Stage.VAULT: ("api",),
    Stage.BACKGROUND: ("crawler",),
    Stage.EDGE: ("nginx",),
}


def run(
    world: World,
    wanted: Sequence[Stage],
    *,
    services: bool = True,
    remember: Callable[[Stage], None] = lambda _: None,
) -> Recovered:
    return recover(
        lambda: world.machine(LISTED, services=services),
        SET,
        wanted,
        remember=remember,
        now=lambda: NOW,
        clock=iter(range(1000)).__next__,
        pause=lambda: None,
        tell=lambda _: None,
    )


def test_recovery_brings_back_everything_in_order_and_reads_the_settings_again_after_the_configuration() -> (
    None
):
    world = World()
    recovered = run(world, tuple(Stage))
    assert world.asked == [
        "settings",
        "restore config.gz",
        "settings",
        "start postgres redis",
        "restore database.gz",
        "restore obsidian.gz",
        "start api",
        "start crawler",
        "start nginx",
    ]
    assert recovered.exit is Exit.DONE
    assert recovered.ages[SourceName.CONFIG] == timedelta(hours=50)


def test_stages_without_listed_services_say_so() -> None:
    recovered = run(World(), tuple(Stage), services=False)
    says = {told.stage: told.says for told in recovered.stages}
    assert says[Stage.BACKGROUND] == says[Stage.EDGE] == ("no services are listed for it",)
    assert says[Stage.DATABASE] == ("database stands",)


def test_a_recovery_ends_as_differing_where_what_is_live_is_not_what_was_backed_up() -> None:
    recovered = run(World(differs="obsidian"), tuple(Stage))
    assert recovered.exit is Exit.DAMAGED
    assert "obsidian: failed: it differs" in recovered.stages[-1].says


def test_services_that_do_not_come_up_stop_the_recovery_by_name() -> None:
    with pytest.raises(RefnetError, match="postgres, redis did not come up within 5 s"):
        run(World(slow=10_000), tuple(Stage))


def test_a_recovery_that_was_stopped_goes_on_with_the_stages_that_are_left(tmp_path: Path) -> None:
    path = tmp_path / "home" / "recovery.json"
    journal = Journal(NOW, {source: one.name for source, one in SET.items()})
    with pytest.raises(RefnetError, match="the disk is full"):
        run(World(fails="obsidian"), tuple(Stage), remember=Remembering(path, journal).add)
    left = read_journal(path, NOW + timedelta(hours=1))
    assert left
    assert left.names == journal.names
    assert stages(left, None, None) == (Stage.VAULT, Stage.BACKGROUND, Stage.EDGE, Stage.CHECK)
    world = World()
    run(world, stages(left, None, None))
    assert world.asked == ["settings", "restore obsidian.gz", "start api", "start crawler", "start nginx"]


def test_an_interrupted_recovery_of_another_day_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "recovery.json"
    Remembering(path, Journal(NOW, {SourceName.DATABASE: "old.sql.gz"})).add(Stage.DATABASE)
    assert read_journal(path, NOW + timedelta(hours=23))
    assert read_journal(path, NOW + timedelta(hours=25)) is None


def test_stages_can_be_run_alone_or_from_one_on() -> None:
    assert stages(None, None, Stage.CHECK) == (Stage.CHECK,)
    assert stages(None, Stage.EDGE, None) == (Stage.EDGE, Stage.CHECK)
    assert stages(None, None, None) == tuple(Stage)
    with pytest.raises(RefnetError, match="'Edge' is not a stage"):
        stage("Edge")


def test_a_journal_that_a_crash_has_cut_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "recovery.json").write_text('{"began": "2026')
    assert read_journal(tmp_path / "recovery.json", NOW) is None
    assert read_journal(tmp_path / "nothing.json", NOW) is None
