"""The third seam: what a recovery does with the services that the settings list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from refnet.errors import RefnetError


class Services(Protocol):
    """Starts services and says which are not up yet. Both calls raise RefnetError for what a user can cause."""

    def start(self, names: Sequence[str]) -> None:
        """Start each of `names`; one that runs already is left as it is."""
        ...

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of `names` that are not up yet; empty: all stand."""
        ...


def wait_for(
    services: Services,
    names: Sequence[str],
    seconds: float,
    *,
    clock: Callable[[], float],
    pause: Callable[[], None],
) -> None:
    """Return when all of `names` are up; RefnetError with those that are not after `seconds`.

    `pause` passes the time between two looks.
    """
    until = clock() + seconds
    while waiting := services.waiting(names):
        if clock() >= until:
            raise RefnetError(
                f"{', '.join(waiting)} did not come up within {seconds:.0f} s",
                "Look into its own log.",
            )
        pause()
