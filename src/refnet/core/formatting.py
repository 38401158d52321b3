"""Sizes, durations, ages and names for people."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from refnet.core.errors import RefnetError

_PLAIN_NAME = re.compile("[a-z_][a-z0-9_]*")
_RESERVED_WORDS = """
all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct
do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit
localtime localtimestamp none not null offset on only or order placing primary public references returning select
session_user some symmetric system_user table then to trailing true union unique user using variadic when where window
with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
#: Name of a phase in reports → name in text, where they differ.
_PHASES = {"exchange": "swap"}


def local(moment: datetime) -> str:
    """Format a moment in the machine's local time, with its zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def size(count: float) -> str:
    """Format bytes in binary units: 1536 → 1.5 KiB."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if abs(count) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def seconds(count: float) -> str:
    """Format a duration in seconds: 0.04 → 0.04 s, 75 → 1 min 15 s."""
    if count < 0.005:
        return "under 0.01 s"
    if count < 1:
        return f"{count:.2f} s"
    if count < 60:
        return f"{count:.1f} s"
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def old(span: timedelta) -> str:
    """Format an age as `3 d old`; a negative one as `3 d ahead of this clock`."""
    return f"{age(-span)} ahead of this clock" if span < timedelta(0) else f"{age(span)} old"


def age(span: timedelta) -> str:
    """Format an age in at most two units; a negative age ends with `ahead`."""
    if span < timedelta(0):
        return f"{age(-span)} ahead"
    minutes = int(span.total_seconds()) // 60
    if minutes < 1:
        return "under 1 min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{minutes // 1440} d"


def plural(count: int, word: str) -> str:
    """Format a count with its noun: 1 table, 2 tables; 1,234 rows."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def compared(count: int, equal: int) -> str:
    """Format the result of `count` comparisons with a backup."""
    wrong = f"{count - equal} differ or could not be verified" if count > equal else "no differences"
    return f"compared: {plural(count, 'item')}, {wrong}"


def some(names: Sequence[str], most: int = 10) -> str:
    """List the first `most` of `names`, and count the others."""
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} more" if others > 0 else "")


def plain(text: str) -> str:
    """Escape every character of `text` that cannot be printed, line ends too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_text(data: bytes, most: int) -> str | None:
    """Decode the first `most` bytes, where a character may be cut; None: they are not text in UTF-8."""
    try:
        text = getincrementaldecoder("utf-8")().decode(data[:most], final=len(data) <= most)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def utf8(text: str) -> str:
    """Replace lone surrogates (undecodable bytes of names) by question marks, so that `text` is valid UTF-8."""
    return text.encode("utf-8", "replace").decode()


def sql_name(name: str) -> str:
    """Quote the name of a role, database or tablespace for SQL, if necessary."""
    plain_one = _PLAIN_NAME.fullmatch(name) and name not in _RESERVED
    return name if plain_one else '"' + name.replace('"', '""') + '"'


def left_out(details: Mapping[str, Any]) -> str:
    """Format the number of files and folders that `exclude` left out, by a manifest's details; "" if none."""
    found = details.get("excluded") or {}
    files, folders = found.get("files", 0), found.get("folders", 0)
    counts = [f"{plural(files, 'file')} ({size(found['bytes'])})"] if files else []
    counts += [plural(folders, "folder")] if folders else []
    return f"exclude left out {' and '.join(counts)}" if counts else ""


def replaced(at: datetime, artifact: str, *, undone: bool) -> str:
    """Format when a previous version was replaced, and by which restore or undo."""
    return f"{local(at)}, when {'an undo of ' if undone else ''}the restore of {artifact} replaced it"


def phases(taken: Mapping[str, float]) -> str:
    """Return the time of each phase as text."""
    return ", ".join(f"{_PHASES.get(phase, phase)} {seconds(each)}" for phase, each in taken.items())


def noted(notes: Iterable[str], problems: Iterable[RefnetError] = ()) -> Iterator[str]:
    """The notes and the problems of a plan as text."""
    for note in notes:
        yield f"note: {plain(note)}"
    for problem in problems:
        yield f"problem: {plain(problem.message)}"
        yield f"         {plain(problem.hint)}"
