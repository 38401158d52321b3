"""list and show: the artifacts of the store, and one of them in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refnet.actions.choose import choose_one
from refnet.actions.context import Context
from refnet.errors import RefnetError
from refnet.recovery.model.artifact import Entry, Manifest, SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.model.store import Unlisted
from refnet.recovery.stores.local import LocalStore


@dataclass(frozen=True)
class Listing:
    store: LocalStore
    #: Oldest first.
    entries: tuple[Entry, ...]
    #: Files that look like artifacts and are not in the catalog.
    unlisted: tuple[Unlisted, ...]


@dataclass(frozen=True)
class Shown:
    chosen: OpenArtifact
    manifest: Manifest
    #: A dict a table, of an artifact of the database.
    tables: tuple[dict[str, Any], ...]


def listing(context: Context, names: tuple[SourceName, ...]) -> Listing:
    """Return every artifact of the sources `names`."""
    store = context.store
    entries = tuple(entry for entry in Catalog.of(store.entries()).entries if entry.source in names)
    return Listing(store, entries, tuple(one for one in store.unlisted() if one.source in names))


def show(context: Context, name: str) -> Shown:
    """Return the artifact `name`, in the catalog or at a path; RefnetError where it has no manifest."""
    chosen = choose_one(context.store, name)
    manifest = chosen.manifest
    if manifest is None:
        raise RefnetError(
            f"{chosen.name} has no manifest to show",
            "`refnet verify` judges it by its own index; `refnet adopt` gives it a manifest.",
        )
    return Shown(chosen, manifest, context.open_artifact(chosen).tables())
