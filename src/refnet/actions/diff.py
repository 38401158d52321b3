"""diff: compare files or tables of two artifacts, or of an artifact and live data; or the lines of one file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import Any

from refnet.actions import look, unprotected
from refnet.actions.choose import choose_to_read
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import first_text, size
from refnet.core.member_names import show, spelled
from refnet.sources import source_of
from refnet.sources.contents import LIVE, ArtifactDifference

#: Of files that are compared line by line: the most bytes, and lines.
_BYTES, _LINES = 1 << 20, 20_000
#: As `diff -u` says it.
_UNENDED = "\\ No newline at end of file"


@dataclass(frozen=True)
class FileDifference:
    """How one file differs in two artifacts."""

    path: str
    before: str
    after: str
    equal: bool
    #: A unified diff.
    lines: tuple[str, ...] = ()
    #: They differ, and one is not text in UTF-8.
    binary: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "path": spelled(self.path),
            "before": self.before,
            "after": self.after,
            "equal": self.equal,
            "binary": self.binary,
            "lines": list(self.lines),
        }


def diff_file(context: Context, before: str, after: str, path: str) -> FileDifference:
    """Compare the file `path` of two artifacts, as for `diff`, line by line; RefnetError if one has no such file."""
    if after == LIVE:
        raise RefnetError(
            "--file compares a file of two artifacts",
            f"Name the second one; or compare it with a live file: refnet cat {before} PATH | diff - FILE",
            Exit.USAGE,
        )
    (old_name, old_digest, old), (new_name, new_digest, new) = (
        _read(context, one, path) for one in (before, after)
    )
    found = FileDifference(path, old_name, new_name, equal=old_digest == new_digest)
    if found.equal:
        return found
    sides = [_lines(path, one) for one in (old, new)]
    if None in sides:
        return replace(found, binary=True)
    first, second = (one or [] for one in sides)
    lines = unified_diff(first, second, old_name, new_name)
    ended = (line if line.endswith("\n") else f"{line}\n{_UNENDED}\n" for line in lines)
    return replace(found, lines=tuple("".join(ended).removesuffix("\n").split("\n")))


def _read(context: Context, meant: str, path: str) -> tuple[str, str, bytes]:
    """Return the name of an artifact, and digest and first bytes of its file `path`."""
    with look.content(context, meant, path) as found:
        return found.artifact.name, found.listed.sha256, found.content.read(_BYTES + 1)


def _lines(path: str, data: bytes) -> list[str] | None:
    """Return the lines of a text; None: it is not text. RefnetError if it is too long."""
    text = first_text(data, _BYTES)
    if text is None:
        return None
    lines = [*io.StringIO(text, newline="\n")]
    if len(data) > _BYTES or len(lines) > _LINES:
        raise RefnetError(
            f"{show(path)} has more than {size(_BYTES)} or {_LINES:,} lines, so its lines are not compared",
            "Print each with `refnet cat`, and use another program to compare them.",
        )
    return lines


def diff(context: Context, before: str, after: str) -> ArtifactDifference:
    """Compare two artifacts of one source, or an artifact with LIVE data.

    Args:
        before: a name in the catalog, a path, or a source for its newest artifact; `after` likewise.
    """
    old = choose_to_read(context, before)
    source = source_of(context.settings, old.source)
    if after != LIVE:
        new = choose_to_read(context, after)
        if new.source != old.source:
            raise RefnetError(
                f"{old.name} is of {old.source}, {new.name} of {new.source}",
                "Compare two artifacts of one source.",
                Exit.USAGE,
            )
        return source.differences(context, old, new)
    found = source.live_differences(context, old)
    lacks = unprotected.of_source(context.settings, old.source) if source.has_path else None
    return replace(found, notes=(*found.notes, f"not protected: {lacks}")) if lacks else found
