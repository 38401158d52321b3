"""forget: delete artifacts by name; never pinned ones, and a source's last one only on request."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from refnet.actions.choose import choose_listed
from refnet.catalog import retention
from refnet.catalog.manifest import Entry
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore
from refnet.store.sealed import SealedStore


@dataclass(frozen=True)
class Forgetting:
    """The artifacts to delete."""

    entries: tuple[Entry, ...]
    #: By name: why every prune would keep it; it is deleted only with --force-last.
    needed: dict[str, str] = field(default_factory=dict)
    force_last: bool = False
    #: False: only planned.
    done: bool = False

    @property
    def bytes_freed(self) -> int:
        """Upper bound of the freed bytes: artifacts that share bytes free nothing."""
        return sum(entry.manifest.size for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        return {
            "artifacts": [
                {
                    "name": entry.name,
                    "source": entry.source,
                    "size": entry.manifest.size,
                    "state": entry.state,
                    "needed": self.needed.get(entry.name),
                }
                for entry in self.entries
            ],
            "bytes_freed_at_most": self.bytes_freed,
            "done": self.done,
        }


def plan(context: Context, names: Iterable[str], *, force_last: bool = False) -> Forgetting:
    """Plan the deletion of the artifacts `names`; RefnetError if one must stay."""
    store = context.catalog
    entries = {entry.name: entry for entry in (choose_listed(store, name) for name in names)}
    found = Forgetting(tuple(entries.values()), force_last=force_last)
    return _judged(found, store, context.clock.now())


def forget(context: Context, planned: Forgetting) -> Forgetting:
    """Carry out the plan after checking it again under the locks; RefnetError before any deletion if it changed."""
    store = context.catalog
    with ExitStack() as locks:
        for source in dict.fromkeys(entry.source for entry in planned.entries):
            locks.enter_context(store.lock(source))
        judged = _judged(planned, store, context.clock.now())
        for entry in judged.entries:
            store.delete(entry)
    return replace(judged, done=True)


def _judged(planned: Forgetting, store: LocalStore | SealedStore, now: datetime) -> Forgetting:
    """Check `planned` against the current store; RefnetError if an artifact is gone, pinned or needed."""
    there = {source: store.entries(source) for source in {entry.source for entry in planned.entries}}
    known = {entry.name: entry for entries in there.values() for entry in entries}
    entries = []
    for name in (entry.name for entry in planned.entries):
        if name not in known:
            raise RefnetError(f"{name} is gone: another run deleted it", "`refnet list` shows what there is.")
        if pin := known[name].marks.pin(now):
            raise RefnetError(f"{name} is {pin}", f"`refnet unpin {name}` ends that.", Exit.USAGE)
        entries.append(known[name])
    needed = {name: why for each in there.values() for name, why in retention.needed(each, now).items()}
    needed = {entry.name: needed[entry.name] for entry in entries if entry.name in needed}
    if needed and not planned.force_last:
        name, why = next(iter(needed.items()))
        raise RefnetError(
            f"{name} is needed: {why}",
            "Make and prove a newer one first (`refnet backup`), or give --force-last.",
            Exit.USAGE,
        )
    return replace(planned, entries=tuple(entries), needed=needed)
