"""recover: plan the recovery of everything after a loss, then run it stage by stage.

Its state, one after another: a `RecoveryRequest` is what the user asks; `Machine` and `Setup` (recovery_settings.py) are what
is here, and the settings that count; a `RecoveryPlan` (recovery/plan.py) is the set and the stages; `Planned` is plan and setup
as they are shown; `Live` (recovery_stages.py) is what each restore works with; `RecoveryDone` is the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from refnet import wiring
from refnet.actions import recovery_settings
from refnet.actions.choose import nothing, of_others
from refnet.actions.latest_databases import said
from refnet.actions.physical_way import PhysicalWay, physical_ways
from refnet.actions.protect_again import CameBack
from refnet.actions.recovery_settings import BIN_DIRS, BY_MANIFEST, Machine, RecoveryCommand, Setup
from refnet.actions.recovery_stages import Live, Operator, RecoveryDone, run_stages
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.identity import Identity, Whose
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import STANDARD, SourceName, in_groups
from refnet.context import Context, own_home
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.core.files import explained, make_folder, read_regular
from refnet.core.formatting import local
from refnet.core.member_names import show
from refnet.postgres.account import make_enterable
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target
from refnet.recovery import plan as recovery_plan
from refnet.recovery.plan import Journal, JournalFile, RecoveryPlan, Stage, read_journal, recovered
from refnet.settings import LARGEST, Settings, variable
from refnet.sources import kind_of, source_of
from refnet.sources.base import Permits
from refnet.sources.permitted import AskedPowers, Permitted
from refnet.store import backup_folder, settings_copies


@dataclass(frozen=True)
class RecoveryRequest:
    #: The set of this time; None: the newest.
    at: str | None = None
    #: From this stage on.
    first: Stage | None = None
    #: Only this stage.
    only: Stage | None = None
    #: Restore the data of this database, though it is not the target.
    from_database: str | None = None
    #: Run commands from the backup.
    run_restored: bool = False
    #: The powers that roles of the backup may get.
    powers: Permitted = Permitted()
    #: Choose among these artifacts, which a fetch has brought; None: all.
    fetched: frozenset[str] | None = None
    #: The backup folder into which it has brought them, whatever the configuration that comes back names; None: that of
    #: the settings.
    backup_dir: Path | None = None
    #: Where it has brought them, if the backup folder is encrypted.
    folder: Path | None = None
    #: The settings file that it has brought, its path and content.
    settings: tuple[Path, bytes] | None = None
    #: Whether a trusted signer sent them.
    signed: bool = False
    #: Variables that take precedence over the environment.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: These sources are left out.
    skip: frozenset[str] = frozenset()
    #: Base backups, by name, that the machine that sent them had compared with a database.
    proven: frozenset[str] = frozenset()
    #: When this run began, if a fetch came first; None: now.
    began: datetime | None = None


@dataclass(frozen=True)
class Planned:
    """A plan, and the setup after the configuration is restored."""

    plan: RecoveryPlan
    setup: Setup
    #: Sentences about the artifacts.
    notes: tuple[str, ...] = ()
    #: Why sources will not be restored.
    problems: tuple[RefnetError, ...] = ()
    #: The powers of roles that each source asks for; one whose server does not respond is asked in its stage.
    powers: Mapping[SourceName, AskedPowers] = field(default_factory=dict)
    #: How servers can come back as a whole.
    physical: tuple[PhysicalWay, ...] = ()

    @property
    def commands(self) -> list[RecoveryCommand]:
        """Commands that the recovery runs."""
        return [one for one in self.setup.commands if one.stage in self.plan.stages]

    @property
    def exit(self) -> Exit:
        """Exit code of the recovery as far as known in advance: a failing source does not stop the others."""
        config = SourceName.CONFIG in self.plan.replacing and self.folder_problem(SourceName.CONFIG)
        return config.code if config else Exit.FAILED if self.problems else Exit.DONE

    @property
    def unrestorable(self) -> dict[SourceName, RefnetError]:
        """Sources that will not be restored, and why, as far as no server is asked."""
        incomplete = "The recovery is not complete without it."
        found = {
            source: RefnetError(f"{source} is not restored: {why}", incomplete)
            for source, why in self.plan.missing.items()
        }
        for source in self.plan.replacing:
            if not self.setup.knows(source):
                hint = f"Name it in the settings of the recovery (--config FILE), or leave it out: --skip {source}."
                why = f"{source} is not restored: the settings do not name it"
                found[source] = RefnetError(why, hint)
            elif problem := self.folder_problem(source):
                found[source] = problem
        return found

    def folder_problem(self, source: SourceName) -> RefnetError | None:
        """Error that prevents restoring `source` to its folder, or None."""
        try:
            folder = self.setup.folder(source)
        except RefnetError as error:
            return error
        if folder or not kind_of(source).has_path:
            return None
        message = f"the target folder of {self.plan.entries[source].name} is unknown"
        return RefnetError(message, "Set it: REFNET_CONFIG_DIR=FOLDER refnet recover.", Exit.USAGE)

    @property
    def targets(self) -> dict[str, str]:
        """Targets of the sources in the set, and the settings file."""
        targets = {source: self._target(source) for source in self.plan.entries}
        of_backup = ", out of the backup" if self.setup.own else ""
        return targets | {"settings": f"{self.setup.settings.file or 'none'}{of_backup}"}

    def _target(self, source: SourceName) -> str:
        if not self.setup.knows(source):
            return "not restored: the settings do not name it"
        if not (found := source_of(self.setup.settings, source)).has_path:
            return found.what()
        try:
            folder = self.setup.folder(source)
        except RefnetError as error:
            return f"{show(error.message)}. {error.hint}"
        if folder is None:
            return "unknown: set REFNET_CONFIG_DIR"
        origin = f" ({self.setup.origin})" if source == SourceName.CONFIG and self.setup.origin else ""
        if source == SourceName.OBSIDIAN and self.setup.vault_by_manifest:
            origin = f" ({BY_MANIFEST})"
        return f"{show(str(folder), 1000)}{origin}"

    def to_json(self) -> dict[str, Any]:
        entries = self.plan.entries
        return {
            "set": {source: entry.name for source, entry in entries.items()},
            "from_database": next((e.identity.database for e in entries.values() if e.identity), None),
            "absent": {source: one.why for source, one in self.plan.absent.items()},
            "standing": list(self.plan.standing),
            "stages": list(self.plan.stages),
            "to": self.targets,
            "commands": [
                {"stage": one.stage, "command": one.line, "restored": one.restored} for one in self.commands
            ],
            "role_powers": [
                {"source": source, "permit": str(power), "permitted": by or None}
                for source, asked in self.powers.items()
                for power, by in (*asked.permitted.items(), *((one, "") for one in asked.open))
            ],
            "physical": [one.to_json() for one in self.physical],
            "notes": [*self.setup.notes, *self.notes],
            "problems": [one.to_json() for one in self.problems],
        }


def _journal_in(home: Path) -> Path:
    return home / "recovery.json"


def begin(context: Context) -> datetime:
    """Record that a recovery begins with a fetch, unless one continues; return the time."""
    home, now = context.settings.home, context.clock.now()
    make_enterable(home)
    if read_journal(path := _journal_in(home), now) is None:
        JournalFile(lambda: path, Journal(now, {}), context.clock.now).begin()
    return now


def _variable(key: str, value: Path | None) -> dict[str, str]:
    """Return `value` as the environment variable of a setting; empty for None."""
    return {} if value is None else {variable(key): str(value)}


class Recovery:
    """A planned recovery. RefnetError if there is nothing to recover from."""

    def __init__(
        self,
        request: RecoveryRequest,
        warn: Callable[[Iterable[str]], None],
        clock: Clock | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Decide what is recovered.

        Args:
            warn: called with warnings about the settings, possibly repeatedly.
            machine: the machine to recover; None: this one.
        """
        self._request, self._warn, self.clock = request, warn, clock or Clock()
        self._here = machine or Machine(os.environ, Path.cwd())
        self._started = self._began = request.began or self.clock.now()
        self._file: JournalFile | None = None
        self._confirmed = False
        self._made: tuple[str, ...] = ()
        #: What was said in the place of variables of the environment.
        self._variables = {**request.variables, **_variable("backup_dir", request.backup_dir)}
        #: What a plan says of artifacts that are dated in the future.
        self._clocks: tuple[str, ...] = ()
        self._before = self._setup({}).settings
        self.plan = self._decide()

    def goes_to(self, folder: Path) -> None:
        """Restore the configuration to `folder`, which nothing else names."""
        self._variables |= _variable("config_dir", folder)

    def planned(self) -> Planned:
        """The plan, and the setup after the configuration is restored."""
        planned = self.offline()
        problems = (*planned.problems, *self._problems(planned))
        return replace(planned, problems=problems, powers=dict(self._powers()))

    def offline(self) -> Planned:
        """What `planned` returns, as far as no server is asked."""
        setup = self._setup(self.plan.entries, planned=SourceName.CONFIG in self.plan.replacing)
        latest = said(Context(setup.settings, self.clock), self.plan)
        planned = Planned(self.plan, setup, (*self._clocks, *self._ended(), *latest))
        ways = physical_ways(setup.settings, self.plan.entries, self._request.proven)
        return replace(planned, problems=tuple(planned.unrestorable.values()), physical=tuple(ways))

    def _powers(self) -> Iterator[tuple[SourceName, AskedPowers]]:
        """Yield the powers of roles that sources ask for, as far as their servers respond."""
        live = self._live(self.plan.entries)
        for source in self.plan.replacing:
            if live.setup.knows(source):
                with suppress(RefnetError):  # its problem is named, or its stage names it
                    asked = live.powers(source, self.plan.entries[source])
                    if asked.permitted or asked.open:
                        yield source, asked

    def _ended(self) -> Iterator[str]:
        """Yield that a recovery was complete here within a day."""
        paths = (recovered(path) for path in self._journals(self.plan.entries))
        found = (read_journal(path, self.clock.now()) for path in paths)
        if not self.plan.resumed and (last := next((one.at for one in found if one and one.at), None)):
            yield f"a recovery was complete here at {local(last)}; this one restores everything again"

    def _problems(self, planned: Planned) -> Iterator[RefnetError]:
        """Yield reasons of servers and files why sources will not be restored. Unreachable servers are checked again in their stage."""
        live = self._live(self.plan.entries)
        context = live.context()
        for source in self.plan.replacing:
            # Another one may be named only when the configuration is back.
            if source not in planned.unrestorable and live.setup.knows(source):
                with suppress(ConnectError):
                    chosen = context.store.artifact(self.plan.entries[source])
                    yield from source_of(context.settings, source).problems(context, chosen, live.permits)

    def settings(self) -> Settings:
        """The current settings."""
        return self._setup(self.plan.entries).settings

    def came_back(self) -> CameBack | None:
        """The settings of the lost machine, if they came with the backup; None: a settings file of this one is in force."""
        setup, request = self._setup(self.plan.entries), self._request
        copy = setup.settings.file
        if copy and request.settings and self.plan.left:  # a run that was killed may have put them in force
            with suppress(OSError):
                copy = request.settings[0] if read_regular(copy, LARGEST) == request.settings[1] else copy
        # On a machine without a settings file the one of the configuration counts, in the folder of the configuration.
        placed = setup.own and self._before.file is None and SourceName.CONFIG in self.plan.entries
        kept = copy is not None and copy.parent.name == settings_copies.FOLDER
        if copy is None or not (kept or placed) or not copy.exists():
            return None
        asked = request.run_restored or not any(name in setup.settings.origins for name in BIN_DIRS)
        whole = not (request.only or request.first)  # each stage asks before it runs programs of a backup
        trusted = request.signed and request.settings is not None and asked and whole
        with suppress(OSError):
            content = request.settings[1] if request.settings and kept else read_regular(copy, LARGEST)
            environment = {**os.environ, **request.variables}
            return CameBack(setup.settings, copy, content, trusted, environment, placed=not kept)
        return None

    def replaced(self) -> list[str]:
        """Live data that would be replaced. Unreachable servers are checked again in their stage."""
        setup, found = self._setup(self.plan.entries), []
        begun = self.plan.left.swaps if self.plan.left else {}
        for source in (
            one for one in self.plan.replacing if one not in begun
        ):  # asked again if it was not swapped
            with suppress(ConnectError):
                found.append(setup.replaced(source))
        return [one for one in found if one]

    def run(self, operator: Operator) -> RecoveryDone:
        """Run the stages of the confirmed plan. A single stage cannot be continued.

        RefnetError (LOCKED) if another recovery of this REFNET_HOME runs: both would write the same journal.
        """
        self._confirmed = True
        entries, journal = self.plan.entries, self.plan.journal(self._began)
        if not self._request.only:
            self._file = JournalFile(partial(self._journal, entries), journal, self.clock.now)
        own = self._before.home / "locks" / ".recovery"
        with explained(self._before.home):
            make_enterable(self._before.home)  # the user of a server that is made there passes through
        make_folder(own)
        with backup_folder.locked(own, "the recovery"):
            if self._file:
                self._file.begin()
            done = run_stages(self._live, self.plan, operator, self.clock, self._file)
            if journal.began < self._started:
                done = replace(done, began_before=journal.began)
            # Of the whole recovery, with its fetch; a clock that was set back shortens no run.
            whole = (self.clock.now() - journal.began).total_seconds()
            done = replace(done, seconds=max(done.seconds, whole))
            self._made = done.made
            if self._file and done.behind:
                self._file.reopen(done.behind)
        return done

    def end(self, done: RecoveryDone) -> None:
        """Record that the recovery is complete; called after its report, so that a killed run reports once more."""
        if self._file and done.is_final:
            self._file.end()
            for path in self._journals(self.plan.entries):
                path.unlink(missing_ok=True)

    @property
    def _machine(self) -> Machine:
        """Environment and folder of this process, without encryption.local for fetched artifacts, which are plain."""
        there = _variable("backup_dir", self._request.folder)
        plain = {variable("encryption.local"): "false"}
        environment = {**self._here.environment, **self._variables, **plain, **there}
        return replace(self._here, environment=environment, copy=self._request.settings)

    def clear(self) -> bool:
        """Remove fetched artifacts if the current settings encrypt the backup folder; return whether that was done."""
        in_plan = (one.name for one in self.plan.entries.values())
        fetched = {*self._request.fetched, *in_plan, *self._made} if self._request.fetched else set()
        try:
            machine = Machine({**os.environ, **self._variables}, Path.cwd())
            now = recovery_settings.setup(machine, self.plan.entries).settings
        except RefnetError:  # what came back has a mistake, which the next command reports
            return False
        if not (fetched and now.encryption_local):
            return False
        place = wiring.store(self._before)
        for entry in place.entries():
            if entry.name in fetched:
                with place.lock(entry.source):
                    place.delete(entry)
        settings_copies.remove(place.root)
        return True

    def _setup(self, entries: Mapping[SourceName, Entry], *, planned: bool = False) -> Setup:
        trusting = self._confirmed and self._request.run_restored
        found = recovery_settings.setup(self._machine, entries, trusting=trusting, planned=planned)
        own_home(found.settings)
        self._warn((*found.settings.warnings, *found.notes))
        return found

    def _live(self, entries: Mapping[SourceName, Entry]) -> Live:
        permits = Permits(
            self._request.from_database, self._request.powers, continued=self.plan.left is not None
        )
        return Live(self._setup(entries), self.clock, permits, self._variables)

    def _journal(self, entries: Mapping[SourceName, Entry]) -> Path:
        """The journal to write; its folder is made."""
        path = self._journals(entries)[0]
        make_enterable(path.parent)  # the home of an embedded server, whose user must be able to pass through
        return path

    def _journals(self, entries: Mapping[SourceName, Entry]) -> list[Path]:
        """Possible journals, in order of preference: the configuration may name another REFNET_HOME."""
        homes = [self._before.home]
        with suppress(RefnetError):  # a mistake in the restored settings fails at its own stage
            homes.insert(0, self._setup(entries).settings.home)
        return [_journal_in(home) for home in dict.fromkeys(homes)]

    def _decide(self) -> RecoveryPlan:
        request = self._request
        if request.first and request.only:
            raise RefnetError("--from-stage and --only exclude each other", "Omit one of them.", Exit.USAGE)
        moment = parse_time(request.at, None) if request.at else None
        there = wiring.store(self._before).entries()
        if request.fetched is not None:  # and what an interrupted recovery made
            fetched = {one.source: one for one in there if one.name in request.fetched}
            names = request.fetched | self._in_journal(fetched)
            there = tuple(one for one in there if one.name in names)
        everything = Catalog.of(there, self.clock.now())
        named = request.from_database
        target = Identity(named) if named else self._database(everything, moment)
        catalog = everything.choices(target, moment)
        for source in (one for one in everything.sources if not one.kind.row.by_name):
            catalog = catalog.choices(source_of(self._before, source).whose(), moment, source)
        plan = recovery_plan.decide(
            catalog,
            self._interrupted(catalog.set_at()),
            names=self._expected(catalog.set_at(moment)),
            moment=moment,
            first=request.first,
            only=request.only,
        )
        plan = self._with_named(plan)
        others = everything.others(target)
        wanted = SourceName.DATABASE not in request.skip and Stage.DATABASE in plan.stages
        if target and others and wanted and SourceName.DATABASE not in plan.entries:
            raise of_others(target, others)
        if not plan.entries:
            raise _nothing(self._before, everything, moment)
        plan = plan.without(self._skipped(plan))
        if not plan.entries:
            raise RefnetError("--skip leaves nothing to recover", "Leave out fewer sources.", Exit.USAGE)
        self._clocks = tuple(note for entry in plan.entries.values() for note in catalog.notes(entry))
        return replace(plan, from_database=named)

    def _in_journal(self, entries: Mapping[SourceName, Entry]) -> frozenset[str]:
        """The artifacts of an interrupted recovery."""
        found = (read_journal(path, self.clock.now()) for path in self._journals(entries))
        return frozenset(name for one in found if one for name in one.names.values())

    def _skipped(self, plan: RecoveryPlan) -> frozenset[SourceName]:
        there = {str(one): one for one in (*plan.entries, *plan.absent)}
        for name in self._request.skip - there.keys():
            hint = f"{did_you_mean(name, there)}The set has: {', '.join(plan.entries) or 'nothing'}."
            raise RefnetError(f"--skip: '{show(name)}' is not a source of the set", hint, Exit.USAGE)
        return frozenset(there[name] for name in self._request.skip)

    def _with_named(self, plan: RecoveryPlan) -> RecoveryPlan:
        """`plan` with all sources of the settings: without an artifact of one, the recovery is incomplete."""
        settings = self._before
        with suppress(RefnetError):  # a mistake in the restored settings fails at its own stage
            settings = recovery_settings.setup(self._machine, plan.entries, planned=True).settings
        absent = {
            source: replace(one, named=source in settings.sources) for source, one in plan.absent.items()
        }
        return replace(plan, absent=absent)

    def _expected(self, entries: Mapping[SourceName, Entry]) -> tuple[SourceName, ...]:
        """Sources protected by the settings of the recovery, in the order of backup.order."""
        settings, store = self._before, self._before.backup_dir
        with suppress(RefnetError):  # a mistake in the restored settings fails at its own stage
            found = recovery_settings.setup(self._machine, entries, planned=True)
            settings = replace(found.settings, backup_dir=store)
        groups = in_groups(wiring.known(settings), settings.backup_order)
        return tuple(one for group in groups for one in group)

    def _database(self, everything: Catalog, moment: datetime | None) -> Whose | None:
        """The database in the current settings, else in those of the backup.

        The latter give only its name: no server is contacted because a backup names it.
        """
        newest = ((source, everything.newest_complete(source, moment)) for source in STANDARD)
        entries = {source: entry for source, entry in newest if entry}
        if self._before.database_url is None and entries:
            with suppress(RefnetError):  # a mistake in the restored settings fails at its own stage
                found = recovery_settings.setup(self._machine, entries, planned=True)
                if url := found.settings.database_url:
                    return Identity(Target.from_url(url).name)
        return source_of(self._before, SourceName.DATABASE).whose()

    def _interrupted(self, entries: Mapping[SourceName, Entry]) -> Journal | None:
        """Journal of an interrupted recovery, without restored sources that have disappeared again."""
        journals = (read_journal(path, self.clock.now()) for path in self._journals(entries))
        left = next((journal for journal in journals if journal), None)
        if left is None:
            return None
        if not left.names:  # it was interrupted while it fetched
            self._began = left.began
        setup, gone = self._setup(entries), []
        for source in left.back:
            with suppress(ConnectError):
                if not (source in entries and setup.stands(entries[source])):
                    gone.append(source)
        return left.without(gone)


def _nothing(settings: Settings, catalog: Catalog, moment: datetime | None) -> RefnetError:
    folder = settings.backup_dir
    if encrypted := wiring.hidden(settings):
        return RefnetError(
            f"the artifacts in {encrypted} are encrypted",
            f"With the recovery key: refnet recover --store file://{encrypted} --signer SHA256:… (see the recovery page).",
            Exit.USAGE,
        )
    if moment and catalog.oldest_complete(catalog.sources):
        return nothing(catalog, catalog.sources, moment)
    return RefnetError(
        f"{folder} has no complete artifact to recover from",
        "Set REFNET_BACKUP_DIR to the backup folder; `refnet list` lists its artifacts.",
    )
