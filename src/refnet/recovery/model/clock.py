"""The clock of a run: the time, seconds, waiting, and the zone of local times. Tests bring their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo


def utc_now() -> datetime:
    """Return the time of this machine, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    #: Return the time (aware), for what is recorded.
    now: Callable[[], datetime] = utc_now
    #: Return seconds since some moment, for durations.
    monotonic: Callable[[], float] = time.perf_counter
    #: Wait for some seconds.
    sleep: Callable[[float], None] = time.sleep
    #: The zone of local times; None: the machine's.
    zone: tzinfo | None = None

    def local(self) -> datetime:
        """Return the time in `zone`."""
        return self.now().astimezone(self.zone)
