"""A recovery that is killed with -9 and started again until it ends, for tests; and what it has left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from tests.command import Command, Result

_POLL = 0.01


@dataclass(frozen=True)
class Killed:
    """The last run, and how many runs before it were killed."""

    last: Result
    kills: int


def run_through_kills(refnet: Command, arguments: Sequence[str | Path], moments: Iterable[float]) -> Killed:
    """Run `refnet ARGUMENTS`, kill it with -9 after each of `moments` (seconds), and let the last run end.

    A run that ends before its moment was the last one.
    """
    kills = 0
    for seconds in moments:
        run = refnet.start_alone(*arguments)
        end = time.monotonic() + seconds
        while run.process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL)
        if run.process.poll() is not None:
            return Killed(run.end(), kills)
        run.send(signal.SIGKILL)
        run.end()
        kills += 1
    return Killed(refnet(*arguments), kills)


def previous_versions(server: str, *folders: Path) -> list[str]:
    """Previous versions and copies that restores have left: databases of `server` (a conninfo), and work folders."""
    with psycopg.connect(server, autocommit=True) as session:
        rows = session.execute(
            "SELECT datname::text FROM pg_database WHERE datname ~ '_(before|copy)_[0-9]{8}_' ORDER BY 1"
        )
        databases = [name for (name,) in rows]
    hidden = [str(path) for folder in folders for path in folder.rglob(".refnet-*-20*") if path.is_dir()]
    return [*databases, *hidden]
