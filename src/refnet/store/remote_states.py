"""Read the state of remote stores for the monitor and the metrics: in bounded time, and not at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

from refnet.catalog.remote_state import StoreState
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.store.buckets.bucket import in_background
from refnet.store.remote import RemoteContents, RemoteStore, home_of

#: Seconds that all stores together may take to answer; a copy waits longer.
_SECONDS = 20.0
#: Seconds that a reading waits for a new list while there is an earlier one.
_PATIENCE = 1.0
#: A store is listed again after this time.
_FRESH = timedelta(minutes=5)
#: A file in the home of a store; its time is when the store was last listed.
_LISTED = "listed"


@dataclass(frozen=True)
class Watched:
    """A remote store that is watched."""

    name: str
    #: Those whose copies go there.
    sources: frozenset[SourceName]
    #: Its folder in REFNET_HOME.
    home: Path
    #: RefnetError if its settings or keys cannot be used.
    open: Callable[[], RemoteStore]


@dataclass(frozen=True)
class _Listing:
    """A running list of all stores."""

    at: datetime
    #: By the monotonic clock.
    end: float
    contents: tuple[Future[RemoteContents], ...]


class StoreStates:
    """Reads the stores `watched`."""

    def __init__(self, watched: Sequence[Watched], now: Callable[[], datetime]) -> None:
        self._watched = watched
        self._now = now
        self._stores: dict[str, RemoteStore] = {}
        self._read: tuple[datetime, tuple[StoreState, ...]] | None = None
        self._listing: _Listing | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        sources: Iterable[SourceName],
        open_store: Callable[[str], RemoteStore],
        now: Callable[[], datetime],
    ) -> Self:
        """Watch the stores of `settings`; `open_store` opens one by its name."""
        watched = []
        for name, one in settings.stores.items():
            own = frozenset(source for source in sources if one in settings.stores_of(source))
            watched.append(Watched(name, own, home_of(settings, name), partial(open_store, name)))
        return cls(watched, now)

    def read(self) -> tuple[StoreState, ...]:
        """State of each store, at most five minutes old; older while a store is slow to respond.

        Only the first call waits for the stores, at most 20 s.
        """
        now = self._now()
        if self._listing is None and (self._read is None or not timedelta() <= now - self._read[0] < _FRESH):
            begun = tuple(in_background(self._contents, one) for one in self._watched)
            self._listing = _Listing(now, time.monotonic() + _SECONDS, begun)
        if listing := self._listing:
            left = max(0.0, listing.end - time.monotonic())
            slow = wait(listing.contents, left if self._read is None else min(left, _PATIENCE)).not_done
            if self._read is None or not slow or time.monotonic() >= listing.end:
                pairs = zip(self._watched, listing.contents, strict=True)
                self._read = listing.at, tuple(self._state(one, found, listing.at) for one, found in pairs)
                self._listing = None
        return self._read[1] if self._read else ()

    def _contents(self, one: Watched) -> RemoteContents:
        if one.name not in self._stores:
            self._stores[one.name] = one.open()
        return self._stores[one.name].contents()

    def _state(self, one: Watched, contents: Future[RemoteContents], now: datetime) -> StoreState:
        try:
            found = contents.result(0)
        except TimeoutError:
            trouble = RefnetError(f"{one.name} did not answer within {_SECONDS:.0f} s", "Check the network.")
        except RefnetError as error:
            trouble = error
        else:
            # nothing was sent yet, or a full disk: it is said to be unseen for longer
            with suppress(OSError):
                (one.home / _LISTED).touch(0o600)
            records = self._stores[one.name].records
            unlisted, extended = records.unaccepted(found.unlisted), records.locked_until(now)
            return StoreState(
                one.name, one.sources, found.copies, found.gaps, unlisted, listed=now, extended=extended
            )
        listed = None
        with suppress(OSError):
            listed = datetime.fromtimestamp((one.home / _LISTED).stat().st_mtime, UTC)
        return StoreState(one.name, one.sources, trouble=trouble, listed=listed)
