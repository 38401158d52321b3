"""backup: lock, dump, publish, prove, in one straight line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from functools import partial

from refnet.errors import Exit
from refnet.recovery.model.artifact import Entry, Evidence, Level, Manifest, Outcome
from refnet.recovery.model.shrinking import Shrinking, marked
from refnet.recovery.model.source import Progress, Proof, Source, TransientError, silent
from refnet.recovery.model.store import Store
from refnet.recovery.verbs.verify import attempt, evidence_of, keep

_SHRINKING = Shrinking()


@dataclass(frozen=True)
class Backup:
    """What a backup made: the manifest, its proof (None: not asked for), seconds by phase.

    `warnings`: what a person should know of how it was made. `unrecorded`: why its evidence could not be kept.
    """

    manifest: Manifest
    proof: Proof | None
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    unrecorded: str = ""

    @property
    def exit(self) -> Exit:
        """A backup whose proof could not be had did its work; one whose proof failed is damaged."""
        failed = self.proof is not None and self.proof.outcome is Outcome.FAILED
        return Exit.DAMAGED if failed else Exit.DONE


def backup(
    source: Source,
    store: Store,
    *,
    now: Callable[[], datetime],
    zone: tzinfo | None,
    prove: bool,
    clock: Callable[[], float],
    shrinking: Shrinking = _SHRINKING,
    progress: Progress = silent,
) -> Backup:
    """Make one artifact of `source` in `store`, and prove it.

    Args:
        now: the time for the manifest and the evidence.
        zone: whose local time names the artifact; None: the machine's.
        prove: whether the artifact is restored and compared before this returns.
        clock: seconds, for how long things take.
        shrinking: when it counts as shrunk against the last one.
    """
    publish = partial(_publish, source, store, _Ways(now, zone, clock, shrinking), progress)
    with store.lock(source.name):
        try:
            made = publish()
        except TransientError:
            made = publish()
        if made.warnings:
            made = _kept(store, made, (_written(made, now()),))
        if not prove:
            return made
        published = clock()
        proof = attempt(source, store.artifact(Entry(made.manifest)), Level.PROVEN, progress)
        made.seconds["prove"] = clock() - published
        made = replace(made, proof=proof)
        return _kept(store, made, evidence_of(proof, now(), made.seconds["prove"]))


@dataclass(frozen=True)
class _Ways:
    """How a backup is made; see `backup`."""

    now: Callable[[], datetime]
    zone: tzinfo | None
    clock: Callable[[], float]
    shrinking: Shrinking


def _publish(source: Source, store: Store, ways: _Ways, progress: Progress) -> Backup:
    """One try: dump into a draft and publish it."""
    clock = ways.clock
    started = clock()
    with store.draft(source.name) as draft:
        made = replace(source.dump(draft.out, progress), published=ways.now())
        made = marked(made, source.name, store.entries(source.name), ways.shrinking)
        dumped = clock()
        manifest = draft.publish(made, made.created.astimezone(ways.zone), dumped - started)
    return Backup(manifest, None, {"dump": dumped - started, "publish": clock() - dumped}, made.warnings)


def _written(made: Backup, at: datetime) -> Evidence:
    """The line that keeps the warnings of a backup."""
    return Evidence(at, Level.WRITTEN, Outcome.PASSED, made.seconds["dump"], reasons=made.warnings)


def _kept(store: Store, made: Backup, lines: tuple[Evidence, ...]) -> Backup:
    """`made` with `lines` kept as evidence of its artifact."""
    return replace(made, unrecorded=keep(store, Entry(made.manifest), lines) or made.unrecorded)
