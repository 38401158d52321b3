"""What ARTIFACT on a command line means: a listed name, any path, or none for the newest of each source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import explained
from refnet.recovery.model.artifact import Entry, Outcome, SourceName, read_name
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.model.store import Store
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.stores.open_artifacts import artifact_at
from refnet.settings import user_path


@dataclass(frozen=True)
class Chosen:
    """An artifact that a command works on.

    `entry` and `store` are None for a file without a manifest of its own name: no evidence is kept of it.
    """

    source: SourceName
    held: OpenArtifact
    entry: Entry | None = None
    store: Store | None = None

    @property
    def name(self) -> str:
        return self.held.name

    @property
    def damage(self) -> str:
        """What the last check that failed found, where the artifact counts as damaged; else ""."""
        if not (self.entry and self.entry.damaged):
            return ""
        failed = [line for line in self.entry.evidence if line.outcome is Outcome.FAILED]
        return "; ".join(failed[-1].reasons if failed else ()) or "a check failed"

    def refusals(self, *, anyway: bool) -> tuple[RefnetError, ...]:
        """Why it is not restored: that it is damaged, unless it is wanted `anyway`."""
        if anyway or not self.damage:
            return ()
        return (
            RefnetError(
                f"{self.name} is damaged: {self.damage}",
                "Choose another (`refnet list`), or give --damaged-anyway: what it restores is compared all the same.",
                Exit.DAMAGED,
            ),
        )


def choose(
    store: Store,
    sources: Iterable[SourceName],
    at: datetime | None = None,
    *,
    target: Identity | None = None,
) -> list[Chosen]:
    """The newest whole artifact (at or before `at`) of each of `sources`; RefnetError where there is none at all.

    `target`: the database that is meant, see Catalog.choices.
    """
    everything, sources = Catalog.of(store.entries()), tuple(sources)
    catalog = everything.choices(target, at) if SourceName.DATABASE in sources else everything
    newest = [catalog.newest_complete(source, at) for source in sources]
    found = [Chosen(entry.source, store.artifact(entry), entry, store) for entry in newest if entry]
    if not found:
        others = everything.others(target) if sources == (SourceName.DATABASE,) else ()
        raise of_others(target, others) if target and others else nothing(catalog, sources, at)
    return found


def of_others(target: Identity, others: Iterable[Identity | None]) -> RefnetError:
    """The error where the store holds artifacts of `others` and none of the database `target`."""
    names = dict.fromkeys(one.database if one else "one that nobody recorded" for one in others)
    return RefnetError(
        f"there is no whole artifact of the database {target.database}; the store holds others: {', '.join(names)}",
        "Set REFNET_DATABASE_URL to the database that is meant; to restore another one there, give --from-database NAME.",
    )


def nothing(catalog: Catalog, sources: Iterable[SourceName], at: datetime | None) -> RefnetError:
    """The error where none of `sources` has a whole artifact (at or before `at`); it names the oldest that there is."""
    oldest = catalog.oldest_whole(sources)
    if at is None or oldest is None:
        return RefnetError(
            "there is no whole artifact", "Make one with `refnet backup`; `refnet list` shows what there is."
        )
    # A time of day as people write it has no fractions, and this one must still be at or after the artifact's.
    reached = oldest.created.astimezone(at.tzinfo) + timedelta(microseconds=999_999)
    return RefnetError(
        f"there is no whole artifact at or before {at:%Y-%m-%d %H:%M %Z}",
        f"The oldest is {oldest.name}: give `--at '{reached:%Y-%m-%d %H:%M:%S}'` or a later time.",
    )


def choose_one(store: Store, artifact: str, source: SourceName | None = None) -> Chosen:
    """The artifact that `artifact` names: a name of the catalog first, else a path.

    Args:
        source: what is wanted, and what a file is taken for whose name and manifest do not tell; None: any.
    """
    chosen = _named(store, artifact, source)
    if source and chosen.source is not source:
        raise RefnetError(
            f"{chosen.name} is an artifact of {chosen.source}, not of {source}",
            f"Restore it with `refnet restore {chosen.source}`.",
            Exit.USAGE,
        )
    return chosen


def _named(store: Store, artifact: str, source: SourceName | None) -> Chosen:
    if "/" not in artifact and (entry := Catalog.of(store.entries()).named(artifact)):
        return Chosen(entry.source, store.artifact(entry), entry, store)
    path = user_path(artifact)
    with explained(path):
        if path.is_file():
            return _at_path(store, path, source)
        there = path.exists()
    raise RefnetError(
        f"'{artifact}' is no file" if there else f"there is no artifact '{artifact}'",
        "Give a name that `refnet list` shows, or the path of a file.",
        Exit.USAGE,
    )


def _at_path(store: Store, path: Path, source: SourceName | None) -> Chosen:
    home: Store = LocalStore(path.parent, flat=True)
    if isinstance(store, LocalStore) and path.resolve().parent in {
        store.folder(one).resolve() for one in SourceName
    }:
        home = store
    entry = Catalog.of(home.entries()).named(path.name)
    if entry:
        return Chosen(entry.source, home.artifact(entry), entry, home)
    held = artifact_at(path)
    if held.manifest:
        return Chosen(held.manifest.source, held)
    said = read_name(path.name)
    return Chosen(said[0] if said else source or _by_ending(path.name), held)


def _by_ending(name: str) -> SourceName:
    """What a file of a foreign name is: a tar archive is taken for a vault, everything else for a dump."""
    return SourceName.OBSIDIAN if name.endswith((".tar.gz", ".tgz")) else SourceName.DATABASE
