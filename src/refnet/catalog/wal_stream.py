"""The stream of WAL from a server, as its receiver reports it once a second; and what the monitor says of it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from refnet.catalog import wal
from refnet.core import checked
from refnet.core.records import Layout, Rare, Record

#: The largest report, in bytes.
LONGEST = 16 << 10
_WORDS = checked.text(2000)
_LSN = checked.integer(0, wal.LAST)


class StreamState(StrEnum):
    """What a receiver does."""

    STREAMING = "streaming"
    #: The server does not answer, or refuses; the receiver tries again.
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True)
class StreamReport(Record):
    """The report of a receiver."""

    LAYOUT = Layout("the report of a receiver of WAL", longest=LONGEST, more=True, format=1, reads="format 1")

    state: StreamState
    #: When it was written.
    at: datetime
    #: Process id of the receiver.
    pid: Annotated[int, checked.integer(1, 1 << 31)]
    timeline: Annotated[int, checked.integer(1, wal.LAST_TIMELINE)]
    #: Where the server's WAL and the WAL on this disk ended when the server was asked last.
    server_lsn: Annotated[int, _LSN]
    received_lsn: Annotated[int, _LSN]
    #: Each commit that the server acknowledged before this moment is on this disk; None: never known.
    received_until: datetime | None = None
    #: The server's replication slot, and what the server says of it: reserved, extended, unreserved or lost.
    slot: Annotated[str, checked.text(63)] = ""
    slot_status: Rare[Annotated[str, checked.text(40)]] = ""
    #: Bytes of WAL that the server can still write before it drops what this receiver needs; None: no limit is set.
    slot_left: Annotated[int, checked.integer(-(1 << 62), 1 << 62)] | None = None
    #: Why it waits; two lines. "": it does not.
    message: Rare[Annotated[str, _WORDS]] = ""
    hint: Rare[Annotated[str, _WORDS]] = ""

    @property
    def lag_bytes(self) -> int:
        """Bytes of WAL that were not on this disk when the server was asked last."""
        return max(0, self.server_lsn - self.received_lsn)

    def lag(self, now: datetime) -> timedelta | None:
        """The greatest age of an acknowledged commit that is not on this disk; None: never known."""
        return max(timedelta(0), now - self.received_until) if self.received_until else None
