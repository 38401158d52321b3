"""Shell patterns for paths and tables: `*`, `?`, `[a-z]`, and `**` for any number of folders.

Matching takes at most (length of pattern) × (length of name) steps: no exponential backtracking.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Self

from refnet.core.errors import Exit, RefnetError

#: The longest pattern, in characters.
LONGEST = 1000
_SPECIAL = re.compile(r"[*?[]")
#: Characters that JSON does not escape and that no other character normalizes to (as U+212A does to K).
_LITERAL = re.compile(r"[ !#-.0-:<-JL-\[\]-_a-~]+")
_ANY = "**"

_Match = Callable[[str], object]


class Glob:
    """A pattern for paths with `/`.

    Without a `/` it matches the last part of a path, in any folder. With a `/` it matches the complete path: `*` and
    `?` match no `/`, `**` matches any number of folders, also none. Case matters; composed and decomposed letters (が)
    are equal.
    """

    def __init__(self, pattern: str) -> None:
        """RefnetError (USAGE) if `pattern` is empty or too long."""
        if not 0 < len(pattern) <= LONGEST:
            raise RefnetError(
                f"the pattern has {len(pattern):,} characters",
                f"Give a pattern of 1 to {LONGEST:,} characters, such as '*.md' or 'papers/**'.",
                Exit.USAGE,
            )
        self.pattern = pattern
        parts = [part for part in composed(pattern).split("/") if part not in {"", "."}]
        self._complete = "/" in pattern
        self._parts = [None if part == _ANY else _matcher(part) for part in parts]

    @property
    def is_plain(self) -> bool:
        """The pattern is a name: it has no special characters."""
        return not _SPECIAL.search(self.pattern)

    @property
    def literal(self) -> str:
        """The longest ASCII text that every matching path contains, in any spelling."""
        plain = _SPECIAL.split(composed(self.pattern).partition("[")[0])
        return max((one for text in plain for one in _LITERAL.findall(text)), key=len, default="")

    def matches(self, path: str) -> bool:
        """Return whether the pattern matches `path`, which has no `.`, `..` or empty part."""
        path = composed(path)
        return _matches(self._parts, path.split("/") if self._complete else [path.rpartition("/")[2]])


class TableGlob:
    """A pattern for tables: `NAME` in any schema, or with a dot `SCHEMA.NAME`; `*` matches every character."""

    def __init__(self, pattern: str) -> None:
        """RefnetError (USAGE) if `pattern` is empty or too long."""
        Glob(pattern)
        self.pattern = pattern
        # Any name may contain dots, so the dot of the pattern can be that of a name, or the one after the schema.
        self._name = _matcher(composed(pattern))

    @property
    def is_plain(self) -> bool:
        """The pattern is a name: it has no special characters."""
        return not _SPECIAL.search(self.pattern)

    @classmethod
    def of(cls, pattern: str | None) -> Self:
        """Compile `pattern`; None matches every table."""
        return cls("*" if pattern is None else pattern)

    def matches(self, schema: str, name: str) -> bool:
        """Return whether the pattern matches the table `name` in `schema`."""
        names = (name, f"{schema}.{name}") if "." in self.pattern else (name,)
        return any(self._name(composed(one)) for one in names)


def _matcher(part: str) -> _Match:
    """Compile a pattern without `/` to a match function. Python's translation tries each `*` once (an atomic group)."""
    return re.compile(translate(part)).match


def composed(text: str) -> str:
    """Return `text` with composed letters: two spellings of a name that look the same are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _matches(pattern: Sequence[_Match | None], parts: Sequence[str]) -> bool:
    """Return whether `pattern` matches all `parts`; None in a pattern matches any number of parts.

    Only the last None needs to grow: the shortest match of an earlier None leaves the most parts for the rest.
    """
    at = now = 0
    again: tuple[int, int] | None = (
        None  # where to continue after the last None: in the pattern, in the parts
    )
    while now < len(parts):
        if at < len(pattern):
            one = pattern[at]
            if one is None:
                at, again = at + 1, (at + 1, now)
                continue
            if one(parts[now]):
                at, now = at + 1, now + 1
                continue
        if again is None:
            return False
        again = (again[0], again[1] + 1)
        at, now = again
    return all(one is None for one in pattern[at:])
