"""backup: lock, dump, publish, prove, in one straight line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo

from refnet.errors import Exit
from refnet.recovery.model.artifact import Entry, Level, Manifest, Outcome
from refnet.recovery.model.source import AgainError, Progress, Proof, Source, silent
from refnet.recovery.model.store import Store
from refnet.recovery.verbs.verify import attempt, evidence_of, keep


@dataclass(frozen=True)
class Backup:
    """What a backup made: the manifest, its proof (None: not asked for), seconds by phase."""

    manifest: Manifest
    proof: Proof | None
    seconds: dict[str, float]
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
    progress: Progress = silent,
) -> Backup:
    """Make one artifact of `source` in `store`, and prove it.

    Args:
        now: the time for the evidence.
        zone: whose local time names the artifact; None: the machine's.
        prove: whether the artifact is restored and compared before this returns.
        clock: seconds, for how long things take.
    """
    with store.lock(source.name):
        try:
            manifest, seconds = _publish(source, store, zone, clock, progress)
        except AgainError:
            manifest, seconds = _publish(source, store, zone, clock, progress)
        published = clock()
        if not prove:
            return Backup(manifest, None, seconds)
        entry = Entry(manifest)
        proof = attempt(source, store.held(entry), Level.PROVEN, progress)
        seconds["prove"] = clock() - published
        lines = evidence_of(proof, now(), seconds["prove"])
        return Backup(manifest, proof, seconds, keep(store, entry, lines))


def _publish(
    source: Source, store: Store, zone: tzinfo | None, clock: Callable[[], float], progress: Progress
) -> tuple[Manifest, dict[str, float]]:
    """One try: dump into a draft and publish it; seconds by phase."""
    started = clock()
    with store.draft(source.name) as draft:
        made = source.dump(draft.out, progress)
        dumped = clock()
        manifest = draft.publish(made, made.created.astimezone(zone), dumped - started)
    return manifest, {"dump": dumped - started, "publish": clock() - dumped}
