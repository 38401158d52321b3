"""Seconds of the phases of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Phases:
    """Seconds by phase, in order; a phase that fails counts as well."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock

    @property
    def last(self) -> str:
        """The phase that ended last."""
        return next(reversed(self.seconds))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self._clock() - began
