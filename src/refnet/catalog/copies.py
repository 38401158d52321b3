"""The copy of an artifact in a remote store, and the monitor's checks of copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from refnet.catalog.catalog import Catalog
from refnet.catalog.checks import GRACE, Check, Limits, Status
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.remote import Copy, CopyLevel
from refnet.catalog.remote_head import Gap
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.catalog.store import Unlisted
from refnet.core import formatting
from refnet.core.errors import RefnetError

#: The name of the monitor's check of the copies in a store begins with it.
OF_COPY = "copy "
#: A store without a schedule of its own that could not be listed for so long is critical.
_UNSEEN = timedelta(days=1)


@dataclass(frozen=True)
class StoreState:
    """A remote store at one moment, or why it could not be listed."""

    name: str
    #: Those whose copies go there.
    sources: frozenset[SourceName]
    copies: tuple[Copy, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()
    trouble: RefnetError | None = None
    #: When it was last listed; None: never.
    listed: datetime | None = None

    def newest(self, source: SourceName, now: datetime | None = None) -> Copy | None:
        """The newest complete copy of `source`; copies dated after `now` only as a last resort."""
        found = Catalog.of((one for one in self.copies if one.source == source), now).newest_complete(source)
        return found if isinstance(found, Copy) else None


def copy_of(copies: Iterable[Copy], manifest: Manifest) -> Copy | None:
    """An undamaged copy of the artifact of `manifest`, if any."""
    wanted = (manifest.source, manifest.name, manifest.sha256)
    same = (one for one in copies if (one.source, one.name, one.manifest.sha256) == wanted)
    return next((one for one in same if not one.damaged), None)


def is_missing(state: StoreState, newest: Entry | None) -> bool:
    """Whether the newest complete artifact lacks a copy; a shrunk one needs none until accepted."""
    return bool(newest and not newest.shrunk and not copy_of(state.copies, newest.manifest))


def watch_copies(
    states: Sequence[StoreState],
    catalog: Catalog,
    limits: Mapping[SourceName, Limits],
    now: datetime,
    only: SourceName | None = None,
) -> Iterator[Check]:
    """Yield the checks of each store and source.

    Args:
        catalog: the artifacts in the backup folder.
        limits: by source.
        only: check only this source; None: all sources, and the order of the manifests.
    """
    for state in states:
        what = f"{OF_COPY}{state.name}"
        if state.trouble:
            yield _unseen(state, state.trouble, now)
            continue
        for source in sorted(state.sources):
            newest, copy = catalog.newest_complete(source), state.newest(source, now)
            if (newest or copy) and only in {None, source}:
                yield _of_source(state, newest, copy, limits[source], now)
            if only in {None, source}:
                yield from _damage(state, source)
        if only is None and state.gaps:
            says = f"{formatting.some([one.why for one in state.gaps], 3)}: find out who can delete there: `refnet list --store {state.name}`"
            yield Check(None, what, Status.CRITICAL, says)
        elif only is None and state.unlisted:
            says = f"{formatting.some([f'{one.name} {one.why}' for one in state.unlisted], 3)}; not counted"
            yield Check(None, what, Status.WARNING, says)


def _unseen(state: StoreState, trouble: RefnetError, now: datetime) -> Check:
    known = state.listed is not None and timedelta() <= now - state.listed <= _UNSEEN + GRACE
    ago = f"; last listed {formatting.age(now - state.listed)} ago" if state.listed else ""
    says = f"cannot be listed{ago}: {trouble.message}"
    return Check(None, f"{OF_COPY}{state.name}", Status.WARNING if known else Status.CRITICAL, says)


def _damage(state: StoreState, source: SourceName) -> Iterator[Check]:
    """Warn about damaged copies of `source` without another copy of the artifact."""
    damaged = [one for one in state.copies if one.source == source and one.damaged]
    names = [one.name for one in damaged if not copy_of(state.copies, one.manifest)]
    if names:
        says = f"damaged there: {formatting.some(names, 3)}: `refnet copy --all` sends the artifacts that are still here"
        if state.name == LOCAL:
            says = f"damaged: {formatting.some(names, 3)}: `refnet fetch NAME --store STORE` has another, if one was sent"
        yield Check(source, f"{OF_COPY}{state.name}", Status.WARNING, says)


def _of_source(
    state: StoreState, newest: Entry | None, copy: Copy | None, limits: Limits, now: datetime
) -> Check:
    source = (newest or copy).source  # type: ignore[union-attr]  # one of them is there

    def check(status: Status, says: str) -> Check:
        return Check(source, f"{OF_COPY}{state.name}", status, says)

    shown = f"{copy.name} is {copy.copy_level}, {formatting.age(now - copy.made)} old" if copy else "none"
    if newest and is_missing(state, newest):
        age = now - (copy or newest).made
        says = f"{newest.name} has no copy there (the newest: {shown}): `refnet copy` sends it"
        if now - newest.published < GRACE:
            return check(Status.OK if copy else Status.NEW, says)
        late = limits.age is None or age > limits.age
        return check(Status.CRITICAL if late else Status.WARNING, says)
    if copy is None:
        return check(Status.WARNING, "no copy: the newest artifact shrank and is not accepted")
    if copy.copy_level is CopyLevel.SENT:
        does = "drill" if state.name == LOCAL else "copy"
        return check(Status.WARNING, f"{copy.name} was never read back from there: `refnet {does}` does it")
    return check(Status.OK, shown)
