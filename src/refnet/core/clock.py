"""The clock of a run: time of day, durations, waiting, the zone of local times, seconds per phase."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo


def utc_now() -> datetime:
    """Return the time of this machine, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """The clock of this machine; tests bring their own."""

    #: The time of day with its time zone, for records.
    now: Callable[[], datetime] = utc_now
    #: Seconds of a monotonic clock, for durations.
    monotonic: Callable[[], float] = time.perf_counter
    #: Wait for some seconds.
    sleep: Callable[[float], None] = time.sleep
    #: The zone of local times; None: the machine's.
    zone: tzinfo | None = None

    def local(self) -> datetime:
        """Return the time in `zone`."""
        return self.now().astimezone(self.zone)


def rounded(taken: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each phase, rounded to milliseconds."""
    return {phase: round(each, 3) for phase, each in taken.items()}


class Phases:
    """Seconds by phase, in order; a phase that fails counts as well."""

    def __init__(
        self, clock: Callable[[], float], begins: Callable[[str], None] = lambda _name: None
    ) -> None:
        """`begins` is called with the name of each phase that begins."""
        self.seconds: dict[str, float] = {}
        self._clock, self._begins = clock, begins

    @property
    def last(self) -> str:
        """The phase that ended last."""
        return next(reversed(self.seconds))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = self._clock()
        self._begins(name)
        try:
            yield
        finally:
            self.seconds[name] = self._clock() - began
