"""Whether an artifact is proven now, and whether its source digests its rows: by the settings, or as the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from refnet import wiring
from refnet.actions.accept import carried
from refnet.actions.backup_result import Backup
from refnet.actions.context import Context
from refnet.actions.verify import attempt, evidence_of, keep
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.proving import ALL, Proving
from refnet.recovery.model.source import Source
from refnet.recovery.model.source_name import Kind, SourceName
from refnet.recovery.model.store import Store
from refnet.recovery.stores.local import LocalStore
from refnet.settings import Settings

#: No artifact before matters.
_ALWAYS = datetime.max.replace(tzinfo=UTC)


def of(settings: Settings, name: SourceName) -> Proving:
    """Return how often `name` is proven, and how it is compared."""
    own = settings.of(name)
    return Proving(own.prove_every or 0, own.prove_source or "auto")


def comparison(
    context: Context, source: Source, known: Iterable[Entry], *, prove: bool, first: bool
) -> tuple[Level | None, Source]:
    """Return how deep the next artifact is proven (None: not at all), and the source as it is compared.

    Args:
        source: what is backed up.
        known: the artifacts that are there.
        prove: prove it if a proof is due, else read it once; False: neither.
        first: prove it, and digest every row.
    """
    settings, digests = of(context.settings, source.name), _digests(source)
    if first:
        return Level.PROVEN, _digesting(source, ALL)
    now, entries = _ALWAYS, tuple[Entry, ...]()
    if prove and (settings.every or digests):
        now, target = context.clock.now(), wiring.whose(context.settings, source.name)
        entries = Catalog.of(known).about(target, source.name).of_source(source.name)
    due = prove and settings.due(entries, now)
    level = Level.PROVEN if due else Level.INTACT if prove else None
    return level, _digesting(source, settings.digest_up_to(entries, now, proves=due))


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


def _digests(source: Source) -> bool:
    """Return whether `source` is a database, which digests its rows, or a folder, whose files are read again."""
    if source.name.kind is Kind.FOLDER:
        from refnet.recovery.sources.files.files_source import FilesSource

        return isinstance(source, FilesSource)
    if source.name.kind is not Kind.DATABASE:
        return False
    from refnet.recovery.sources.database.database_source import DatabaseSource

    return isinstance(source, DatabaseSource)


def _digesting(source: Source, up_to: int) -> Source:
    """Return `source`; it digests the rows of at most `up_to` bytes of tables, or so many bytes of files."""
    return replace(source, digest_up_to=up_to) if _digests(source) else source  # type: ignore[type-var]
