"""What runs by itself, each as one call: settings in, plain values out, RefnetError for what went wrong.

`asked` is when a run was asked for. What the catalog holds from after that moment is not made again.
"""

from __future__ import annotations

import logging
import platform
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from refnet import servers, wiring
from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Level, Outcome, SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.monitoring import Status, worst
from refnet.recovery.model.run import Kind
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.verbs import backup as backup_verb
from refnet.recovery.verbs import drill as drill_verb
from refnet.recovery.verbs import monitor as monitor_verb
from refnet.recovery.verbs import prune as prune_verb
from refnet.recovery.verbs.choose import choose
from refnet.settings import Settings
from refnet.telemetry.watch import Watch

_log = logging.getLogger(__name__)


def backup(settings: Settings, name: SourceName, asked: datetime, *, again: bool = False) -> dict[str, Any]:
    """Make and prove an artifact of `name`; a source that is not configured is no failure.

    `again`: a failure that can pass by itself is tried again soon, so nobody is told of it yet.
    """
    store, sources = wiring.store(settings), wiring.sources(settings)
    if name not in sources:
        return {"outcome": "not configured"}
    target = servers.identity(settings) if name is SourceName.DATABASE else None
    newest = Catalog.of(store.entries(name)).about(target).newest_complete(name)
    if newest and asked <= newest.published <= _now() and newest.evidence:
        return {"outcome": "done before", "artifact": newest.name}
    with _watch(settings).run(Kind.BACKUP, name, again=again) as at_work:
        made = backup_verb.backup(
            sources[name],
            store,
            now=_now,
            zone=None,
            prove=True,
            clock=time.perf_counter,
            shrinking=wiring.shrinking(settings),
        )
        wiring.tell_proof(at_work, made.manifest.name, made.proof)
    if made.exit is not Exit.DONE:
        raise RefnetError(
            f"{made.manifest.name} is damaged: what was restored from it is not what was backed up",
            f"See `refnet show {made.manifest.name}`; look after this machine's disk and memory.",
            made.exit,
        )
    if made.manifest.shrunk:
        _log.warning("%s shrank: %s", made.manifest.name, "; ".join(made.manifest.shrunk))
    level = made.proof.level if made.proof and made.proof.level else Level.WRITTEN
    return {"outcome": "done", "artifact": made.manifest.name, "level": level.value}


def drill(settings: Settings, asked: datetime, *, again: bool = False) -> dict[str, Any]:
    """Prove the newest artifact of each source with a clock, and write the report. `again`: as for a backup."""
    chosen = choose(wiring.store(settings), SourceName, target=servers.identity(settings))
    if all(one.entry and _drilled(one.entry, asked) for one in chosen):
        return {"outcome": "done before"}
    absent = tuple(name for name in wiring.sources(settings) if name not in {one.source for one in chosen})
    prover = partial(wiring.prover, settings)
    found = drill_verb.drill(
        chosen,
        absent,
        prover,
        now=_now,
        clock=time.perf_counter,
        around=wiring.watched_drill(_watch(settings), again=again),
    )
    values = drill_verb.report(found, {"host": platform.node(), "made_by": f"refnet {version('refnet')}"})
    _, page = drill_verb.write_report(values, settings.home / "reports", _now().astimezone(), None)
    if found.outcome is Outcome.FAILED:
        raise RefnetError("the drill failed: an artifact is damaged", f"The report is {page}.", found.exit)
    return {"outcome": found.outcome.value, "report": str(page)}


def prune(settings: Settings) -> dict[str, Any]:
    """Delete what is no longer kept. A source that cannot be pruned does not keep the others from it."""
    errors: list[RefnetError] = []
    deleted: list[str] = []
    for name in SourceName:
        try:
            plan = prune_verb.prune(
                wiring.store(settings),
                name,
                wiring.retention(settings, name),
                now=_now(),
                zone=Schedule.of(settings).zone,
                previous_versions=wiring.previous_versions(settings),
            )
        except RefnetError as error:
            errors.append(error)
        else:
            errors += plan.unknown
            deleted += [decision.entry.name for decision in plan.deleted]
    if errors:
        raise errors[0]
    return {"outcome": "done", "deleted": deleted}


def monitor(settings: Settings) -> dict[str, Any]:
    """Look whether everything is protected; RefnetError where something is not, or cannot be known."""
    checks = monitor_verb.monitor(
        wiring.store(settings),
        wiring.journal(settings).history,
        wiring.limits(settings),
        wiring.sources(settings).keys(),
        _now(),
        target=servers.identity(settings),
    )
    if settings.notify_urls:
        for sentence in wiring.notify(settings, _now):
            _log.warning(sentence)
    status = worst(checks)
    if status in {Status.CRITICAL, Status.UNKNOWN}:
        bad = next(check for check in checks if check.status is status)
        raise RefnetError(
            f"{status.upper()}: {bad.source or 'the store'}: {bad.says}",
            "`refnet monitor` shows every check.",
        )
    says = [f"{c.source or 'store'}: {c.says}" for c in checks if c.status is Status.WARNING]
    return {"outcome": status.value, "warnings": says}


def _watch(settings: Settings) -> Watch:
    return wiring.watch(settings, now=_now, clock=time.perf_counter, note=_log.warning, service=True)


def _drilled(entry: Entry, asked: datetime) -> bool:
    return any(line.drill and asked <= line.at <= _now() for line in entry.evidence)


def _now() -> datetime:
    return datetime.now(UTC)
