"""list: the artifacts of a store, and what restores replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet import wiring
from refnet.actions.marks import check_tag
from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry, Level, utc
from refnet.catalog.remote import Copy
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import LOCAL, STANDARD, SourceName
from refnet.catalog.store import Unlisted
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources import source_of
from refnet.store.local import LocalStore

if TYPE_CHECKING:
    from refnet.catalog.remote_state import Gap
    from refnet.store.remote import RemoteStore


@dataclass(frozen=True)
class StoreListing:
    store: LocalStore | RemoteStore
    #: Oldest first.
    entries: tuple[Entry, ...]
    #: Files that look like artifacts and are not in the catalog.
    unlisted: tuple[Unlisted, ...]
    #: The time that ages are computed for.
    now: datetime
    #: What the order of a remote store's manifests shows to be removed, replaced or put back.
    gaps: tuple[Gap, ...] = ()
    #: Artifacts that are not encrypted, although encryption.local is set.
    bare: tuple[Path, ...] = ()

    @property
    def place(self) -> str:
        """The backup folder, or the remote store."""
        return str(self.store.root) if isinstance(self.store, LocalStore) else self.store.shown

    def to_json(self) -> dict[str, Any]:
        is_local = isinstance(self.store, LocalStore)
        gaps = {} if is_local else {"gaps": [one.to_json() for one in self.gaps]}
        return {
            "backup_dir" if is_local else "store": self.place,
            "artifacts": [self._listed(entry) for entry in self.entries],
            "unlisted": [asdict(one) for one in self.unlisted],
            **gaps,
            **({"not_encrypted": [str(one) for one in self.bare]} if self.bare else {}),
        }

    def path(self, one: Entry | Unlisted) -> str:
        """Return the file of an artifact, or the object of a copy's manifest."""
        if isinstance(self.store, LocalStore):
            return str(self.store.folder(one.source) / one.name)
        return one.object if isinstance(one, Copy) else one.name

    def _listed(self, entry: Entry) -> dict[str, Any]:
        return {
            "name": entry.name,
            "source": entry.source,
            "path": self.path(entry),
            "database": entry.identity.database if entry.identity else None,
            "system_identifier": entry.identity.system if entry.identity else None,
            "identity": entry.manifest.identity_id or None,
            "number": entry.manifest.number,
            "created": utc(entry.created),
            "age_seconds": round((self.now - entry.made).total_seconds()),
            "size": entry.manifest.size,
            "state": entry.state,
            "compared": entry.compared or None,
            "gaps": list(entry.gaps),
            "partial": entry.manifest.partial,
            "shrunk": entry.shrunk,
            "marks": entry.marks.to_json(),
            "notes": notes(entry, self.now),
        }


def notes(entry: Entry, now: datetime) -> list[str]:
    """Notes on `entry` for the list, beside its state."""
    found = entry.marks.describe(now)
    if entry.ahead(now):
        found.append("dated in the future: chosen only by its name, or if there is no other")
    if entry.proven_before:
        found.append("proven before it was encrypted")
    found += [f"not verified: {gap}" for gap in entry.gaps]
    last = [line for line in entry.evidence[-1:] if line.reasons and not line.accepts]
    if entry.damaged or entry.standing.unknown:
        found += [line.reasons[0] for line in last]
    elif entry.level.rank < Level.RESTORED.rank and not entry.proven_before:
        found += [f"not restored: {line.reasons[0]}" for line in last if line.level is not Level.WRITTEN]
    if entry.manifest.shrunk:
        found.append(
            f"{'SHRUNK' if entry.shrunk else 'shrank, accepted'}: {'; '.join(entry.manifest.shrunk)}"
        )
    if entry.faulty:
        found.append(f"except {'; '.join(entry.faulty)}{'' if entry.unaccepted else ' (accepted)'}")
    if entry.manifest.partial:
        found.append("only some tables")
    if shares := entry.manifest.details.get("shares_bytes_with"):
        found.append(f"same bytes as {shares}")
    if facts := facts_of(entry):
        found.append("full" if facts.of_full else f"increment of {facts.parent}")
    if entry.manifest.unchecked:
        found.append(f"{len(entry.manifest.unchecked)} not protected or not checked")
    return found


def not_named(context: Context, names: tuple[SourceName, ...]) -> tuple[SourceName, ...]:
    """Names that are no longer in the settings: their artifacts are never pruned."""
    known = {*wiring.known(context.settings)}
    return tuple(name for name in names if name not in known)


def listing(context: Context, names: tuple[SourceName, ...] | None, tag: str | None = None) -> StoreListing:
    """Artifacts of the sources `names` (None: all), optionally with the tag `tag`; grouped by source if any is named."""
    store = context.store
    gaps: tuple[Gap, ...] = ()
    if isinstance(store, LocalStore):
        found, _, ignored = store.contents()
    else:
        there = store.contents()
        found, ignored, gaps = there.copies, there.unlisted, there.gaps
    if names is None:
        there_too = sorted({one.source for one in found} | {one.source for one in ignored})
        names = (*wiring.known(context.settings), *there_too)
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    entries = tuple(entry for entry in Catalog.of(found).entries if entry.source in places)
    if any(name not in STANDARD for name in names):
        entries = tuple(sorted(entries, key=lambda entry: places[entry.source]))
    if tag is not None:
        check_tag(tag)
        entries = tuple(entry for entry in entries if tag in entry.marks.tags)
    unlisted = () if tag is not None else tuple(one for one in ignored if one.source in places)
    bare: Sequence[Path] = ()
    if not isinstance(store, LocalStore) and store.name == LOCAL:
        plain = ((place, one) for place in wiring.plaintext(context.settings) for one in place.entries())
        bare = [place.path(one) for place, one in plain if one.source in places and tag is None]
    return StoreListing(store, entries, unlisted, context.clock.now(), gaps, tuple(bare))


@dataclass(frozen=True)
class Kept:
    """The previous versions of some sources."""

    #: Oldest first within each source.
    versions: tuple[PreviousVersion, ...]
    #: Why some could not be listed.
    unknown: tuple[RefnetError, ...]
    #: How long each is kept.
    keep: timedelta
    now: datetime

    def removed(self, one: PreviousVersion) -> datetime | None:
        """Time from which prune removes it; None: never, because it is blocked."""
        return None if one.blocked else self.now if one.half_made else one.since + self.keep

    def to_json(self) -> dict[str, Any]:
        return {
            "previous_versions": [
                {"source": one.source, **one.to_json(), "removed_from": (at := self.removed(one)) and utc(at)}
                for one in self.versions
            ],
            "unknown": [error.message for error in self.unknown],
        }


def previous(context: Context, names: Iterable[SourceName]) -> Kept:
    """All previous versions of the sources `names`; errors of one source do not hide the others."""
    found, unknown = list[PreviousVersion](), list[RefnetError]()
    for name in names:
        for listed in source_of(context.settings, name).previous():
            try:
                found += sorted(listed(), key=lambda one: one.since)
            except RefnetError as error:
                unknown.append(error)
    keep = timedelta(days=context.settings.retention_previous)
    return Kept(tuple(found), tuple(unknown), keep, context.clock.now())
