"""Recovery in stages: their order, waiting, going on after an interruption, and what the end says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.actions import recovery_stages
from refnet.actions.recovery_stages import RecoveryDone, run_stages
from refnet.catalog.artifact import Finding
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import STANDARD, Kind, SourceName
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.recovery.plan import Journal, JournalFile, RecoveryPlan, Stage, decide, read_journal
from refnet.recovery.services import wait_for
from refnet.sources import hooks
from refnet.sources.base import Permits
from refnet.sources.permitted import AskedPowers

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class Made:
    """A source of that machine, and the context of its restore."""

    settings: World
    restored: Callable[[], None] = lambda: None
    name: SourceName = SourceName.CONFIG

    @property
    def store(self) -> Made:
        return self

    def artifact(self, entry: Entry) -> Entry:
        return entry

    def recover(self, context: Made, chosen: Entry, _permits: Permits) -> list[str]:
        return self.settings.restore(self.name, chosen, context.restored)

    def left_to_do(self, _context: Made, _chosen: Entry) -> tuple[str, ...]:
        return ()

    def compare(self, _context: Made, _chosen: Entry, _permits: Permits) -> tuple[Finding, ...]:
        return (Finding(self.name, self.settings.outcome(self.name), "it differs"),)


@pytest.fixture(autouse=True)
def _sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_stages, "source_of", lambda world, name: world.source(name))
    monkeypatch.setattr(
        recovery_stages, "start_services", lambda context, names: context.settings.start(names)
    )
    monkeypatch.setattr(recovery_stages, "check_health", lambda _: None)
    monkeypatch.setattr(hooks, "repeat", lambda context, source, *_: context.settings.repeat_hooks(source))


@dataclass
class World:
    """A machine that writes down what is asked of it, and permits what it is not told to refuse."""

    asked: list[str] = field(default_factory=list)
    slow: int = 2
    fails: str = ""
    hooked: str = ""
    unnamed: str = ""
    differs: str = ""
    broken: str = ""
    live: str = ""
    restored: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    refused: bool = False

    started: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    runs_restored_hooks = False

    def anew(self, started: Mapping[Stage, tuple[str, ...]]) -> World:
        self.asked.append("settings")
        self.started = started
        return self

    @property
    def setup(self) -> World:
        return self

    @property
    def permits(self) -> Permits:
        return Permits()

    def context(
        self, restored: Callable[[], None] = lambda: None, _swapping: Callable[[str], None] = lambda _: None
    ) -> Made:
        return Made(self, restored)

    def source(self, name: SourceName) -> Made:
        return Made(self, name=name)

    def replaced(self, source: SourceName) -> str:
        return self.live if source.kind is Kind.DATABASE else ""

    def commands(self) -> Mapping[Stage, tuple[str, ...]]:
        return self.restored

    def restore(self, source: SourceName, entry: Entry, restored: Callable[[], None]) -> list[str]:
        if source == self.fails:
            raise RefnetError("the disk is full", "Free space.")
        self.asked.append(f"restore {entry.name}")
        restored()
        self.hook(source)
        return [f"{source} stands"]

    def hook(self, source: SourceName) -> None:
        if source == self.hooked:
            raise RefnetError("the hook failed: it ended with 1: no disk", "It is live.")

    def repeat_hooks(self, source: SourceName) -> None:
        self.asked.append(f"hook of {source}")
        self.hook(source)

    def knows(self, source: SourceName) -> bool:
        return source != self.unnamed

    def outcome(self, source: SourceName) -> Outcome:
        return Outcome.FAILED if source == self.differs else Outcome.PASSED

    def permit_replace(self, live: str) -> None:
        self.asked.append(f"may {live} be replaced?")

    def powers(self, _source: SourceName, _entry: Entry) -> AskedPowers:
        return AskedPowers()

    def permit_run(self, commands: Mapping[Stage, tuple[str, ...]]) -> None:
        self.asked.append(f"may {', '.join(line for lines in commands.values() for line in lines)} run?")
        if self.refused:
            raise RefnetError("not confirmed", "Nothing was run.", Exit.CONFIRM)

    def report(self, _done: object) -> None:
        """Nothing is printed."""

    def services(self, stage: Stage) -> tuple[str, ...]:
        return self.started.get(stage, ())

    def start(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.broken in names:
            raise RefnetError(f"{self.broken} is broken", "See the log of the service.", transient=True)
        if names:
            self.asked.append(f"start {' '.join(names)}")
        wait_for(self, names, 5, Clock(monotonic=iter(range(1000)).__next__, sleep=lambda _: None))
        return names

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        self.slow -= 1
        return tuple(names) if self.slow > 0 else ()

    def why(self, _name: str) -> str:
        return "is slow"


def entry(source: SourceName, hours: int) -> Entry:
    created = NOW - timedelta(hours=hours)
    return Entry(Manifest(source, f"{source}.gz", created, size=1, sha256="", seconds=1))


SET = {
    SourceName.DATABASE: entry(SourceName.DATABASE, 10),
    SourceName.CONFIG: entry(SourceName.CONFIG, 50),
    SourceName.OBSIDIAN: entry(SourceName.OBSIDIAN, 11),
}
CATALOG = Catalog.of(SET.values())
EVERYTHING = decide(CATALOG, None)
LISTED = {
    Stage.CONFIG: ("postgres", "redis"),
    Stage.VAULT: ("api",),
    Stage.BACKGROUND: ("crawler",),
    Stage.EDGE: ("nginx",),
}


def run(
    world: World, plan: RecoveryPlan = EVERYTHING, *, services: bool = True, home: Path | None = None
) -> RecoveryDone:
    if home:
        home.mkdir(exist_ok=True)
    return run_stages(
        lambda _: world.anew(LISTED if services else {}),
        plan,
        world,
        Clock(lambda: NOW, iter(range(1000)).__next__),
        JournalFile(lambda: home / "recovery.json", plan.journal(NOW), lambda: NOW) if home else None,
    )


def left_in(home: Path) -> Journal:
    left = read_journal(home / "recovery.json", NOW + timedelta(hours=1))
    assert left
    return left


def test_recovery_runs_in_order_and_rereads_settings_after_configuration() -> None:
    world = World()
    recovered = run(world)
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
    recovered = run(World(), services=False)
    says = {told.stage: told.says for told in recovered.stages}
    assert says[Stage.BACKGROUND] == says[Stage.EDGE] == ("no services are listed for it",)
    assert says[Stage.DATABASE] == ("database stands",)


def test_a_recovery_that_differs_from_the_backup_exits_as_damaged() -> None:
    recovered = run(World(differs="obsidian"))
    assert recovered.exit is Exit.DAMAGED
    assert "obsidian: failed: it differs" in recovered.stages[-1].says


def test_services_that_do_not_come_up_stop_the_recovery_by_name() -> None:
    with pytest.raises(RefnetError, match="postgres, redis did not come up within 5 s"):
        run(World(slow=10_000))


def test_a_stage_that_fails_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RefnetError) as raised:
        run(World(broken="api"), home=tmp_path)
    assert raised.value.message == "the recovery stopped at the stage vault: api is broken"
    assert raised.value.hint == (
        "See the log of the service. Without services: REFNET_RECOVER_SERVICES=none."
        " Then run `refnet recover` again: it continues where it stopped."
    )
    assert raised.value.transient


def test_a_stopped_recovery_continues_with_the_remaining_stages(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="crawler is broken"):
        run(World(broken="crawler"), home=tmp_path / "home")
    plan = decide(CATALOG, left_in(tmp_path / "home"))
    assert plan.stages == (Stage.BACKGROUND, Stage.EDGE, Stage.CHECK)
    assert (plan.resumed, plan.standing) == (True, ())
    world = World()
    run(world, plan)
    assert world.asked == ["settings", "start crawler", "start nginx"]


def test_a_failing_source_stops_no_other_and_the_next_run_restores_it(tmp_path: Path) -> None:
    world = World(fails="database")
    recovered = run(world, home=tmp_path)
    assert world.asked == [
        "settings", "restore config.gz", "settings", "start postgres redis", "restore obsidian.gz"
    ]  # fmt: skip
    assert (recovered.exit, dict(recovered.missing)) == (Exit.FAILED, {"database": "the disk is full"})
    assert recovered.to_json()["complete"] is False
    assert SourceName.DATABASE not in recovered.ages
    assert "database failed: the disk is full. Free space." in recovered.stages[1].says
    plan = decide(CATALOG, left_in(tmp_path))
    assert plan.replacing == (SourceName.DATABASE,)
    world = World()
    again = run(world, plan, home=tmp_path)
    assert world.asked == [
        "settings", "restore database.gz", "start api", "start crawler", "start nginx"
    ]  # fmt: skip
    assert (again.exit, again.missing) == (Exit.DONE, {})


def test_a_skipped_source_is_named_and_the_application_starts_without_it() -> None:
    world = World(fails="database")
    recovered = run(world, EVERYTHING.without([SourceName.DATABASE]))
    assert world.asked[-3:] == ["start api", "start crawler", "start nginx"]
    assert (recovered.exit, dict(recovered.missing)) == (Exit.FAILED, {"database": "left out by --skip"})


def test_a_source_that_no_settings_name_is_missing() -> None:
    notes = SourceName("notes", Kind.FOLDER)
    recovered = run(World(unnamed=notes), decide(Catalog.of([*SET.values(), entry(notes, 3)]), None))
    assert (recovered.exit, dict(recovered.missing)) == (
        Exit.FAILED,
        {notes: "the settings do not name it"},
    )


def test_only_a_failed_hook_is_repeated_as_its_restore_is_recorded(tmp_path: Path) -> None:
    recovered = run(World(hooked="database"), home=tmp_path)
    assert dict(recovered.missing) == {"database": "the hook failed: it ended with 1: no disk"}
    plan = decide(CATALOG, left_in(tmp_path))
    assert plan.standing == (SourceName.DATABASE, SourceName.OBSIDIAN)
    world = World(hooked="database")
    again = run(world, plan, home=tmp_path)
    assert world.asked[:2] == ["settings", "hook of database"]
    assert again.exit is Exit.FAILED
    world = World()
    assert run(world, decide(CATALOG, left_in(tmp_path)), home=tmp_path).exit is Exit.DONE
    assert world.asked[:2] == ["settings", "hook of database"]


def test_restored_sources_stay_when_only_their_stages_service_failed(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="the stage config: redis is broken"):
        run(World(broken="redis"), home=tmp_path)
    plan = decide(CATALOG, left_in(tmp_path))
    assert plan.standing == (SourceName.CONFIG,)
    assert plan.replacing == (SourceName.DATABASE, SourceName.OBSIDIAN)
    world = World()
    recovered = run(world, plan)
    assert world.asked[:2] == ["settings", "start postgres redis"]
    assert recovered.stages[0].says[0] == "config.gz was restored before; config stays unchanged"


def test_a_recovery_goes_on_with_its_own_set_whatever_was_backed_up_since() -> None:
    left = Journal(NOW, {source: one.name for source, one in SET.items()}, (Stage.CONFIG,))
    half = replace(SET[SourceName.OBSIDIAN].manifest, name="half.gz", created=NOW)
    newer = Catalog.of([*SET.values(), Entry(half)])
    for plan in (decide(newer, left), decide(newer, left, only=Stage.CHECK)):
        assert plan.entries[SourceName.OBSIDIAN].name == "obsidian.gz"
    assert decide(newer, left, moment=NOW).left is None
    assert decide(newer, None).entries[SourceName.OBSIDIAN].name == "half.gz"


def test_what_was_brought_back_and_is_gone_again_is_brought_back_again() -> None:
    left = Journal(
        NOW,
        {source: one.name for source, one in SET.items()},
        (Stage.CONFIG, Stage.DATABASE),
        (SourceName.CONFIG, SourceName.DATABASE, SourceName.OBSIDIAN),
    )
    assert set(left.back) == set(STANDARD)
    plan = decide(CATALOG, left.without([SourceName.CONFIG, SourceName.OBSIDIAN]))
    assert plan.stages == (Stage.CONFIG, Stage.VAULT, Stage.BACKGROUND, Stage.EDGE, Stage.CHECK)
    assert plan.replacing == (SourceName.CONFIG, SourceName.OBSIDIAN)


def test_a_set_of_which_a_part_is_damaged_meanwhile_is_not_gone_on_with() -> None:
    left = Journal(NOW, {source: one.name for source, one in SET.items()}, (Stage.CONFIG,))
    damage = Evidence(NOW, Level.INTACT, Outcome.FAILED, 1)
    damaged = Entry(SET[SourceName.DATABASE].manifest, (damage,))
    plan = decide(Catalog.of([damaged, SET[SourceName.CONFIG]]), left)
    assert (plan.left, plan.stages) == (None, tuple(Stage))


def test_a_recovery_from_a_stage_on_is_gone_on_with_after_that_stage(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="crawler is broken"):
        run(World(broken="crawler"), decide(CATALOG, None, first=Stage.VAULT), home=tmp_path)
    assert decide(CATALOG, left_in(tmp_path)).stages == (Stage.BACKGROUND, Stage.EDGE, Stage.CHECK)


def test_a_database_found_through_restored_settings_is_confirmed_first() -> None:
    world = World(live="the database refnet")
    run(world)
    asked = world.asked.index("may the database refnet be replaced?")
    assert world.asked[asked + 1] == "restore database.gz"


def test_a_source_without_a_usable_artifact_is_named_and_fails_the_check() -> None:
    damage = Evidence(NOW, Level.INTACT, Outcome.FAILED, 1)
    damaged = Entry(SET[SourceName.DATABASE].manifest, (damage,))
    plan = decide(Catalog.of([damaged, SET[SourceName.CONFIG]]), None)
    whys = {source: one.why for source, one in plan.absent.items()}
    assert whys == {
        SourceName.DATABASE: "there is no complete artifact, 1 damaged one",
        SourceName.OBSIDIAN: "there is no artifact",
    }
    recovered = run(World(), plan)
    assert [f.what for f in recovered.findings if f.outcome is Outcome.FAILED] == ["database"]
    assert recovered.exit is Exit.DAMAGED
    assert "obsidian is not restored: there is no artifact" in recovered.stages[2].says
    assert run(World(), decide(Catalog.of([SET[SourceName.CONFIG]]), None)).exit is Exit.DONE


def test_what_is_not_in_the_set_of_a_time_is_no_loss() -> None:
    plan = decide(CATALOG, None, moment=NOW - timedelta(hours=20))
    assert {one.why for one in plan.absent.values()} == {"there is no artifact of that time"}
    assert not any(one.lost for one in plan.absent.values())


def test_an_interrupted_recovery_of_another_day_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "recovery.json"
    JournalFile(lambda: path, Journal(NOW, {SourceName.DATABASE: "old.sql.gz"}), lambda: NOW).done(
        Stage.DATABASE
    )
    assert read_journal(path, NOW + timedelta(hours=23))
    assert read_journal(path, NOW + timedelta(hours=25)) is None


def test_stages_can_be_run_alone_or_from_one_on() -> None:
    assert decide(CATALOG, None, only=Stage.CHECK).stages == (Stage.CHECK,)
    assert decide(CATALOG, None, first=Stage.EDGE).stages == (Stage.EDGE, Stage.CHECK)
    assert decide(CATALOG, None).stages == tuple(Stage)


def test_a_journal_that_a_crash_has_cut_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "recovery.json").write_text('{"began": "2026')
    assert read_journal(tmp_path / "recovery.json", NOW) is None
    assert read_journal(tmp_path / "nothing.json", NOW) is None


OUT_OF_THE_BACKUP = {Stage.VAULT: ("api --serve",), Stage.EDGE: ("nginx",)}


def test_restored_commands_are_asked_about_once_the_configuration_is_back() -> None:
    world = World(restored=OUT_OF_THE_BACKUP)
    run(world)
    at = world.asked.index("may api --serve, nginx run?")
    assert world.asked[at - 2 : at + 2] == [
        "restore config.gz",
        "settings",
        "may api --serve, nginx run?",
        "start postgres redis",
    ]
    assert sum(asked.endswith("run?") for asked in world.asked) == 1


def test_nothing_starts_when_restored_commands_are_not_permitted(tmp_path: Path) -> None:
    world = World(restored=OUT_OF_THE_BACKUP, refused=True)
    with pytest.raises(RefnetError, match="the recovery stopped at the stage config: not confirmed") as error:
        run(world, home=tmp_path)
    assert error.value.code is Exit.CONFIRM
    assert not any(asked.startswith("start") for asked in world.asked)
    assert left_in(tmp_path).restored == (SourceName.CONFIG,)


@pytest.mark.parametrize(
    ("only", "asks"), [(Stage.VAULT, True), (Stage.DATABASE, False), (Stage.CHECK, False)]
)
def test_a_stage_alone_asks_for_its_own_commands_before_it_begins(only: Stage, asks: bool) -> None:
    world = World(restored=OUT_OF_THE_BACKUP)
    run(world, decide(CATALOG, None, only=only))
    assert (world.asked[1:2] == ["may api --serve run?"]) is asks
