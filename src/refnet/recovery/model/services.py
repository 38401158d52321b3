"""The interface of services, which a recovery starts."""

from collections.abc import Sequence
from typing import Protocol

from refnet.errors import RefnetError
from refnet.recovery.model.clock import Clock

_PAUSE_SECONDS = 0.5


class Services(Protocol):
    """Starts services. Both calls raise RefnetError for what a user can cause."""

    def start(self, names: Sequence[str]) -> None:
        """Start each of `names` that does not run."""

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of `names` that are not up yet."""


def wait_for(services: Services, names: Sequence[str], seconds: float, clock: Clock) -> None:
    """Wait until all of `names` are up; RefnetError with those that are not after `seconds`."""
    until = clock.monotonic() + seconds
    while waiting := services.waiting(names):
        if clock.monotonic() >= until:
            raise RefnetError(
                f"{', '.join(waiting)} did not come up within {seconds:.0f} s",
                "Check the logs of these services, then retry.",
            )
        clock.sleep(_PAUSE_SECONDS)
