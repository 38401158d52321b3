"""The stream of WAL from a server, as its receiver reports it once a second; and what the monitor says of it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from refnet.catalog import wal
from refnet.catalog.wal import Fork, lsn_text
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.records import Layout, Rare, Record

#: The largest report, in bytes.
LONGEST = 16 << 10
_WORDS = checked.text(2000)
_LSN = checked.integer(0, wal.LAST)
_LONGEST_SKEW = 1e9


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not -_LONGEST_SKEW < value < _LONGEST_SKEW:
        raise ValueError("not a number of seconds")
    return float(value)


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
    #: Each commit that the server acknowledged before this moment of its clock is on this disk; None: never known.
    received_until: datetime | None = None
    #: Seconds by which the server's clock is ahead of this machine's.
    ahead: Rare[Annotated[float, _seconds]] = 0.0
    #: The server's replication slot, and what the server says of it: reserved, extended, unreserved or lost.
    slot: Annotated[str, checked.text(63)] = ""
    slot_status: Rare[Annotated[str, checked.text(40)]] = ""
    #: Bytes of WAL that the server can still write before it drops what this receiver needs; None: no limit is set.
    slot_left: Annotated[int, checked.integer(-(1 << 62), 1 << 62)] | None = None
    #: Why it waits; two lines. "": it does not.
    message: Rare[Annotated[str, _WORDS]] = ""
    hint: Rare[Annotated[str, _WORDS]] = ""

    def waiting(self, at: datetime, error: RefnetError) -> StreamReport:
        """The report of a receiver that cannot receive; what was received stays as it was."""
        return replace(self, state=StreamState.WAITING, at=at, message=error.message, hint=error.hint)

    @property
    def lag_bytes(self) -> int:
        """Bytes of WAL that were not on this disk when the server was asked last."""
        return max(0, self.server_lsn - self.received_lsn)

    def lag(self, now: datetime) -> timedelta | None:
        """The greatest age of an acknowledged commit that is not on this disk; None: never known."""
        if self.received_until is None:
            return None
        return max(timedelta(0), now + timedelta(seconds=self.ahead) - self.received_until)


class Course(StrEnum):
    """How the stream of a server goes on in an archive."""

    CONTINUE = "continue"
    #: The server forked before what this machine has: that is kept as it is, and the new timeline begins.
    BRANCH = "branch"


def course(
    *, ours: int, begins: int, received: int, timeline: int, history: Sequence[Fork], server_lsn: int
) -> Course:
    """How to go on; ValueError with the reason if the server does not continue what this machine has.

    Args:
        ours: the timeline of the newest segment on this machine.
        begins: position at which the receiver would ask for WAL of `ours` again.
        received: where the WAL on this machine ends.
        timeline, history, server_lsn: of the server, now.
    """
    if timeline == ours:
        if server_lsn < received:
            raise ValueError(
                f"its WAL ends at {lsn_text(server_lsn)} of timeline {timeline}, and {lsn_text(received)} was received before"
            )
        return Course.CONTINUE
    fork = next((one for one in history if one.timeline == ours), None)
    if fork is None:
        raise ValueError(f"its timeline {timeline} does not come from {ours}, which was received before")
    return Course.CONTINUE if fork.lsn >= begins else Course.BRANCH
