"""The files of a child in `REFNET_HOME/web`: what was started, its last step, its end. Each is checked when it is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refnet.core import checked
from refnet.core.formatting import plain, utf8

#: The endings of the names of a child's files: what was started, its lock, its result, its messages, its last step, its
#: end, and the wish to stop it.
STARTED, LOCK, RESULT, MESSAGES, STEP, END, STOP = ".json", ".lock", ".out", ".err", ".step", ".end", ".stop"
#: The most bytes of the small files, of a result, and of the messages that are kept.
SMALL, LONGEST_RESULT, LONGEST_MESSAGES = 64 << 10, 1 << 20, 512 << 10
#: An id: the moment of the start in UTC, so that names sort by it, and a random part.
ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}", re.ASCII)
#: The characters of a line of an error at most.
_LINE = 2000
_ERROR = re.compile(r"^refnet: (?!note: |warning: )(.+)\n {8}(.+)$", re.MULTILINE)
_WORD = checked.text(4096, errors="strict")
_COUNT = checked.integer(0, 1 << 63)
_STARTED = checked.record(
    {
        "kind": checked.text(20, like="[a-z]+"),
        "source": checked.text(200, errors="strict"),
        "title": checked.text(300, errors="strict"),
        "words": checked.each(_WORD, 100),
        "started": checked.moment,
        "exclusive": checked.text(300, errors="strict"),
    }
)
_REPORTED = checked.record(
    {"step": checked.text(1000, errors="strict"), "done": _COUNT, "total": checked.or_none(_COUNT)}
)
_STEP = checked.record({"report": _REPORTED, "at": checked.moment})
_END = checked.record({"code": checked.integer(-64, 255), "seconds": checked.seconds})


@dataclass(frozen=True)
class Step:
    """The last step that a child reported."""

    step: str
    #: Bytes or things that are done, and in all (None: unknown).
    done: int
    total: int | None
    #: When it was reported, aware.
    at: datetime


@dataclass(frozen=True)
class End:
    """The end of a child."""

    #: The exit code; negative: the signal that ended it.
    code: int
    #: Its duration.
    seconds: float


def last_error(messages: str) -> tuple[str, str] | None:
    """Return the two lines of the last error that `refnet` printed on stderr; None: it printed none."""
    if found := _ERROR.findall(messages):
        reason, advice = found[-1]
        return plain(reason)[:_LINE], plain(advice)[:_LINE]
    return None


def result(text: str | bytes) -> dict[str, Any]:
    """Read the document that a command printed; ValueError if it is malformed.

    What is not UTF-8 in names becomes question marks, as pages are UTF-8.
    """
    try:
        return checked.document(utf8(json.dumps(checked.document(text), ensure_ascii=False)))
    except RecursionError:
        raise ValueError("too many levels") from None


def started(values: object) -> dict[str, Any]:
    """Check what was started: kind, source, title, words, started, exclusive; ValueError if it is malformed."""
    found: dict[str, Any] = _STARTED(values)
    return found


def reported(line: bytes) -> dict[str, Any]:
    """Read a line of REFNET_PROGRESS=json; ValueError for any other line."""
    found: dict[str, Any] = _REPORTED(checked.document(line, SMALL))
    return found


def step(text: bytes) -> Step:
    """Read a last step; ValueError if it is malformed."""
    values = _STEP(checked.document(text, SMALL))
    return Step(**values["report"], at=values["at"])


def end(text: bytes) -> End:
    """Read an end; ValueError if it is malformed."""
    return End(**_END(checked.document(text, SMALL)))
