"""Compares the clock of the server, which dates the snapshot, with this machine's, which dates all else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from refnet.core import formatting
from refnet.sources.database.admin_session import Session

#: Synchronized clocks differ by less.
TOLERANCE = timedelta(minutes=1)


def warnings(session: Session, now: Callable[[], datetime]) -> tuple[str, ...]:
    """Return a sentence if the clock of the server disagrees with `now`."""
    before = now()
    row = session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    after = now()
    server = row[0] if row else before.timestamp()
    return disagreement(server, before.timestamp(), after.timestamp())


def disagreement(server: float, before: float, after: float) -> tuple[str, ...]:
    """Return a sentence if `server` is more than TOLERANCE before `before` or after `after`; all in s since 1970."""
    off = server - min(max(server, before), after)
    if abs(off) <= TOLERANCE.total_seconds():
        return ()
    side = "ahead of" if off > 0 else "behind"
    return (
        f"the server's clock is {formatting.age(timedelta(seconds=abs(off)))} {side} this machine's: set both by the same time server",
    )
