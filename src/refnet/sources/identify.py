"""Identities: a new artifact gets its source's and the next number, a restored source gets its artifact's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refnet import wiring
from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity, SourceId
from refnet.catalog.manifest import MOST_BEFORE, MOST_NUMBERED, Entry
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.store.source_records import KnownSource, new_id


def identified(context: Context, source: SourceName, made: Made, there: Iterable[Entry]) -> Made:
    """`made` with identity and next number, which are recorded in REFNET_HOME.

    there: the artifacts of `source` in the catalog, whose store is locked.
    """
    records, catalog = wiring.identities(context.settings), Catalog.of(there)
    known = records.or_handed_over(source)
    if source.kind.row.by_name:
        own = Identity.read(made.details)
        made = replace(made, continues=_continues(context, own, catalog)) if own else made
        before = frozenset(made.continues)
        catalog = catalog.about(replace(own, before=before) if own else None, source)
    else:
        if not known.id:
            known = replace(known, id=new_id())
            _say_others(context, source, catalog)
        made = replace(made, identity_id=known.id)
        catalog = catalog.about(known.whose, source)
    numbers = (entry.manifest.number or 0 for entry in catalog.of_source(source))
    number = min(max(known.number, *numbers, 0) + 1, MOST_NUMBERED)
    records.made(source, KnownSource(known.id, number))
    return replace(made, number=number)


def _continues(context: Context, own: Identity, catalog: Catalog) -> tuple[str, ...]:
    """Servers whose database of the same name `own` continues, newest last."""
    recorded = [one for place in wiring.lineages(context.settings) for one in place.before(own)]
    said = [one for e in catalog.entries if e.identity == own for one in e.manifest.continues]
    return tuple(one for one in dict.fromkeys((*said, *recorded)) if one != own.system)[-MOST_BEFORE:]


def _say_others(context: Context, source: SourceName, catalog: Catalog) -> None:
    """Warn that a new source does not continue others of the same name."""
    others = {entry.whose for entry in catalog.of_source(source) if entry.whose}
    if others:
        context.note(
            f"{source} is a new source: the backup folder has {plural(len(others), 'other')} of this name, of another machine"
            " or another REFNET_HOME, and counts them apart"
        )


def take_over(context: Context, source: SourceName, chosen: OpenArtifact, number: int = 0) -> None:
    """Continue the identity of `chosen` in `source`, into which all of it was restored.

    number: the largest number known elsewhere.
    """
    whose = chosen.manifest.whose if chosen.manifest else None
    if not isinstance(whose, SourceId) or chosen.source != source:
        return
    numbers = [number]
    try:
        numbers += [e.manifest.number or 0 for e in context.store.entries(source) if e.whose == whose]
        wiring.identities(context.settings).take_over(source, whose, max(numbers))
    except RefnetError as error:
        context.note(f"the identity of {source} was not recorded: {error.message}")
