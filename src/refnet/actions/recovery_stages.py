"""Runs the stages of a recovery: restores, services, comparison; each stage is recorded and reports its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from refnet.actions.latest_databases import LatestDatabases, base_of
from refnet.actions.recovery_services import check_health, start_services
from refnet.actions.recovery_settings import Setup
from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Entry, Outcome, utc
from refnet.catalog.recovery_target import shown
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.formatting import compared, some
from refnet.recovery.plan import JournalFile, RecoveryPlan, Stage, restored_in
from refnet.sources import hooks, source_of
from refnet.sources.base import Permits
from refnet.sources.permitted import AskedPowers, Permitted, Power

_UNKNOWN = "the settings do not name it"
_WITHOUT = "Without services: REFNET_RECOVER_SERVICES=none."


@dataclass(frozen=True)
class StageDone:
    stage: Stage
    #: What was done, a sentence each.
    says: tuple[str, ...]
    seconds: float
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RecoveryDone:
    stages: tuple[StageDone, ...]
    #: The measured recovery time (RTO).
    seconds: float
    #: The age of the data of each source at the end (RPO).
    ages: Mapping[SourceName, timedelta] = field(default_factory=dict)
    #: The start of the interrupted recovery that it continued.
    began_before: datetime | None = None
    #: What is not restored, or whose hook failed, and why. Then there is no RTO: the recovery is not complete.
    missing: Mapping[SourceName, str] = field(default_factory=dict)
    #: Sources of the set that another run can still restore.
    left: tuple[SourceName, ...] = ()
    #: Databases restored from an artifact although WAL goes on after it, and why; and new ones that could not be made.
    behind: Mapping[SourceName, str] = field(default_factory=dict)
    #: The artifacts of databases that were made from base backups and WAL.
    made: tuple[str, ...] = ()
    #: Powers that roles did not get because nobody permitted them, by source.
    withheld: Mapping[SourceName, AskedPowers] = field(default_factory=dict)
    #: Server → lines for psql that set the passwords of roles that came back without one.
    passwords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for stage in self.stages for finding in stage.findings)

    @property
    def exit(self) -> Exit:
        """DAMAGED if live data differ from the backup; FAILED if something is not restored, or not up to the last commit.

        CONFIRM if roles lack powers that nobody permitted.
        """
        differs = any(finding.outcome is Outcome.FAILED for finding in self.findings)
        failed = [Exit.FAILED] * bool(self.missing or self.behind)
        return worst([Exit.DAMAGED] * differs + failed + [Exit.CONFIRM] * bool(self.withheld))

    @property
    def is_final(self) -> bool:
        """Whether another run has nothing left to restore or to compare."""
        differs = any(finding.outcome is Outcome.FAILED for finding in self.findings)
        return not (self.left or self.behind or differs)

    def to_json(self) -> dict[str, Any]:
        return {
            "began_before": utc(self.began_before) if self.began_before else None,
            "seconds": round(self.seconds, 3),
            "complete": not self.missing,
            "missing": dict(self.missing),
            "behind": dict(self.behind),
            "withheld": [
                {"source": source, "powers": [*map(str, asked.open)], "sql": list(asked.granting)}
                for source, asked in self.withheld.items()
            ],
            "passwords": {server: list(lines) for server, lines in self.passwords.items()},
            "ages": {source: round(age.total_seconds()) for source, age in self.ages.items()},
            "stages": [
                {"stage": one.stage, "says": list(one.says), "seconds": round(one.seconds, 3)}
                for one in self.stages
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Live:
    """This machine according to the settings of a recovery; recreated when the configuration is back."""

    setup: Setup
    clock: Clock = Clock()
    permits: Permits = Permits()
    #: Variables that its hooks and services get beside those of the environment.
    variables: Mapping[str, str] = field(default_factory=dict)

    def context(
        self, restored: Callable[[], None] = lambda: None, swapping: Callable[[str], None] = lambda _: None
    ) -> Context:
        """What a restore works with. `restored` and `swapping`: see `Context`."""
        return Context(
            self.setup.settings, self.clock, restored=restored, swapping=swapping, variables=self.variables
        )

    def powers(self, source: SourceName, entry: Entry) -> AskedPowers:
        """The powers of roles that the restore of `source` from `entry` would give."""
        context = self.context()
        return self.setup.source(source).powers(context, context.store.artifact(entry), self.permits)

    def commands(self) -> dict[Stage, tuple[str, ...]]:
        """Command lines from a backup, by stage."""
        restored = [one for one in self.setup.commands if one.restored]
        return {
            stage: tuple(one.line for one in restored if one.stage is stage)
            for stage in Stage
            if any(one.stage is stage for one in restored)
        }

    @property
    def runs_restored_hooks(self) -> bool:
        """Whether a restore runs hooks from a backup."""
        return any(one.hook and one.restored for one in self.setup.commands)


class Operator(Protocol):
    """The user of a recovery. Refused permissions raise RefnetError."""

    def permit_replace(self, live: str) -> None:
        """Ask whether `live` may be replaced."""
        ...

    def permit_run(self, commands: Mapping[Stage, tuple[str, ...]]) -> None:
        """Ask whether command lines from a backup may run."""
        ...

    def permit_powers(self, artifact: str, powers: Sequence[Power]) -> Sequence[Power]:
        """Ask which of `powers` the roles of `artifact` may get; nothing is raised for one that is refused."""
        ...

    def report(self, done: StageDone) -> None: ...


def run_stages(
    live: Callable[[Mapping[SourceName, Entry]], Live],
    plan: RecoveryPlan,
    operator: Operator,
    clock: Clock,
    journal: JournalFile | None = None,
) -> RecoveryDone:
    """Run the stages of `plan`. A failure names its stage; finished work stays and is in the journal.

    A source that cannot be restored does not stop the others, but the application starts only once it is restored or
    left out.

    Args:
        live: returns the live system for a set; called again once the configuration, and with it the settings, is restored.
        journal: records what is done; None: the recovery cannot be continued.
    """
    began, done = clock.monotonic(), list[StageDone]()
    run = _RecoveryRun(live, live(plan.entries), plan, operator, clock, journal)
    with closing(run.latest):
        for stage in plan.stages:
            done.append(run.stage(stage))
            operator.report(done[-1])
    missing = {
        **plan.missing,
        **run.unknown,
        **{source: error.message for source, error in run.failed.items()},
    }
    entries = run.plan.entries
    ages = {s: clock.now() - entry.created for s, entry in entries.items() if s not in missing}
    before = plan.left.began if plan.left else None
    seconds = clock.monotonic() - began
    left, made = (*run.failed, *run.unknown, *run.withheld), tuple(run.made)
    return RecoveryDone(
        tuple(done), seconds, ages, before, missing, left, run.behind, made, run.withheld, run.passwords()
    )


@dataclass
class _RecoveryRun:
    """A running recovery: each stage builds on the previous ones."""

    make_live: Callable[[Mapping[SourceName, Entry]], Live]
    live: Live
    plan: RecoveryPlan
    operator: Operator
    clock: Clock
    journal: JournalFile | None
    permitted: set[str] = field(default_factory=set)
    #: The sources whose restore, or hook after it, failed.
    failed: dict[SourceName, RefnetError] = field(default_factory=dict)
    #: The sources that the settings do not name, and that.
    unknown: dict[SourceName, str] = field(default_factory=dict)
    #: See `RecoveryDone`.
    behind: dict[SourceName, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    withheld: dict[SourceName, AskedPowers] = field(default_factory=dict)
    #: With those that the user confirmed in this run; None: nothing was confirmed.
    permitted_powers: Permitted | None = None
    latest: LatestDatabases = field(init=False)

    def __post_init__(self) -> None:
        self.latest = LatestDatabases(self.plan.moment, resumed=self.plan.resumed)

    def stage(self, stage: Stage) -> StageDone:
        """Run `stage` and record it; RefnetError names the stage."""
        began = self.clock.monotonic()
        with self._named(stage):
            self._ask_to_run(stage)
            sources = restored_in(stage, (*self.plan.entries, *self.plan.absent))
            says = [sentence for source in sources for sentence in self._restore(source)]
            if stage is Stage.DATABASE:
                says += self._new_databases()
                self.latest.close()
            self._ask_to_run()
            findings = self._check() if stage is Stage.CHECK else ()
            says += _verdicts(findings) if stage is Stage.CHECK else self._start(stage)
        own = {*restored_in(stage, self.plan.entries)}
        differs = any(one.outcome is Outcome.FAILED for one in findings)  # the next run compares again
        if stage is Stage.CHECK:  # what the next run restores is compared then
            own = {*self.withheld}
        if (
            self.journal
            and not self._waits(stage)
            and not differs
            and not own & {*self.failed, *self.unknown, *self.withheld}
        ):
            self.journal.done(stage)
        return StageDone(stage, tuple(says), self.clock.monotonic() - began, findings)

    @contextmanager
    def _named(self, stage: Stage) -> Iterator[None]:
        again = f"Then run {'`refnet recover` again: it continues where it stopped' if self.journal else 'it again'}."
        try:
            yield
        except RefnetError as error:
            raise RefnetError(
                f"the recovery stopped at the stage {stage}: {error.message}",
                f"{error.hint} {again}",
                error.code,
                error.transient,
            ) from error

    def _restore(self, source: SourceName) -> list[str]:
        """Restore one source; return what was done, or the error if it stops no other source."""
        entry = self.plan.entries.get(source)
        if entry is None:
            why = self.plan.absent.get(source)
            return [f"{source} is not restored: {why.why}"] if why else []
        if not self.live.setup.knows(source):
            self.unknown[source] = _UNKNOWN
            return [f"{source} is not restored: {_UNKNOWN}; {entry.name} stays"]
        try:
            return self._acted(source, entry)
        except RefnetError as error:
            if error.code is Exit.CONFIRM or source == SourceName.CONFIG:
                raise  # the settings of the others come with the configuration
            self.failed[source] = error
            return [f"{source} failed: {error.message}. {error.hint}"]

    def _acted(self, source: SourceName, entry: Entry) -> list[str]:
        """Restore one source, or run remaining hooks of its earlier restore; return what was done."""
        record = partial(self.journal.restored, source) if self.journal else _nothing
        swapping = partial(self.journal.swaps, source) if self.journal else _unsaid
        if source in self.plan.standing:
            says = [f"{entry.name} was restored before; {source} stays unchanged"]
            if not (self.plan.left and source in self.plan.left.hooks):
                return says
            hooks.repeat(self.live.context(), source, hooks.HookAction.RESTORE, entry.name)
            says += ["its hook ran again"]
        elif self._resumed(source, entry):
            says = [f"{entry.name} was put in place by the run that was interrupted"]
            record(hooks=True)
            hooks.repeat(self.live.context(), source, hooks.HookAction.RESTORE, entry.name)
        else:
            if replaced := self.live.setup.replaced(source):
                self.operator.permit_replace(replaced)
            entry, latest = self._latest(source, entry)
            # `hooks.around` of its restore calls that when the data are back, before a hook that may fail
            context = self.live.context(partial(record, hooks=True), swapping)
            chosen = context.store.artifact(entry)
            asked = self._permit(source, entry)
            says = [*latest, *self.live.setup.source(source).recover(context, chosen, self.live.permits)]
            if asked.open:
                self.withheld[source] = asked
                says.append(f"without powers that nobody permitted: {some([*map(str, asked.open)])}")
        if source not in self.withheld:  # the next run asks again
            record(hooks=False)
        if source == SourceName.CONFIG:
            self._renew()
        return says

    def _permit(self, source: SourceName, entry: Entry) -> AskedPowers:
        """Ask the user for powers of roles that nothing permits yet; return what the restore is to give, and what not."""
        asked = self.live.powers(source, entry)
        if asked.open and (given := self.operator.permit_powers(entry.name, asked.open)):
            self.permitted_powers = self.live.permits.powers.with_confirmed(asked.artifact, given)
            self._renew()
            asked = self.live.powers(source, entry)
        return asked

    def _renew(self) -> None:
        """Read the settings again, which the configuration or a new database changed; what was permitted stays."""
        self.live = self.make_live(self.plan.entries)
        if self.permitted_powers:
            permits = replace(self.live.permits, powers=self.permitted_powers)
            self.live = replace(self.live, permits=permits)

    def passwords(self) -> dict[str, tuple[str, ...]]:
        """Server → lines for psql that set the passwords which roles lack; () where a server does not say."""
        found: dict[str, tuple[str, ...]] = {}
        context = self.live.context()
        for source, entry in self.plan.entries.items():
            if self.live.setup.knows(source) and source not in self.failed:
                with suppress(RefnetError):
                    own = source_of(context.settings, source)
                    if lines := own.left_to_do(context, context.store.artifact(entry)):
                        found[own.what()] = tuple(lines)
        return found

    def _resumed(self, source: SourceName, entry: Entry) -> bool:
        """Whether the interrupted run had swapped `entry` in, and was ended before it recorded that."""
        token = self.plan.left.swaps.get(source) if self.plan.left else None
        if token is None:
            return False
        context = self.live.context()
        chosen = context.store.artifact(entry)
        return self.live.setup.source(source).resumed(context, chosen, self.live.permits, token)

    def _latest(self, source: SourceName, entry: Entry) -> tuple[Entry, list[str]]:
        """The artifact to restore of `source`, and what was done: up to the last commit that arrived here, else `entry`."""
        context = self.live.context()
        base = base_of(context.settings, source, self.plan.entries)
        if base is None:
            return entry, []
        try:
            newer = self.latest.newer(context, source, entry, base)
        except RefnetError as error:
            self.behind[source] = f"it is restored from {entry.name}: {error.message}"
            return entry, [f"{source} is not as of the last commit: {error.message}. {error.hint}"]
        return (newer, [self._take(source, newer, base)]) if newer else (entry, [])

    def _take(self, source: SourceName, entry: Entry, base: Entry) -> str:
        """Restore `source` from `entry`, which was made from `base` and WAL; return a sentence about it."""
        self.plan = self.plan.with_artifact(source, entry)
        self.made.append(entry.name)
        if self.journal:
            self.journal.takes(source, entry.name)
        return f"{entry.name} is made from {base.name} and WAL: every commit up to {shown(entry.created)}"

    def _new_databases(self) -> list[str]:
        """Restore the databases that base backups and WAL have, and the set does not; return what was done."""
        says = list[str]()
        for base in [one for source, one in self.plan.entries.items() if source.kind is Kind.CLUSTER]:
            known = {*self.plan.entries, *self.plan.absent, *self.plan.skipped, *self.unknown}
            try:
                for source, context in self.latest.new(self.live.context(), base, known):
                    says += self._new_database(source, context, base)
            except RefnetError as error:
                self.behind.setdefault(base.source, f"its new databases are unknown: {error.message}")
        return says

    def _new_database(self, source: SourceName, context: Context, base: Entry) -> list[str]:
        """Restore the database `source`, which is newer than the set; the settings of `context` name it."""
        try:
            says = [self._take(source, self.latest.artifact(context, source, base), base)]
        except RefnetError as error:
            self.behind[source] = error.message
            return [f"{source} is not restored: {error.message}. {error.hint}"]
        self._renew()
        return says + self._restore(source)

    def _ask_to_run(self, only: Stage | None = None) -> None:
        """Ask, once, whether the commands of all stages from a backup may run."""
        if only is Stage.CONFIG and not self.live.runs_restored_hooks:
            return  # asked when its settings are back
        commands = {
            stage: lines for stage, lines in self.live.commands().items() if stage in self.plan.stages
        }
        if new := {line for lines in commands.values() for line in lines} - self.permitted:
            self.operator.permit_run(commands)
            self.permitted |= new

    def _waits(self, stage: Stage) -> bool:
        """Whether the services of `stage` are not started because of a failure."""
        return bool(self.failed) and stage not in (Stage.CONFIG, Stage.DATABASE)

    def _start(self, stage: Stage) -> list[str]:
        """Start the services of `stage`; return what was done."""
        if self._waits(stage):
            skip = " ".join(f"--skip {one}" for one in self.failed)
            return [f"no service is started, as {', '.join(self.failed)} failed. Without: {skip}"]
        try:
            names = start_services(self.live.context(), self.live.setup.services(stage))
        except RefnetError as error:
            raise RefnetError(
                error.message, f"{error.hint} {_WITHOUT}", error.code, error.transient
            ) from error
        if names:
            return [f"up: {', '.join(names)}"]
        return [] if stage is Stage.DATABASE else ["no services are listed for it"]

    def _check(self) -> tuple[Finding, ...]:
        plan, context = self.plan, self.live.context()
        known = {source: entry for source, entry in plan.entries.items() if self.live.setup.knows(source)}
        found = list[Finding]()
        for source, entry in known.items():
            if source not in self.failed:
                chosen = context.store.artifact(entry)
                found += source_of(context.settings, source).compare(context, chosen, self.live.permits)
        self.unknown |= dict.fromkeys(sorted(plan.entries.keys() - known.keys()), _UNKNOWN)
        whys = {**self.unknown, **dict.fromkeys(self.failed, "it is not restored completely")}
        found += [Finding(one, Outcome.UNVERIFIED, why) for one, why in whys.items()]
        found += [Finding(source, Outcome.FAILED, one.why) for source, one in plan.absent.items() if one.lost]
        health = check_health(context)
        return (*found, health) if health else tuple(found)


def _nothing(*, hooks: bool) -> None:
    """Record nothing: a single stage is not continued."""


def _unsaid(_token: str) -> None:
    """Record no swap of a single stage."""


def _verdicts(findings: tuple[Finding, ...]) -> list[str]:
    passed = sum(finding.outcome is Outcome.PASSED for finding in findings)
    others = [f"{f.what}: {f.outcome.value}: {f.reason}" for f in findings if f.outcome is not Outcome.PASSED]
    return [compared(len(findings), passed), *others]
