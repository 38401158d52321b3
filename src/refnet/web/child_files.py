"""The files of a child in `REFNET_HOME/web`: its start, last step and end. Each is checked when read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from refnet.core import checked
from refnet.core.formatting import plain, utf8
from refnet.core.records import Layout, Most, Record

#: The suffixes of a child's files: start, lock, result, messages, last step, end, request to stop.
STARTED, LOCK, RESULT, MESSAGES, STEP, END, STOP = ".json", ".lock", ".out", ".err", ".step", ".end", ".stop"
#: Size limits of small files, results and kept messages, in bytes.
SMALL, LONGEST_RESULT, LONGEST_MESSAGES = 64 << 10, 1 << 20, 512 << 10
#: An id: the start in UTC, so that names sort by time, and a random part.
ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}", re.ASCII)
#: The longest line of an error, in characters.
_LINE = 2000
_ERROR = re.compile(r"^refnet: (?!note: |warning: )(.+)\n {8}(.+)$", re.MULTILINE)
_Count = Annotated[int, checked.integer(0, 1 << 63)]
_Text = Annotated[str, checked.text(300, errors="strict")]


@dataclass(frozen=True)
class Started(Record):
    """The record of a child's start."""

    LAYOUT = Layout(longest=SMALL)

    #: The command: backup, verify, drill, restore, undo, …
    kind: Annotated[str, checked.text(20, like="[a-z]+")]
    #: The source of the run; "": all.
    source: Annotated[str, checked.text(200, errors="strict")]
    title: _Text
    #: The command line after `refnet`.
    words: Annotated[tuple[Annotated[str, checked.text(4096, errors="strict")], ...], Most(100)]
    #: With a time zone.
    started: datetime
    #: A key that no two running children share; "": none.
    exclusive: _Text


@dataclass(frozen=True)
class Reported(Record):
    """A line of REFNET_PROGRESS=json."""

    LAYOUT = Layout(longest=SMALL)

    step: Annotated[str, checked.text(1000, errors="strict")]
    #: Bytes or items: done so far, total (None: unknown).
    done: _Count
    total: _Count | None


@dataclass(frozen=True)
class Step(Record):
    """The last step that a child reported, and its time (with a time zone)."""

    LAYOUT = Layout(longest=SMALL)

    report: Reported
    at: datetime


@dataclass(frozen=True)
class End(Record):
    """The end of a child."""

    LAYOUT = Layout(longest=SMALL)

    #: The exit code; negative: the signal that ended the child.
    code: Annotated[int, checked.integer(-64, 255)]
    #: The duration, in seconds.
    seconds: Annotated[float, checked.seconds]


def last_error(messages: str) -> tuple[str, str] | None:
    """Return the two lines of the last error that `refnet` printed on stderr; None if there is none."""
    if found := _ERROR.findall(messages):
        reason, advice = found[-1]
        return plain(reason)[:_LINE], plain(advice)[:_LINE]
    return None


def result(text: str | bytes) -> dict[str, Any]:
    """Parse the JSON document that a command printed; ValueError if it is malformed.

    Undecodable bytes of names become question marks, as pages are in UTF-8.
    """
    try:
        return checked.document(utf8(json.dumps(checked.document(text), ensure_ascii=False)))
    except RecursionError:
        raise ValueError("too many levels") from None
