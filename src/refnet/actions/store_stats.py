"""store stats: what the copies in a store take, what they share, and what the next prune frees. Needs no recovery key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refnet import wiring
from refnet.actions.prune import StorePlan, prune_store
from refnet.actions.store import can_prune
from refnet.catalog.object_names import MANIFESTS, ManifestName
from refnet.catalog.source_name import LOCAL
from refnet.catalog.store_sizes import Sizes, sizes, total
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.store.remote import RemoteStore


@dataclass(frozen=True)
class StoreStats:
    """What the copies in one store take."""

    store: str
    #: Its place, without a secret.
    shown: str
    sources: Mapping[str, Sizes]
    total: Sizes
    #: Manifests that cannot be trusted or read: they are not counted.
    unlisted: int
    #: Copies of other machines, which this one cannot read and never prunes, by their folder.
    others: Mapping[str, int] = field(default_factory=dict)
    #: Of the next prune; None: it would free nothing.
    plan: StorePlan | None = None
    #: Why there is none, or "".
    frees_nothing: str = ""

    @property
    def leftovers(self) -> int:
        """Bytes of leftovers that the next prune removes."""
        return sum(one.size for one in self.plan.cleaned) if self.plan else 0

    def freed(self, source: str) -> int:
        """Bytes that the next prune frees by deleting copies of `source`."""
        return self.plan.bytes_freed_of(source) if self.plan else 0

    @property
    def freed_in_all(self) -> int:
        """Bytes that the next prune frees, leftovers included."""
        return self.plan.bytes_freed if self.plan else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "shown": self.shown,
            "sources": [
                {"source": name, **one.to_json(), "bytes_freed": self.freed(name)}
                for name, one in self.sources.items()
            ],
            "all": {**self.total.to_json(), "bytes_freed": self.freed_in_all},
            "leftover_bytes": self.leftovers,
            "untrusted": self.unlisted,
            "folders_of_other_keys": list(self.others),
            "copies_of_other_keys": sum(self.others.values()),
            "frees_nothing": self.frees_nothing or None,
        }


def stats(context: Context, only: str | None = None) -> tuple[list[StoreStats], list[RefnetError]]:
    """Return the stats of each store of the settings, or of `only` one; an error of one does not stop the others."""
    found, errors = list[StoreStats](), list[RefnetError]()
    for name in (only,) if only else tuple(context.settings.every_store):
        try:
            found.append(_stats(context, name))
        except RefnetError as error:
            errors.append(error)
    return found, errors


def _stats(context: Context, name: str) -> StoreStats:
    own, store = context.settings.store(name), wiring.remote_store(context.settings, name)
    contents = store.contents()
    by_source = sizes(contents.copies)
    # the sealed backup folder may not exist yet
    is_new = own.name == LOCAL and wiring.sealed(context.settings).is_new()
    folders = () if is_new else store.manifests.folders(MANIFESTS)
    readable = store.manifests.readable()
    plan, why = None, ""
    if not can_prune(own):
        why = "this machine has no credential that may delete there"
    elif not is_new:
        plan = prune_store(context, name, wiring.known(context.settings), plan=True)
    return StoreStats(
        store.name,
        store.bucket.shown,
        by_source,
        total(contents.copies, by_source),
        len(contents.unlisted),
        {one.split("/")[0]: _named(store, one) for one in folders if one not in readable},
        plan,
        why,
    )


def _named(store: RemoteStore, folder: str) -> int:
    """The manifests in `folder`, by their names: without the key that opens them, nobody can read more."""
    return sum(ManifestName.read(one.name) is not None for one in store.bucket.listed(folder))
