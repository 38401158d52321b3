"""The moments that the WAL of a cluster reaches, as a form offers them and takes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

from refnet.catalog.recovery_target import parse_moment
from refnet.catalog.wal_status import StreamStatus
from refnet.core.errors import Exit, RefnetError

#: The most days of a window at which its offset is looked at: clocks change far less often than every tenth of one.
_LOOKS = 400


@dataclass(frozen=True)
class Window:
    """The moments that can be restored exactly; their times are in UTC, as times of one zone compare without offsets."""

    begin: datetime
    end: datetime
    #: Of the pages; None: this machine's.
    zone: tzinfo | None

    @classmethod
    def of(cls, stream: StreamStatus | None, zone: tzinfo | None) -> Self | None:
        """The window of `stream`; None: no moment can be restored."""
        if stream is None or stream.window is None:
            return None
        begin, end = (one.astimezone(UTC) for one in stream.window)
        return cls(begin, end, zone) if begin <= end else None

    @property
    def first(self) -> datetime:
        """The first whole second."""
        whole = self.begin.replace(microsecond=0)
        return (whole if whole == self.begin else whole + timedelta(seconds=1)).astimezone(self.zone)

    @property
    def last(self) -> datetime:
        """The last whole second."""
        return self.end.replace(microsecond=0).astimezone(self.zone)

    @property
    def offsets(self) -> tuple[str, ...]:
        """The offsets from UTC that the zone has in the window, such as `+09:00`."""
        step = max(timedelta(days=1), (self.end - self.begin) / _LOOKS)
        looks = (self.begin + step * n for n in range(int((self.end - self.begin) / step) + 1))
        return tuple(sorted({_offset(one.astimezone(self.zone)) for one in (*looks, self.end)}))

    @property
    def bounds(self) -> tuple[str, str] | None:
        """The first and the last moment as a field without offset takes them; None: clocks were put back between."""
        first, last = (one.replace(tzinfo=None).isoformat() for one in (self.first, self.last))
        return (first, last) if first <= last else None

    def moment(self, at: str, offset: str) -> datetime:
        """The moment that a form asks for; RefnetError (USAGE) if it is none, is ambiguous, or is outside.

        Args:
            at: an ISO date-time; with an offset, `offset` does not count.
            offset: such as `+09:00`; "": the one of that moment.
        """
        try:
            has_zone = datetime.fromisoformat(at).tzinfo is not None
        except ValueError:
            has_zone = False
        found = parse_moment(at if has_zone else at + offset, self.zone).astimezone(UTC)
        local = found.astimezone(self.zone)
        if self.begin <= found <= self.end:
            return local
        when = "earlier than the first" if found < self.begin else "later than the last"
        raise RefnetError(
            f"{shown(local)} is {when} moment that can be restored",
            f"The first one is {shown(self.first)}, the last one {shown(self.last)}.",
            Exit.USAGE,
        )


def shown(moment: datetime) -> str:
    """A moment with seconds and its numeric offset, as the command line takes it."""
    return moment.isoformat(" ", "seconds")


def _offset(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")[19:25]
