"""Whether an artifact is proven now, and whether its source digests its rows: by the settings, or as the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from refnet.actions.accept import carried
from refnet.actions.backup_result import Backup
from refnet.actions.verify import attempt, evidence_of, keep
from refnet.catalog.artifact import Maker
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.proving import ALL, Proving
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Store
from refnet.context import Context
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.store.local import LocalStore

#: No artifact before matters.
_ALWAYS = datetime.max.replace(tzinfo=UTC)


def of(settings: Settings, name: SourceName) -> Proving:
    """Return how often `name` is proven, and how it is compared."""
    own = settings.of(name)
    return Proving(own.prove_every or 0, own.prove_source or "auto")


def comparison(
    context: Context, maker: Maker, known: Iterable[Entry], *, prove: bool, first: bool
) -> tuple[Level | None, Maker]:
    """Return how deep the next artifact is proven (None: not at all), and what makes it, as it is compared.

    Args:
        maker: makes it.
        known: the artifacts that are there.
        prove: prove it if a proof is due, else read it once; False: neither.
        first: prove it, and digest every row.
    """
    settings, digesting = of(context.settings, maker.name), maker.digesting(0)
    if first:
        return Level.PROVEN, maker.digesting(ALL) or maker
    now, entries = _ALWAYS, tuple[Entry, ...]()
    if prove and (settings.every or digesting):
        now, target = context.clock.now(), source_of(context.settings, maker.name).whose()
        entries = Catalog.of(known).about(target, maker.name).of_source(maker.name)
    due = prove and settings.due(entries, now)
    level = Level.PROVEN if due else Level.INTACT if prove else None
    return level, maker.digesting(settings.digest_up_to(entries, now, proves=due)) or maker


def prove(
    context: Context,
    store: LocalStore,
    made: Backup,
    *,
    known: Callable[[], tuple[Entry, ...]],
    level: Level | None,
) -> Backup:
    """Prove what was made in `store` up to `level` (None: not at all), and record the evidence and the warnings.

    known: returns the artifacts that are there.
    """
    clock = context.clock
    if made.warnings:
        line = Evidence(
            clock.now(), Level.WRITTEN, Outcome.PASSED, made.seconds["dump"], reasons=made.warnings
        )
        made = _recorded(store, made, (line,))
    if level is None:
        return made
    published = clock.monotonic()
    proof = attempt(context, store.artifact(Entry(made.manifest)), level)
    made.seconds["prove"] = clock.monotonic() - published
    now = clock.now()
    accepting = carried(known(), made.manifest, proof, now)
    accepted = accepting.objects if accepting else ()
    faulty = (one for one in proof.faulty if one not in accepted)
    made = replace(made, proof=proof, unaccepted=(*made.unaccepted, *faulty))
    lines = evidence_of(proof, now, made.seconds["prove"])
    return _recorded(store, made, (*lines, accepting) if accepting else lines)


def _recorded(store: Store, made: Backup, lines: tuple[Evidence, ...]) -> Backup:
    """Record `lines` as evidence of the artifact."""
    return replace(made, unrecorded=keep(store.artifact(Entry(made.manifest)), lines) or made.unrecorded)
