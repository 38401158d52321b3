"""What a member of an archive may be called, where a link may lead, and how a message shows a name.

A path here is what `os.fsdecode` makes of its bytes: relative, `/` between its parts, no `.` and no `..`.
The folder itself is `.`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

MAX_PATH = 4096
MAX_PART = 255
MAX_DEPTH = 256
#: A longer name is not looked at, whatever it would mean.
_MAX_RAW = 4 * MAX_PATH


class ArchiveError(Exception):
    """An archive, or its list of files, that is damaged or hostile; the message names the member and says why."""


def checked(raw: bytes) -> str:
    """The path that the member name `raw` means; ArchiveError where it could lead outside or be no name at all."""
    if len(raw) > _MAX_RAW:
        raise ArchiveError(f"{show(os.fsdecode(raw[:MAX_PATH]))} has a name that is too long or too deep")
    parts = raw.split(b"/")
    if raw.startswith(b"/"):
        raise ArchiveError(f"{show(os.fsdecode(raw))} has an absolute name")
    if b".." in parts:
        raise ArchiveError(f"{show(os.fsdecode(raw))} leads out of its folder ('..')")
    if b"\0" in raw or not raw:
        raise ArchiveError(f"{show(os.fsdecode(raw))!r} is no name")
    if len(raw) > MAX_PART and (
        len(raw) > MAX_PATH or len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_PART
    ):
        raise ArchiveError(f"{show(os.fsdecode(raw))} has a name that is too long or too deep")
    if b"" in parts or b"." in parts:
        raw = b"/".join(part for part in parts if part not in (b"", b"."))
    return os.fsdecode(raw) or "."


def leads_inside(path: str, target: str) -> bool:
    """Whether the link `path` to `target` stays in its folder, whatever the other links of the folder are.

    `..` may only stand at the front, and not more often than the link is deep: its parents are real folders,
    so that these steps are true steps up, and every step after them goes down or meets a link that is as bound.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return ".." not in parts[up:] and up <= path.count("/")


def show(path: str, limit: int = 120) -> str:
    """`path` fit for one line of a message: control characters and bytes that are no UTF-8 escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def spelled(path: str) -> str:
    """`path` as it is, for JSON, which escapes by itself; `show` of it where its bytes are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return show(path, MAX_PATH * 4)
    return path


def some(paths: Iterable[str], limit: int = 5) -> str:
    """The first few of `paths` for a message, and how many more there are."""
    shown = [show(path) for path in paths]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def parent(path: str) -> str:
    """The folder that holds `path`; the folder of a top entry is `.`."""
    return path.rpartition("/")[0] or "."
