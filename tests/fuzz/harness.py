"""What every reader is held to: a value or one clear error, in bounded time and memory.

The profile `suite` is small and always the same; `fuzz` (`./dev fuzz`) is large and different each time.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings

from refnet.core.errors import RefnetError
from refnet.core.formatting import plain

#: What one example may take: seconds of CPU (a busy machine costs none), and bytes beyond what the process has.
SECONDS = 2.0
MEMORY = 512 << 20
#: Characters of a message, where it repeats nothing of what was read, and where it repeats what a person typed.
LONGEST = 2000
ECHO = 200_000

_COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
settings.register_profile(
    "suite",
    _COMMON,
    max_examples=60,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
settings.register_profile("fuzz", _COMMON, max_examples=20_000)
_IN_FORCE = settings(settings.get_profile(os.environ.get("FUZZ_PROFILE", "suite")))
_large = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of an example that failed

_Value = TypeVar("_Value")
_Test = TypeVar("_Test", bound=Callable[..., None])


def fuzzed(test: _Test) -> _Test:
    """Mark a test that reads as many examples as the profile in force says."""
    return cast(_Test, _large(_IN_FORCE(test)))


class TooSlow(BaseException):  # no reader may take it for an error of its own
    """An example took more than SECONDS."""


@contextmanager
def bounded() -> Iterator[None]:
    """A block that may take SECONDS of CPU and MEMORY; TooSlow or MemoryError where it takes more."""
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    old = signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
        signal.signal(signal.SIGPROF, old)


def _too_slow(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TooSlow(f"more than {SECONDS:g} s of CPU")


def outcome(
    read: Callable[[], _Value], *documented: type[Exception], longest: int = LONGEST
) -> _Value | None:
    """What `read` gives; None where it raises a RefnetError or what it says that it raises, which must be clear.

    `longest`: characters of a message.
    """
    with bounded():
        try:
            return read()
        except RefnetError as error:
            assert_told(error.message, longest)
            assert_told(error.hint, longest)
        except documented as error:
            assert_told(str(error), longest)
    return None


def assert_told(text: str, longest: int) -> None:
    """A message that says something, and that a terminal, a log and a file take once it is made plain."""
    assert 0 < len(text) <= longest, len(text)
    assert plain(text).isprintable()
