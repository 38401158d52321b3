"""How much a run prints, decided in one place."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refnet.core.errors import RefnetError
from refnet.core.formatting import plain, seconds

if TYPE_CHECKING:  # `refnet --help` does not wait for it
    from refnet.catalog.artifact import Progress

#: The details of a run: programs, servers, phases. Every layer writes to it, and --verbose prints it.
_log = logging.getLogger("refnet.detail")
#: What a run waits for, as `store.buckets.announced` says.
_waiting = logging.getLogger("refnet.waiting")
#: Seconds between two lines of progress of the same steps.
_APART = 0.25


@dataclass
class Output:
    """The options -q, -v, --json and --config of this run."""

    #: Print only errors, warnings that need action, and what was asked for.
    quiet: bool = False
    #: Print also phases, programs, servers and checks.
    verbose: bool = False
    #: The result is one JSON document on stdout.
    json: bool = False
    #: The variable of the settings file that --config names; empty without it.
    variables: dict[str, str] = field(default_factory=dict)

    def reset(self) -> None:
        self.quiet = self.verbose = self.json = False
        _log.handlers.clear()
        _log.setLevel(logging.NOTSET)
        _waiting.handlers[:], _waiting.propagate = [_Details()], False
        _waiting.setLevel(logging.INFO)

    def print_details(self) -> None:
        """Print the details of this run on stderr."""
        self.verbose, _log.propagate = True, False
        _log.handlers[:] = [_Details()]
        _log.setLevel(logging.DEBUG)

    @property
    def has_progress(self) -> bool:
        """Whether a progress line is shown: only on a terminal, not with --json, --quiet or --verbose."""
        return sys.stderr.isatty() and not (self.quiet or self.verbose or self.json)


class _Details(logging.Handler):
    """Prints each different detail once."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name == _waiting.name and output.quiet:
            return
        if text not in self._printed:
            self._printed.add(text)
            print(f"refnet: {plain(text)}", file=sys.stderr)


class StepLines:
    """A Progress that prints JSON on stderr at each new step and 4 times a second, and forwards to `also`."""

    def __init__(self, also: Progress) -> None:
        self._also = also
        self._lock = threading.Lock()  # sources report from each worker thread
        self._steps: set[str] = set()
        self._printed = 0.0

    def __call__(self, step: str, done: int, total: int | None) -> None:
        self._also(step, done, total)
        with self._lock:
            now = time.monotonic()
            if step in self._steps and now - self._printed < _APART:
                return
            self._steps.add(step)
            self._printed = now
            with suppress(OSError):  # the reader has left, and the run continues
                unit = {"unit": one} if (one := getattr(step, "unit", "")) else {}
                sys.stderr.write(json.dumps({"step": step, "done": done, "total": total, **unit}) + "\n")
                sys.stderr.flush()


output = Output()


def say(text: str = "", *, flush: bool = False) -> None:
    """Print results unless the run is quiet."""
    if not output.quiet:
        print(text, flush=flush)


@contextmanager
def steps(title: str) -> Iterator[Progress]:
    """Log each step and its seconds as a detail when the next step begins."""
    begun: dict[str, float] = {}
    lock = threading.Lock()  # sources report from each worker thread

    def end() -> None:
        if begun:
            step, at = [*begun.items()][-1]
            _log.debug("%s: %s took %s", title, step, seconds(time.monotonic() - at))

    def report(step: str, _done: int, _total: int | None) -> None:
        with lock:
            if step not in begun:
                end()
                begun[step] = time.monotonic()

    yield report
    end()


def complain(error: RefnetError) -> None:
    """Print a failure in its two lines, with control characters escaped."""
    print(f"refnet: {plain(error.message)}\n        {plain(error.hint)}", file=sys.stderr)
