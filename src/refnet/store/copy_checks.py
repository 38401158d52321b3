"""Reads copies back from their store, compares them, and records the result as evidence."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import SystemRandom
from typing import TypeVar

from refnet.catalog.artifact import Progress
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.remote import MANIFEST_OBJECT_BYTES, Copy, Piece
from refnet.catalog.remote_state import READ_BACK_WITHIN, is_stale
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.bucket import BucketError, BucketFailure, in_background
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import fetch

#: A drill reads back so much of the older copies in each store.
OLDER_BYTES = 1 << 30
#: Runs that go on as often as now read each piece once in this time: two days are left for a run that is late.
_ONCE_IN = READ_BACK_WITHIN - timedelta(days=2)
#: Pieces that are fetched at once, each of 16 MiB.
_AT_ONCE = 3
_Item = TypeVar("_Item")


def fetch_back(
    store: RemoteStore,
    copy: Copy,
    now: Callable[[], datetime],
    progress: Progress,
    since: datetime | None = None,
) -> Copy:
    """Read back and compare pieces of `copy`; record the result as evidence, and return the updated copy.

    Which ones: see `due`. No recovery key is needed. BucketError if the store cannot be reached: then only
    the times of the pieces that were read are recorded, and the next run reads the others.

    Args:
        since: read every piece that was not read back since then.
    """
    begun, step = now(), f"read back from {store.name}"
    read, pieces = store.records.read_back(), copy.document.objects
    known = {one.name: read[one.name] for one in pieces if one.name in read}
    del read  # of all copies: it is read again when the result is recorded
    wanted = _not_since(since, pieces, known) if since else due(pieces, known, begun)
    total, done, names = sum(one.size for one in wanted), 0, list[str]()

    def passed(piece: Piece) -> None:
        nonlocal done
        done += piece.size
        names.append(piece.name)
        progress(step, done, total)

    progress(step, done, total)
    failed = list[str]()
    try:
        damage = _compare(store, copy, wanted, passed)
        failed += [damage.piece.name] if damage and damage.piece else []
    finally:
        if copy.document.key:
            store.records.add_read_back(begun, names, failed)
    return _recorded(store, copy, now(), (now() - begun).total_seconds(), damage)


@dataclass(frozen=True)
class _Damage:
    """What a comparison found."""

    why: str
    #: None: the manifest is damaged.
    piece: Piece | None = None


#: What `look_back` found, by the object of each copy.
Looked = Mapping[str, _Damage | None]


def _compare(
    store: RemoteStore, copy: Copy, wanted: Sequence[Piece], passed: Callable[[Piece], None]
) -> _Damage | None:
    """Read back the manifest and the pieces `wanted`; `passed` gets each that is as it was sent."""
    what = f"{copy.name} in {store.name}"
    if not (
        _is_there(store, copy) or _is_there(store, copy)
    ):  # a list may show what was kept here, or it changed on the way
        return _Damage(f"{what} is damaged: its manifest differs from the one that was sent")

    def fetched(piece: Piece) -> None:
        fetch(store.bucket, piece, what)

    for piece, why in compared(wanted, fetched):
        if why:
            return _Damage(why, piece)
        passed(piece)
    return None


def due(pieces: Sequence[Piece], known: Mapping[str, datetime], now: datetime) -> list[Piece]:
    """Pieces of a copy to read back now, so that each is read within READ_BACK_WITHIN, and no run reads most of them.

    Those that never were; of the others as many as the time since the last run needs, the oldest first, in a random order
    where they are equally old; and those that would be too old before the next run, also if it is late.

    Args:
        known: name → when it was last read back.
    """
    read = {one.name: at for one in pieces if (at := known.get(one.name)) and at <= now}
    waited = now - max(read.values(), default=now)
    names = [*read]
    SystemRandom().shuffle(names)
    names.sort(key=read.__getitem__)
    share = math.ceil(len(names) * waited / _ONCE_IN) or 1
    old = {name for name, at in read.items() if now - at + 2 * waited > READ_BACK_WITHIN}
    wanted = {*names[:share], *old}
    return [one for one in pieces if one.name not in read or one.name in wanted]


def _not_since(since: datetime, pieces: Sequence[Piece], known: Mapping[str, datetime]) -> list[Piece]:
    """`pieces` that were not read back since then; the record is to the second."""
    moment = since.replace(microsecond=0)
    return [one for one in pieces if known.get(one.name, datetime.min.replace(tzinfo=UTC)) < moment]


def look_back(store: RemoteStore, copies: Sequence[Copy], most: int = 4) -> Looked:
    """Read back manifest and a random piece of up to `most` of `copies`, one after the other: beside other work, which needs memory.

    Nothing is recorded: see `sample_back`. BucketError if the store cannot be reached.
    """
    random, found = SystemRandom(), dict[str, _Damage | None]()
    sound = [one for one in copies if not one.damaged and one.document.objects]
    for copy in random.sample(sound, min(most, len(sound))):
        try:
            found[copy.object] = _compare(store, copy, [random.choice(copy.document.objects)], lambda _: None)
        except RefnetError as error:
            if error.code is not Exit.DAMAGED:
                raise
            found[copy.object] = _Damage(error.message)
    return found


def sample_back(
    store: RemoteStore,
    copies: Sequence[Copy],
    now: Callable[[], datetime],
    looked: Looked | None = None,
    unlisted: Collection[str] = (),
) -> tuple[Copy, ...]:
    """Record what was wrong in a sample of `copies`; return the damaged ones, as recorded.

    Detects a loss in the store before the copy is needed. BucketError if the store cannot be reached.

    Args:
        looked: what `look_back` found; None: it looks now.
        unlisted: names of pieces that the store does not list with their size; of each copy with some, one is read.
    """
    found, tried, lost = list[Copy](), set[str](), set[str]()
    sound = [one for one in copies if not one.damaged and one.document.objects]
    for copy in sound if unlisted else ():
        doubtful = [one for one in copy.document.objects if one.name in unlisted]
        if not doubtful or tried & {one.name for one in doubtful}:
            continue
        tried.add(doubtful[0].name)
        if damage := _compare(store, copy, doubtful[:1], lambda _: None):
            lost.add(doubtful[0].name)  # that damages each copy that names it
            found.append(_recorded(store, copy, now(), 0.0, damage))
    sound = [one for one in sound if not lost & {piece.name for piece in one.document.objects}]
    damages = look_back(store, sound) if looked is None else looked
    for copy in sound:
        if damage := damages.get(copy.object):
            found.append(_recorded(store, copy, now(), 0.0, damage))
    return tuple(found)


def read_oldest_back(
    store: RemoteStore, now: Callable[[], datetime], progress: Progress, most: int = OLDER_BYTES
) -> tuple[Copy, ...]:
    """Read back the copies with the oldest checks, up to `most` bytes; return the damaged ones.

    A piece that several share is read once. Larger copies are left to `sample_back`. BucketError if the store cannot be reached.
    """
    found, begun = list[Copy](), now()
    sound = (one for one in store.entries() if not one.damaged)
    for copy in sorted(
        sound, key=lambda one: max((line.at for line in one.evidence), default=one.document.sent)
    ):
        left = _not_since(begun, copy.document.objects, store.records.read_back())
        size = sum(one.size for one in left)
        if size <= most:
            most -= size
            found.append(fetch_back(store, copy, now, progress, begun))
    return tuple(one for one in found if one.damaged)


def _recorded(store: RemoteStore, copy: Copy, at: datetime, seconds: float, damage: _Damage | None) -> Copy:
    """Record a check of `copy`; return the updated copy. A damaged piece damages every copy that names it."""
    line = Evidence(at, Level.WRITTEN, Outcome.PASSED, seconds)
    if damage:
        line = replace(line, outcome=Outcome.FAILED, reasons=(damage.why,))
        for other in store.entries() if damage.piece else ():
            if other.id != copy.id and not other.damaged and damage.piece in other.document.objects:
                store.record(other, replace(line, seconds=0.0))
    store.record(copy, line)
    evidence = (*copy.evidence, line)
    stale = is_stale(copy.document, evidence, store.records.read_back(), at)
    return replace(copy, evidence=evidence, stale=stale)


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


def compared(items: Iterable[_Item], check: Callable[[_Item], None]) -> Iterator[tuple[_Item, str]]:
    """Check each piece or copy, some at once; yield it in order with "", or why it is damaged. `check`: RefnetError (DAMAGED)."""
    begun: deque[tuple[_Item, Future[None]]] = deque()

    def ended() -> tuple[_Item, str]:
        item, future = begun.popleft()
        try:
            future.result()
        except RefnetError as error:
            if error.code is not Exit.DAMAGED:
                raise
            return item, error.message
        return item, ""

    for item in items:
        if len(begun) >= _AT_ONCE:
            yield ended()
        begun.append((item, in_background(check, item)))
    while begun:
        yield ended()
