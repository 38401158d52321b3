"""Extends the locks of pieces that a new copy shares, before its manifest names them.

A server's "accepted" is no proof that it keeps a lock: one of the extended locks is read afterwards, each time another one.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from refnet.catalog.remote import Piece
from refnet.store.buckets.bucket import BucketError, BucketFailure, Locks, in_background

#: Requests at once; none has content.
_AT_ONCE = 8
_REFUSALS = (BucketFailure.REFUSED, BucketFailure.LOCKED)


@dataclass(frozen=True)
class Extended:
    """The locks of pieces after they were extended."""

    #: By the name of a piece: until when. The others are as they were.
    until: Mapping[str, datetime]
    #: Why the server did not extend the others; "": it did, or only lacks them.
    refusal: str = ""


def extend(
    locks: Locks,
    pieces: Sequence[Piece],
    now: datetime,
    lock: timedelta,
    progress: Callable[[int, int], None],
) -> Extended:
    """Lock `pieces` for the time `lock` from `now` on; the first refusal ends it.

    BucketError if the server does not answer. progress: gets the pieces done, and all of them.
    """
    until, least = (now + lock).replace(microsecond=0), now + lock / 2
    rest, done, refusal = iter(pieces), dict[str, datetime](), ""
    begun: deque[tuple[Piece, Future[datetime]]] = deque()

    def begin(count: int) -> None:
        for one in islice(rest, count):
            begun.append((one, in_background(_extended, locks, one, until, least)))

    begin(_AT_ONCE)
    while begun:
        piece, future = begun.popleft()
        try:
            done[piece.name] = future.result()
        except BucketError as error:
            if error.transient:
                raise
            refusal = refusal or ("" if error.kind is BucketFailure.MISSING else error.message)
        progress(len(done), len(pieces))
        begin(0 if refusal else 1)
    kept = [one for one in pieces if one.name in done]
    if kept and not _is_kept(locks, secrets.choice(kept), done):
        return Extended({}, "it accepts longer locks and does not confirm them")
    return Extended(done, refusal)


def _extended(locks: Locks, piece: Piece, until: datetime, least: datetime) -> datetime:
    """Lock a piece until then; return until when it is locked. BucketError if it is not, and not until `least` either."""
    try:
        locks.lock(piece.name, piece.version, until)
    except BucketError as error:
        if error.kind not in _REFUSALS:
            raise
        with suppress(BucketError):  # an earlier run, whose record is lost, may have extended it further
            there = locks.locked_until(piece.name, piece.version)
            if there and there >= least:
                return there
        raise
    return until


def _is_kept(locks: Locks, piece: Piece, until: Mapping[str, datetime]) -> bool:
    """Whether the server says that a piece is locked as it was extended; False if it does not tell."""
    try:
        there = locks.locked_until(piece.name, piece.version)
    except BucketError as error:
        if error.transient:
            raise
        return False
    return there is not None and there >= until[piece.name]
