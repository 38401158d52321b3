"""The lines of one run in the log of backups and drills; the log is not trusted."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explained, open_file
from refnet.core.formatting import plain

#: Limits: lines of a run, characters of a line, bytes searched at the end of a file.
MOST, LONGEST, SEARCHED = 500, 2000, 16 << 20
#: The values that the page shows elsewhere and that lines do not repeat.
_KNOWN = {"run", "what", "source", "event", "level", "timestamp"}


@dataclass(frozen=True)
class Line:
    """One line of printable text."""

    #: The time as in the log, in UTC; "": none.
    time: str
    level: str
    #: The event and its values.
    text: str


def lines_of(folder: Path | None, run: str) -> tuple[Line, ...]:
    """Return the last lines of the run with the id `run`, including the last rotated file.

    folder: log.folder. RefnetError if it is not set, or a file cannot be read.
    """
    if not folder:
        raise RefnetError("no log is written", "Set log.folder.")
    found: deque[Line] = deque(maxlen=MOST)
    for name in ("refnet-backup.log.1", "refnet-backup.log"):
        for line in _end_of(folder / name).split(b"\n"):
            if run.encode() in line:
                with suppress(ValueError):
                    values = checked.document(line, 64 << 10)
                    if values.get("run") == run:
                        found.append(_line(values))
    return tuple(found)


def _end_of(path: Path) -> bytes:
    with explained(path):
        try:
            handle = open_file(path)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(handle, SEARCHED, max(0, os.fstat(handle).st_size - SEARCHED))
        finally:
            os.close(handle)


def _line(values: dict[str, Any]) -> Line:
    time, level = (plain(str(values.get(key, ""))[:50]) for key in ("timestamp", "level"))
    others = " ".join(f"{key}={value}" for key, value in values.items() if key not in _KNOWN)
    return Line(time, level, plain(f"{values.get('event', '')} {others}".strip())[:LONGEST])
