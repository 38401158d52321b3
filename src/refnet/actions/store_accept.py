"""store accept: treat copies missing from a remote store as deleted on purpose, which ends the alarm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refnet.catalog.remote_head import Gap, Head
from refnet.core.errors import Exit, RefnetError
from refnet.store.remote import RemoteStore


@dataclass(frozen=True)
class StoreAcceptance:
    """The acceptance of a remote store as it is."""

    store: RemoteStore
    #: Those that are an alarm now.
    gaps: tuple[Gap, ...]
    #: Those of them that stay an alarm: no deletion explains them.
    staying: tuple[Gap, ...]
    #: The record of the newest manifest, that ends the others.
    head: Head
    #: False: only planned.
    accepted: bool = False

    @property
    def ending(self) -> tuple[Gap, ...]:
        """Gaps whose alarm ends."""
        return tuple(one for one in self.gaps if one not in self.staying)

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store.name,
            "shown": self.store.bucket.shown,
            "gaps": [one.to_json() for one in self.ending],
            "staying": [one.to_json() for one in self.staying],
            "accepted": self.accepted,
        }


def plan(store: RemoteStore) -> StoreAcceptance:
    """Return what would be accepted; RefnetError if nothing can be."""
    planned = StoreAcceptance(store, *store.accepted())
    if not planned.gaps:
        raise RefnetError(f"{store.shown} has no gap", "There is nothing to accept.", Exit.USAGE)
    if not planned.ending:
        hint = "`refnet list` with --store shows it. Find out who can write there; keep another store."
        raise RefnetError(f"{store.shown}: no deletion explains this: {planned.gaps[0].why}", hint)
    return planned


def accept(planned: StoreAcceptance) -> StoreAcceptance:
    """Record the acceptance; RefnetError if the store has changed since the plan."""
    with planned.store.alone(seconds=0.0):
        if plan(planned.store) != planned:
            raise RefnetError(f"{planned.store.name} has changed meanwhile", "Retry.", transient=True)
        planned.store.keep_head(planned.head)
    return replace(planned, accepted=True)
