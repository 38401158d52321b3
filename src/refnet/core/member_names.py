"""Check the names of members and the targets of links; escape names for messages.

A path here is relative, decoded by `os.fsdecode`, with `/` between its parts and neither `.` nor `..`. The folder
itself is `.`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

MAX_PATH = 4096
MAX_PART = 255
MAX_DEPTH = 256
#: Longer names are refused unread.
_MAX_RAW = 4 * MAX_PATH


class ArchiveError(Exception):
    """An archive, or its list of files, is damaged or hostile; the message names the member and the reason."""


def checked(raw: bytes) -> str:
    """Return the path for the member name `raw`. ArchiveError if it is not a name, or could lead outside."""
    if len(raw) > _MAX_RAW:
        raise ArchiveError(f"{show(os.fsdecode(raw[:MAX_PATH]))} has a name that is too long or too deep")
    parts = raw.split(b"/")
    if raw.startswith(b"/"):
        raise ArchiveError(f"{show(os.fsdecode(raw))} has an absolute name")
    if b".." in parts:
        raise ArchiveError(f"{show(os.fsdecode(raw))} leads out of its folder ('..')")
    if b"\0" in raw or not raw:
        raise ArchiveError(f"{show(os.fsdecode(raw))!r} is not a name")
    if len(raw) > MAX_PART and (
        len(raw) > MAX_PATH or len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_PART
    ):
        raise ArchiveError(f"{show(os.fsdecode(raw))} has a name that is too long or too deep")
    if b"" in parts or b"." in parts:
        raw = b"/".join(part for part in parts if part not in (b"", b"."))
    return os.fsdecode(raw) or "."


def leads_inside(path: str, target: str) -> bool:
    """Return True if the link `path` to `target` stays in the archive's folder, whatever its other links are.

    `..` is allowed only at the front, and not more often than the link is deep: the link's parents are real folders,
    so these steps go up; every later step goes down, or to a link with the same restriction.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return ".." not in parts[up:] and up <= path.count("/")


def show(path: str, limit: int = 120) -> str:
    """Return `path` for one line of a message: control characters and bytes that are not UTF-8 are escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shown_path(path: Path) -> str:
    """Return `path` with control characters escaped."""
    return show(str(path), MAX_PATH)


def spelled(path: str) -> str:
    """Return `path` unchanged for JSON, which escapes by itself; escaped if its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return show(path, MAX_PATH * 4)
    return path


def some(paths: Iterable[str], limit: int = 5) -> str:
    """Return the first few of `paths` for a message, and the count of the others."""
    shown = [show(path) for path in paths]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def parent(path: str) -> str:
    """Return the folder of `path`; that of a top entry is `.`."""
    return path.rpartition("/")[0] or "."
