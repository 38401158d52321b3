"""The files of a child in `REFNET_HOME/web`: what was started, its last step, its end. Each is checked when it is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from refnet.core import checked
from refnet.core.formatting import plain, utf8
from refnet.core.records import Layout, Most, Record

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
_Count = Annotated[int, checked.integer(0, 1 << 63)]
_Text = Annotated[str, checked.text(300, errors="strict")]


@dataclass(frozen=True)
class Started(Record):
    """What was started."""

    LAYOUT = Layout(longest=SMALL)

    #: The command: backup, verify, drill, restore, undo, …
    kind: Annotated[str, checked.text(20, like="[a-z]+")]
    #: The source that it is about; "": all.
    source: Annotated[str, checked.text(200, errors="strict")]
    title: _Text
    #: The command line after `refnet`.
    words: Annotated[tuple[Annotated[str, checked.text(4096, errors="strict")], ...], Most(100)]
    #: Aware.
    started: datetime
    #: The key that two running children never share; "": none.
    exclusive: _Text


@dataclass(frozen=True)
class Reported(Record):
    """A line of REFNET_PROGRESS=json."""

    LAYOUT = Layout(longest=SMALL)

    step: Annotated[str, checked.text(1000, errors="strict")]
    #: Bytes or things that are done, and in all (None: unknown).
    done: _Count
    total: _Count | None


@dataclass(frozen=True)
class Step(Record):
    """The last step that a child reported, and when (aware)."""

    LAYOUT = Layout(longest=SMALL)

    report: Reported
    at: datetime


@dataclass(frozen=True)
class End(Record):
    """The end of a child."""

    LAYOUT = Layout(longest=SMALL)

    #: The exit code; negative: the signal that ended it.
    code: Annotated[int, checked.integer(-64, 255)]
    #: Its duration.
    seconds: Annotated[float, checked.seconds]


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
