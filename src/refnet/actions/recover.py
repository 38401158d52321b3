"""recover: everything back after a loss, stage by stage, each waiting for what it needs and saying what stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import explained, replace_file
from refnet.postgres.account import make_enterable
from refnet.recovery.model.artifact import Entry, Outcome, SourceName
from refnet.recovery.model.recovery_plan import RESTORES, Journal, Plan, Stage
from refnet.recovery.model.services import Services, wait_for
from refnet.recovery.model.source import Finding

#: How long after its beginning an interrupted recovery is gone on with.
GOES_ON_FOR = timedelta(days=1)
#: What helps where a service does not.
_WITHOUT = "Without services: REFNET_RECOVER_SERVICES=none."


@dataclass(frozen=True)
class Machine:
    """What a recovery acts on, made from the settings; made anew when the configuration is back.

    `restore` brings a source back and says what stands; `compare` holds what is live against an artifact; `live`
    says what of a source would be replaced, or "". `services` makes what starts services, once one is to be started;
    None: the settings list none. `started` are the names by stage; `restored` the command lines by stage that came out
    of a backup. `seconds` bounds each wait. `health` asks the application itself, until it is well or the time is
    over; None: nothing to ask.
    """

    restore: Callable[[SourceName, Entry], str]
    compare: Callable[[SourceName, Entry], tuple[Finding, ...]]
    live: Callable[[SourceName], str]
    services: Callable[[], Services] | None
    started: Mapping[Stage, tuple[str, ...]]
    seconds: float
    restored: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    health: Callable[[], Finding] | None = None


@dataclass(frozen=True)
class Permit:
    """What a recovery asks before it goes on; each raises where the answer is no.

    replace: called with what is live and about to be replaced. run: called with the command lines by stage that came
    out of a backup and are about to be run.
    """

    replace: Callable[[str], None]
    run: Callable[[Mapping[Stage, tuple[str, ...]]], None]


@dataclass(frozen=True)
class Told:
    """What a stage has done, a sentence each, and how long it took (s)."""

    stage: Stage
    says: tuple[str, ...]
    seconds: float
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Recovered:
    """A recovery: its stages, its measured time (RTO) and each part's age of data (RPO) when it ended."""

    stages: tuple[Told, ...]
    seconds: float
    ages: Mapping[SourceName, timedelta] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for stage in self.stages for finding in stage.findings)

    @property
    def exit(self) -> Exit:
        """Done, or DAMAGED where something live differs from what was backed up."""
        differs = any(finding.outcome is Outcome.FAILED for finding in self.findings)
        return Exit.DAMAGED if differs else Exit.DONE


def recover(
    machine: Callable[[], Machine],
    plan: Plan,
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    pause: Callable[[], None],
    tell: Callable[[Told], None],
    permit: Permit,
    memory: Remembering | None = None,
) -> Recovered:
    """Run the stages of `plan`. One that fails raises and is named; what was done before it is remembered and stands.

    Args:
        machine: what to act on; called again when the configuration is back, as the settings come with it.
        now: the time, for the age of the data; `clock`: seconds; `pause` passes the time between two looks.
        tell: called with what each stage has done.
        permit: asked before something live is replaced, and before commands out of a backup are run.
        memory: what keeps the journal; None: nothing is to be gone on with.
    """
    began = clock()
    run = _Run(machine, plan, memory, clock, pause, permit)
    told: list[Told] = []
    for stage in plan.stages:
        told.append(run.stage(stage))
        tell(told[-1])
    ages = {source: now() - entry.created for source, entry in plan.entries.items()}
    return Recovered(tuple(told), clock() - began, ages)


class _Run:
    """A recovery at work: each stage acts on what the stages before it have brought back."""

    def __init__(
        self,
        machine: Callable[[], Machine],
        plan: Plan,
        memory: Remembering | None,
        clock: Callable[[], float],
        pause: Callable[[], None],
        permit: Permit,
    ) -> None:
        self._made, self._machine = machine, machine()
        self._plan, self._memory = plan, memory
        self._clock, self._pause, self._permit = clock, pause, permit
        self._asked = False

    def stage(self, stage: Stage) -> Told:
        """Do `stage` and remember it; RefnetError that names it where it fails."""
        began = self._clock()
        with self._named(stage):
            if stage is not Stage.CONFIG:
                self._ask_to_run()
            says = self._restore(stage)
            self._ask_to_run()
            findings = self._check() if stage is Stage.CHECK else ()
            says += _verdicts(findings) if stage is Stage.CHECK else self._start(stage)
        if self._memory:
            self._memory.done(stage)
        return Told(stage, tuple(says), self._clock() - began, findings)

    @contextmanager
    def _named(self, stage: Stage) -> Iterator[None]:
        again = f"Then run {'`refnet recover` again: it goes on after what stands' if self._memory else 'it again'}."
        try:
            yield
        except RefnetError as error:
            raise RefnetError(
                f"the recovery stopped at the stage {stage}: {error.message}",
                f"{error.hint} {again}",
                error.code,
                error.transient,
            ) from error

    def _restore(self, stage: Stage) -> list[str]:
        """Bring back what belongs to `stage`; what to say of it."""
        source = RESTORES.get(stage)
        if source is None:
            return []
        entry = self._plan.entries.get(source)
        if entry is None:
            return [f"{source} is not brought back: {self._plan.absent[source].why}"]
        if source in self._plan.standing:
            return [f"{entry.name} was brought back before; {source} stays as it is now"]
        if live := self._machine.live(source):
            self._permit.replace(live)
        says = self._machine.restore(source, entry)
        if self._memory:
            self._memory.restored(source)
        if source is SourceName.CONFIG:
            self._machine = self._made()
        return [says]

    def _ask_to_run(self) -> None:
        """Ask, once, whether the commands of all stages may run that came out of a backup."""
        commands = {
            stage: lines
            for stage, lines in self._machine.restored.items()
            if stage in self._plan.stages and lines
        }
        if commands and not self._asked:
            self._permit.run(commands)
            self._asked = True

    def _start(self, stage: Stage) -> list[str]:
        """Start what the settings list for `stage` and wait until it is up; what to say of it."""
        names = self._machine.started.get(stage, ())
        if not names or self._machine.services is None:
            return [] if stage is Stage.DATABASE else ["no services are listed for it"]
        try:
            services = self._machine.services()
            services.start(names)
            wait_for(services, names, self._machine.seconds, clock=self._clock, pause=self._pause)
        except RefnetError as error:
            raise RefnetError(
                error.message, f"{error.hint} {_WITHOUT}", error.code, error.transient
            ) from error
        return [f"up: {', '.join(names)}"]

    def _check(self) -> tuple[Finding, ...]:
        plan = self._plan
        found = [
            one for source, entry in plan.entries.items() for one in self._machine.compare(source, entry)
        ]
        found += [Finding(source, Outcome.FAILED, one.why) for source, one in plan.absent.items() if one.lost]
        if self._machine.health:
            found.append(self._machine.health())
        return tuple(found)


def _verdicts(findings: tuple[Finding, ...]) -> list[str]:
    passed = sum(finding.outcome is Outcome.PASSED for finding in findings)
    others = [f"{f.what}: {f.outcome.value}: {f.reason}" for f in findings if f.outcome is not Outcome.PASSED]
    return [f"{passed} of {len(findings)} comparisons are equal", *others]


def read_journal(path: Path, now: datetime) -> Journal | None:
    """What an interrupted recovery has left, or None. One of more than a day ago belongs to another loss: its set
    is old, and what it had brought back may be gone again.
    """
    journal = Journal.from_json(path.read_text(encoding="utf-8")) if path.exists() else None
    return journal if journal and now - journal.began < GOES_ON_FOR else None


class Remembering:
    """Keeps the journal of a recovery at `path` as its stages are done.

    `path` is asked each time: the configuration that comes back may say where RefNet's own folder is.
    """

    def __init__(self, path: Callable[[], Path], journal: Journal) -> None:
        self._path, self._journal = path, journal

    def done(self, stage: Stage) -> None:
        self._write(self._journal.with_done(stage))

    def restored(self, source: SourceName) -> None:
        self._write(self._journal.with_restored(source))

    def _write(self, journal: Journal) -> None:
        self._journal = journal
        write_journal(self._path(), journal)


def write_journal(path: Path, journal: Journal) -> None:
    """Keep `journal`, whole or not at all."""
    make_enterable(path.parent)  # the home of an embedded server, whose user must be able to pass through
    with explained(path.parent):
        replace_file(path, journal.to_json().encode())
