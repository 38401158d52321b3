"""recover: everything back after a loss, stage by stage, each waiting for what it needs and saying what stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from refnet.errors import Exit
from refnet.postgres.account import make_enterable
from refnet.recovery.model.artifact import Entry, Outcome, SourceName
from refnet.recovery.model.recovering import RESTORES, Journal, Stage
from refnet.recovery.model.services import Services, wait_for
from refnet.recovery.model.source import Finding

#: How long after its beginning an interrupted recovery is gone on with.
GOES_ON_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Machine:
    """What a recovery acts on, made from the settings; made anew when the configuration is back.

    `restore` brings a source back and says what stands; `compare` holds what is live against an artifact; `live`
    says what of a source would be replaced, or "". `services` None: the settings list none. `started` are the
    names by stage; `seconds` bounds each wait. `health` asks the application itself; None: nothing to ask.
    """

    restore: Callable[[SourceName, Entry], str]
    compare: Callable[[SourceName, Entry], tuple[Finding, ...]]
    live: Callable[[SourceName], str]
    services: Services | None
    started: Mapping[Stage, tuple[str, ...]]
    seconds: float
    health: Callable[[], Finding] | None = None


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
    entries: Mapping[SourceName, Entry],
    stages: Sequence[Stage],
    *,
    remember: Callable[[Stage], None],
    now: Callable[[], datetime],
    clock: Callable[[], float],
    pause: Callable[[], None],
    tell: Callable[[Told], None],
) -> Recovered:
    """Run `stages` in order. A stage that fails raises; those before it are remembered and stand.

    Args:
        machine: what to act on; called again when the configuration is back, as the settings come with it.
        entries: the set.
        remember: called with each stage that is done.
        now: the time, for the age of the data; `clock`: seconds; `pause` passes the time between two looks.
        tell: called with what each stage has done.
    """
    began = clock()
    told: list[Told] = []
    acts_on = machine()
    for stage in stages:
        started = clock()
        says: list[str] = []
        findings: tuple[Finding, ...] = ()
        if source := RESTORES.get(stage):
            entry = entries.get(source)
            says.append(acts_on.restore(source, entry) if entry else f"there is no artifact of {source}")
        if stage is Stage.CONFIG:
            acts_on = machine()
        if stage is Stage.CHECK:
            findings = _check(acts_on, entries)
            says += _verdicts(findings)
        else:
            says += _start(acts_on, stage, clock, pause)
        remember(stage)
        told.append(Told(stage, tuple(says), clock() - started, findings))
        tell(told[-1])
    ages = {source: now() - entry.created for source, entry in entries.items()}
    return Recovered(tuple(told), clock() - began, ages)


def _start(
    machine: Machine, stage: Stage, clock: Callable[[], float], pause: Callable[[], None]
) -> list[str]:
    """Start what the settings list for `stage` and wait until it is up; what to say of it."""
    names = machine.started.get(stage, ())
    if not names or machine.services is None:
        return [] if stage is Stage.DATABASE else ["no services are listed for it"]
    machine.services.start(names)
    wait_for(machine.services, names, machine.seconds, clock=clock, pause=pause)
    return [f"up: {', '.join(names)}"]


def _check(machine: Machine, entries: Mapping[SourceName, Entry]) -> tuple[Finding, ...]:
    findings = [finding for source, entry in entries.items() for finding in machine.compare(source, entry)]
    if machine.health:
        findings.append(machine.health())
    return tuple(findings)


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
    """Keeps the journal of a recovery at `path` as its stages are done."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path, self._journal = path, journal

    def add(self, stage: Stage) -> None:
        self._journal = self._journal.with_done(stage)
        write_journal(self._path, self._journal)


def write_journal(path: Path, journal: Journal) -> None:
    """Keep `journal`, whole or not at all."""
    make_enterable(path.parent)  # the home of an embedded server, whose user must be able to pass through
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(journal.to_json(), encoding="utf-8")
    draft.replace(path)
