"""Reads copies back from their store, compares them, and records the result as evidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from secrets import SystemRandom

from refnet.catalog.artifact import Progress
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.remote import MANIFEST_OBJECT_BYTES, Copy, Piece
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.bucket import BucketError, BucketFailure, in_background
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import fetch

#: A drill reads back so much of the older copies in each store.
OLDER_BYTES = 1 << 30
#: Pieces that are fetched at once, each of 16 MiB.
_AT_ONCE = 3


def fetch_back(store: RemoteStore, copy: Copy, now: Callable[[], datetime], progress: Progress) -> Copy:
    """Read back and compare every object of `copy`; record the result as evidence, and return the updated copy.

    No recovery key is needed. BucketError if the store cannot be reached: then nothing is recorded.
    """
    begun, what, step = now(), f"{copy.name} in {store.name}", f"read back from {store.name}"
    total, done = copy.document.size, 0
    reasons: tuple[str, ...] = ()
    try:
        _compare_manifest(store, copy, what)
        progress(step, done, total)
        for piece in _fetched(store, copy.document.objects, what):
            done += piece.size
            progress(step, done, total)
    except RefnetError as error:
        if error.code is not Exit.DAMAGED:
            raise
        reasons = (error.message,)
    return _recorded(store, copy, now(), (now() - begun).total_seconds(), reasons)


def sample_back(
    store: RemoteStore, copies: Sequence[Copy], now: Callable[[], datetime], most: int = 4
) -> tuple[Copy, ...]:
    """Read back manifest and a random piece of up to `most` of `copies`; return the damaged ones, as recorded.

    Detects a loss in the store before the copy is needed. BucketError if the store cannot be reached.
    """
    random, found = SystemRandom(), list[Copy]()
    sound = [one for one in copies if not one.damaged]
    for copy in random.sample(sound, min(most, len(sound))):
        piece, what = random.choice(copy.document.objects), f"{copy.name} in {store.name}"
        try:
            _compare_manifest(store, copy, what)  # a list may show what was kept here
            fetch(store.bucket, piece, what)
        except RefnetError as error:
            if error.code is not Exit.DAMAGED:
                raise
            found.append(_recorded(store, copy, now(), 0.0, (error.message,)))
    return tuple(found)


def read_oldest_back(
    store: RemoteStore, now: Callable[[], datetime], progress: Progress, most: int = OLDER_BYTES
) -> tuple[Copy, ...]:
    """Read back the copies with the oldest checks, up to `most` bytes; return the damaged ones.

    Larger copies are left to `sample_back`. BucketError if the store cannot be reached.
    """
    found = list[Copy]()
    sound = (one for one in store.entries() if not one.damaged)
    for copy in sorted(sound, key=_last_check):
        if copy.document.size <= most:
            most -= copy.document.size
            found.append(fetch_back(store, copy, now, progress))
    return tuple(one for one in found if one.damaged)


def _recorded(store: RemoteStore, copy: Copy, at: datetime, seconds: float, reasons: tuple[str, ...]) -> Copy:
    """Record a check of `copy`, failed if there are `reasons`; return the updated copy."""
    line = Evidence(
        at, Level.WRITTEN, Outcome.FAILED if reasons else Outcome.PASSED, seconds, reasons=reasons
    )
    store.record(copy, line)
    return replace(copy, evidence=(*copy.evidence, line))


def _last_check(copy: Copy) -> datetime:
    return max((line.at for line in copy.evidence), default=copy.document.sent)


def _compare_manifest(store: RemoteStore, copy: Copy, what: str) -> None:
    if not (_is_there(store, copy) or _is_there(store, copy)):  # it may have changed on the way
        raise RefnetError(
            f"{what} is damaged: its manifest differs from the one that was sent",
            "Send it again.",
            Exit.DAMAGED,
        )


def _is_there(store: RemoteStore, copy: Copy) -> bool:
    try:
        data = store.bucket.get(copy.object, MANIFEST_OBJECT_BYTES)
        return store.manifests.parse(data, copy.object).sha256 == copy.signed.sha256
    except ValueError:
        return False
    except BucketError as error:
        if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
            raise
        return False


def _fetched(store: RemoteStore, pieces: Sequence[Piece], what: str) -> Iterator[Piece]:
    """Yield each piece once it was fetched and compared, in order."""
    begun: deque[tuple[Piece, Future[None]]] = deque()

    def compare(piece: Piece) -> None:
        fetch(store.bucket, piece, what)

    for piece in pieces:
        if len(begun) >= _AT_ONCE:
            first, future = begun.popleft()
            future.result()
            yield first
        begun.append((piece, in_background(compare, piece)))
    for piece, future in begun:
        future.result()
        yield piece
