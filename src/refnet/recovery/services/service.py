"""The interface of services, which a recovery starts."""

from collections.abc import Callable, Sequence
from typing import Protocol

from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.formatting import plain

_PAUSE_SECONDS = 0.5
#: The end of a log in a message: at most so many lines, of at most so many characters.
LOG_LINES, _LOG_WIDTH = 5, 160
#: So many services are explained in one message.
_EXPLAINED = 3


class Services(Protocol):
    """Starts services. All calls raise RefnetError for what a user can cause."""

    def start(self, names: Sequence[str]) -> None:
        """Start each of `names` that does not run."""

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of `names` that are not up yet."""

    def why(self, name: str) -> str:
        """Return what is known of the service `name`, which is not up: its state, and the end of its log."""


def wait_for(services: Services, names: Sequence[str], seconds: float, clock: Clock) -> None:
    """Wait until all of `names` are up; RefnetError with those that are not after `seconds`."""
    until = clock.monotonic() + seconds
    while waiting := services.waiting(names):
        if clock.monotonic() >= until:
            raise not_up(services, waiting, seconds)
        clock.sleep(_PAUSE_SECONDS)


def not_up(services: Services, waiting: Sequence[str], seconds: float) -> RefnetError:
    """Return the error for the services `waiting`, which are not up after `seconds`: each with what is known of it."""
    known = "; ".join(f"{name} {services.why(name)}" for name in waiting[:_EXPLAINED])
    return RefnetError(
        f"{', '.join(waiting)} did not come up within {seconds:.0f} s: {known}",
        "Fix the error in the log, then retry. The time limit is recover.seconds in the settings.",
    )


def log_end(text: str, hide: Callable[[str], str]) -> str:
    """Return the last lines of the log `text` as one line, without secrets and control characters."""
    lines = [plain(line.strip()) for line in hide(text).splitlines() if line.strip()][-LOG_LINES:]
    return " | ".join(line if len(line) <= _LOG_WIDTH else f"{line[: _LOG_WIDTH - 1]}…" for line in lines)
