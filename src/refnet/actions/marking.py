"""pin, unpin, tag: change the marks of an artifact."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from refnet.actions.choose import choose_listed
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.manifest import Entry
from refnet.catalog.marks import MOST_TAGS, Marks, is_tag
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError


@dataclass(frozen=True)
class Marking:
    """A change of the marks of an artifact."""

    #: With its marks before the change.
    entry: Entry
    marks: Marks
    #: False: only planned.
    done: bool = False

    @property
    def changes_nothing(self) -> bool:
        return self.marks == self.entry.marks

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "source": self.entry.source,
            "before": self.entry.marks.to_json(),
            "after": self.marks.to_json(),
            "done": self.done,
        }


def pin(context: Context, name: str, until: str | None = None) -> Marking:
    """Plan to keep the artifact `name` until the time `until` (None: until it is unpinned)."""
    entry = _readable(choose_listed(context.catalog, name))
    moment = parse_time(until, None) if until else None
    if moment and moment <= context.clock.now():
        raise RefnetError(f"'{until}' is in the past", "Give a later date, or omit --until.", Exit.USAGE)
    return Marking(entry, replace(entry.marks, pinned=True, until=moment))


def unpin(context: Context, name: str) -> Marking:
    """Plan to unpin the artifact `name`; unreadable marks are removed."""
    entry = choose_listed(context.catalog, name)
    return Marking(entry, Marks(tags=entry.marks.tags))


def tag(context: Context, name: str, tags: Collection[str], *, remove: bool = False) -> Marking:
    """Plan to add `tags` to the artifact `name`, or to remove them."""
    for one in tags:
        check_tag(one)
    entry = _readable(choose_listed(context.catalog, name))
    found = {*entry.marks.tags} - {*tags} if remove else {*entry.marks.tags, *tags}
    if len(found) > MOST_TAGS:
        raise RefnetError(f"{entry.name} would have {len(found)} tags", f"At most {MOST_TAGS}.", Exit.USAGE)
    return Marking(entry, replace(entry.marks, tags=tuple(sorted(found))))


def check_tag(text: str) -> None:
    """RefnetError if `text` cannot be a tag."""
    if not is_tag(text):
        raise RefnetError(
            f"'{text[:100]}' cannot be a tag",
            "Use letters, digits, '.', '_' and '-', at most 40, a letter or a digit first.",
            Exit.USAGE,
        )


def mark(context: Context, planned: Marking) -> Marking:
    """Write the planned marks; RefnetError if another run changed them meanwhile."""
    if planned.changes_nothing:
        return planned
    store, entry = context.catalog, planned.entry
    with store.lock(entry.source):
        now = Catalog.of(store.entries(entry.source)).named(entry.name)
        if now is None or now.marks != entry.marks:
            what = "is gone" if now is None else "has other marks now"
            raise RefnetError(f"{entry.name} {what}: another run changed it", "`refnet list` shows it.")
        store.mark(entry, planned.marks)
    return replace(planned, done=True)


def _readable(entry: Entry) -> Entry:
    """`entry`; RefnetError if its marks are unreadable, as writing would lose them."""
    if entry.marks.unreadable:
        raise RefnetError(
            f"the marks of {entry.name} cannot be read: {entry.marks.unreadable}",
            f"It counts as pinned. `refnet unpin {entry.name}` removes its pin and its tags.",
        )
    return entry
