"""Runs the stages of a recovery: restores, services, comparison; each stage is recorded and reports its results."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from refnet import servers
from refnet.actions.recovery_settings import Setup
from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Entry, Outcome, utc
from refnet.catalog.source_name import SourceName
from refnet.compose import COMPOSE_FILES, compose_file
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.files import read_regular
from refnet.core.formatting import compared
from refnet.recovery.compose import Compose, working_program
from refnet.recovery.plan import JournalFile, RecoveryPlan, Stage, restored_in
from refnet.recovery.services import LocalServices, Services, wait_for
from refnet.settings import Settings
from refnet.sources import hooks, source_of
from refnet.sources.base import Permits
from refnet.telemetry.redact import redactor, secrets_of

_UNKNOWN = "the settings do not name it"
_WITHOUT = "Without services: REFNET_RECOVER_SERVICES=none."
#: The time limit of one health request, and the pause between two looks, in seconds.
_HEALTH_SECONDS, _PAUSE = 10, 0.5
#: So many files with secrets are read, of at most so many bytes.
_SECRETS, _SECRET_BYTES = 100, 64 << 10


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

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for stage in self.stages for finding in stage.findings)

    @property
    def exit(self) -> Exit:
        """DAMAGED if live data differ from the backup; FAILED if something is not restored."""
        differs = any(finding.outcome is Outcome.FAILED for finding in self.findings)
        return worst([Exit.DAMAGED] * differs + [Exit.FAILED] * bool(self.missing))

    def to_json(self) -> dict[str, Any]:
        return {
            "began_before": utc(self.began_before) if self.began_before else None,
            "seconds": round(self.seconds, 3),
            "complete": not self.missing,
            "missing": dict(self.missing),
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

    def context(self, restored: Callable[[], None] = lambda: None) -> Context:
        """What a restore works with. `restored`: see `Context.restored`."""
        return Context(self.setup.settings, self.clock, restored=restored, variables=self.variables)

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

    def report(self, done: StageDone) -> None: ...


def run_stages(
    live: Callable[[], Live],
    plan: RecoveryPlan,
    operator: Operator,
    clock: Clock,
    journal: JournalFile | None = None,
) -> RecoveryDone:
    """Run the stages of `plan`. A failure names its stage; finished work stays and is in the journal.

    A source that cannot be restored does not stop the others, but the application starts only once it is restored or
    left out.

    Args:
        live: returns the live system; called again once the configuration, and with it the settings, is restored.
        journal: records what is done; None: the recovery cannot be continued.
    """
    began, done = clock.monotonic(), list[StageDone]()
    run = _RecoveryRun(live, live(), plan, operator, clock, journal)
    for stage in plan.stages:
        done.append(run.stage(stage))
        operator.report(done[-1])
    missing = {
        **plan.missing,
        **run.unknown,
        **{source: error.message for source, error in run.failed.items()},
    }
    ages = {s: clock.now() - entry.created for s, entry in plan.entries.items() if s not in missing}
    before = plan.left.began if plan.left else None
    seconds = clock.monotonic() - began
    return RecoveryDone(tuple(done), seconds, ages, before, missing, (*run.failed, *run.unknown))


@dataclass
class _RecoveryRun:
    """A running recovery: each stage builds on the previous ones."""

    make_live: Callable[[], Live]
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

    def stage(self, stage: Stage) -> StageDone:
        """Run `stage` and record it; RefnetError names the stage."""
        began = self.clock.monotonic()
        with self._named(stage):
            self._ask_to_run(stage)
            sources = restored_in(stage, (*self.plan.entries, *self.plan.absent))
            says = [sentence for source in sources for sentence in self._restore(source)]
            self._ask_to_run()
            findings = self._check() if stage is Stage.CHECK else ()
            says += _verdicts(findings) if stage is Stage.CHECK else self._start(stage)
        own = {*restored_in(stage, self.plan.entries)}
        if self.journal and not self._waits(stage) and not own & {*self.failed, *self.unknown}:
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
        if source in self.plan.standing:
            says = [f"{entry.name} was restored before; {source} stays unchanged"]
            if not (self.plan.left and source in self.plan.left.hooks):
                return says
            hooks.repeat(self.live.context(), source, hooks.HookAction.RESTORE, entry.name)
            says += ["its hook ran again"]
        else:
            if replaced := self.live.setup.replaced(source):
                self.operator.permit_replace(replaced)
            # `hooks.around` of its restore calls that when the data are back, before a hook that may fail
            context = self.live.context(partial(record, hooks=True))
            chosen = context.store.artifact(entry)
            says = self.live.setup.source(source).recover(context, chosen, self.live.permits)
        record(hooks=False)
        if source == SourceName.CONFIG:
            self.live = self.make_live()
        return says

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
                found += source_of(context.settings, source).compare(context, chosen)
        self.unknown |= dict.fromkeys(sorted(plan.entries.keys() - known.keys()), _UNKNOWN)
        whys = {**self.unknown, **dict.fromkeys(self.failed, "it is not restored completely")}
        found += [Finding(one, Outcome.UNVERIFIED, why) for one, why in whys.items()]
        found += [Finding(source, Outcome.FAILED, one.why) for source, one in plan.absent.items() if one.lost]
        health = check_health(context)
        return (*found, health) if health else tuple(found)


def _nothing(*, hooks: bool) -> None:
    """Record nothing: a single stage is not continued."""


def _verdicts(findings: tuple[Finding, ...]) -> list[str]:
    passed = sum(finding.outcome is Outcome.PASSED for finding in findings)
    others = [f"{f.what}: {f.outcome.value}: {f.reason}" for f in findings if f.outcome is not Outcome.PASSED]
    return [compared(len(findings), passed), *others]


def start_services(context: Context, names: Sequence[str]) -> Sequence[str]:
    """Start the services `names` and wait until they are up; return their names."""
    settings = context.settings
    if names and settings.recover_services:
        services = _services(context)
        services.start(names)
        wait_for(services, names, settings.recover_seconds, context.clock)
        return names
    return ()


def _services(context: Context) -> Services:
    settings = context.settings
    if settings.recover_services == "local":
        start_server = partial(servers.server, settings)
        environment = {**os.environ, **context.variables}
        return LocalServices(settings.home / "services", start_server, environment, _hide(settings, None))
    folder = settings.config_dir
    found = compose_file(folder) if folder else None
    if not found:
        raise RefnetError(
            f"recover.services is compose, and {folder or 'config_dir'} has no Compose file",
            f"Put it there ({' or '.join(COMPOSE_FILES)}).",
        )
    hide = _hide(settings, folder)
    return Compose(found, working_program(), settings.recover_seconds, hide, context.variables)


def _hide(settings: Settings, folder: Path | None) -> Callable[[str], str]:
    """Filter that hides the secrets of the settings and of a Compose project in `folder`."""
    known = secrets_of(settings)
    for path in islice((folder / "secrets").glob("*"), _SECRETS) if folder else ():
        with suppress(OSError, UnicodeDecodeError):
            known.update(read_regular(path, _SECRET_BYTES).decode().split())
    return redactor(known)


def check_health(context: Context) -> Finding | None:
    """Poll the health URL until it returns 200 or time is up; None without such a setting."""
    url, seconds = context.settings.recover_health_url, context.settings.recover_seconds
    if not url:
        return None
    clock, what = context.clock, f"health of {url}"
    until = clock.monotonic() + seconds
    while why := _ask(url, max(0.1, min(_HEALTH_SECONDS, until - clock.monotonic()))):
        if clock.monotonic() >= until:
            return Finding(what, Outcome.FAILED, f"{why} (asked for {seconds:.0f} s)")
        clock.sleep(min(_PAUSE, max(0.0, until - clock.monotonic())))
    return Finding(what, Outcome.PASSED)


def _ask(url: str, seconds: float) -> str:
    """Reason why `url` does not answer, or ""."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310  # only http: a setting's converter checks it
            return ""
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
