"""What a command asks of its process: the settings, the time, whether somebody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from refnet import settings as settings_module
from refnet.errors import RefnetError
from refnet.recovery.model.formatting import plain

if TYPE_CHECKING:
    from refnet.recovery.model.source import Progress

_Plan = TypeVar("_Plan")
#: What takes no longer than this shows no progress, in seconds.
_QUIET = 1.0


#: What was told already: a command may ask for the settings more than once.
_warned: set[str] = set()


def current_settings(*, own: bool = True) -> settings_module.Settings:
    """The settings of this process; what is wrong with their files is told on stderr.

    own: refuse a REFNET_HOME of another user, as whatever works in it must.
    """
    settings = settings_module.load(
        os.environ, Path.cwd(), root=os.geteuid() == 0, cores=len(os.sched_getaffinity(0))
    )
    warn(settings.warnings)
    if own:
        from refnet import wiring

        wiring.own_home(settings)
    return settings


def warn(sentences: Iterable[str]) -> None:
    """Tell each of `sentences` on stderr, once in a run."""
    for sentence in sentences:
        if sentence not in _warned:
            _warned.add(sentence)
            print(f"refnet: warning: {sentence}", file=sys.stderr)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


clock = time.perf_counter


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Progress on the terminal, with rate and estimate, of what takes over a second; nothing elsewhere."""
    from refnet.recovery.model.source import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from refnet.cli.progress import Display

    with Display(title, _QUIET) as display:
        yield display


def note(sentence: str) -> None:
    """Tell what went wrong beside the work, which is done all the same."""
    print(f"refnet: note: {plain(sentence)}", file=sys.stderr)


def print_json(values: object) -> None:
    """Print a report as JSON. A name whose bytes are no UTF-8 has escapes in their place."""
    import json

    print(json.dumps(values, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace").decode())


def ends_at_plan(
    planned: _Plan,
    values: Callable[[_Plan], object],
    text: Callable[[_Plan], None],
    *,
    plan: bool,
    as_json: bool,
) -> bool:
    """Show a plan as it was asked for; whether that is all that was asked for (`--plan`)."""
    if plan and as_json:
        print_json(values(planned))
    elif not as_json:
        text(planned)
    return plan


def complain(error: RefnetError) -> None:
    """Tell a failure in its two lines. What it quotes steers no terminal."""
    print(f"refnet: {plain(error.message)}\n        {plain(error.hint)}", file=sys.stderr)
