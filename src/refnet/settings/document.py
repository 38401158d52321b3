"""Reads a settings file, and finds the line of each key in it.

tomllib keeps no positions, so it is given one statement after another. A statement is the fewest lines that are a valid
TOML document: an open string, array or inline table is not. So a `#`, a quote or a `key =` inside of a string does no
harm.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.settings.known_keys import TABLES, is_secret, tables

#: The largest settings file or file with a secret, in bytes.
LARGEST = 64 * 1024
#: The most dots in one line; tomllib takes minutes for a key with thousands.
_DOTS = 100
_HINT = "Fix that line; see refnet.toml.example."
#: A key of TOML that needs no quotes.
_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: Give up after so many characters: the lines of one long statement are read again and again.
_MOST = 1 << 18
#: The most names of a path that is listed; a setting has two.
_DEEPEST = 8
#: The line in tomllib's messages.
_AT = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)", re.DOTALL)

#: The names of a dotted key.
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """A settings file."""

    #: The file may not exist yet.
    path: Path
    #: Its TOML.
    table: Mapping[str, Any]
    #: A sentence each.
    warnings: tuple[str, ...] = ()
    #: Its text, to find lines in; "" if it is unknown.
    text: str = field(default="", compare=False, repr=False)
    #: Its name in messages; "" stands for the path.
    name: str = field(default="", compare=False)

    @classmethod
    def of(cls, path: Path, content: bytes, name: str = "") -> Given:
        """Return the settings file at `path` with `content`; RefnetError about `name` if it is not TOML."""
        return cls(path, parse(content, name or str(path)), (), content.decode(), name)

    def place(self, path: KeyPath) -> str:
        """Message prefix for the key or table `path`: the file, and the line if known."""
        if not self.text:
            return ""
        line = self._lines.get(path)
        return f"{self.name or self.path}, line {line}: " if line else f"{self.name or self.path}: "

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return lines_of(self.text)


def read_file(path: Path) -> Given | None:
    """Read the settings file at `path`; None if there is none, RefnetError if it is not trusted."""
    try:
        found = trust.read(path, LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return None
        raise RefnetError(
            f"{path} is a link whose target is missing", "Remove it, or fix its target.", Exit.USAGE
        ) from None
    except RefnetError as error:
        if not os.path.lexists(path):
            return None  # another user's folder without the file
        raise RefnetError(f"{path} is not read: {error.message}", error.hint, Exit.USAGE) from None
    except OSError as error:
        raise RefnetError(
            f"{path} cannot be read: {error.strerror}", "Make it readable for this user.", Exit.USAGE
        ) from None
    given = Given.of(path, found.content)
    secret = any(is_secret(dotted(key), value) for key, value in flat(given.table))
    warnings = (open_secret(path, found.mode),) if secret and found.readable_by_others else ()
    return Given(path, given.table, warnings, given.text)


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Parse `content`; RefnetError about `name` and its line if it is not TOML."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RefnetError(f"{name}, line {line}: not UTF-8", "Save the file as UTF-8.", Exit.USAGE) from None
    if text.startswith("\ufeff"):
        raise RefnetError(
            f"{name}, line 1: a byte order mark", "Save the file as UTF-8 without it.", Exit.USAGE
        )
    dots = map(bytes.count, content.splitlines(), repeat(b"."))
    if line := next((number for number, count in enumerate(dots, 1) if count > _DOTS), 0):
        raise RefnetError(f"{name}, line {line}: more than {_DOTS} dots", _HINT, Exit.USAGE)
    try:
        return tomllib.loads(text)
    except RecursionError:
        what, hint = f"{name} is nested too deeply", "refnet.toml.example lists every setting."
    except ValueError as error:
        what, hint = _fault(text, name, str(error))
    raise RefnetError(what, hint, Exit.USAGE)


def _fault(text: str, name: str, error: str) -> tuple[str, str]:
    """Message and hint for tomllib's `error`."""
    found = _AT.fullmatch(error)
    what, line = (found["what"], int(found["line"] or 0)) if found else (error, 0)
    if twice := first_duplicate(text):
        path, first, second = twice
        return (
            f"{name}, line {second}: {dotted(path)} is set twice, first in line {first}",
            "Remove one of the two.",
        )
    at = f", line {line}" if line else ""
    return (
        f"{name}{at}: not TOML: {what}",
        _HINT if line else "Close the open quote or bracket; see refnet.toml.example.",
    )


def flat(table: Mapping[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield dotted keys of `table` and their values; unknown tables are not entered."""
    for name, value in table.items():
        path = (*above, name)
        if isinstance(value, dict) and (dotted(path) in tables() or (path[0] in TABLES and len(path) <= 2)):
            yield from flat(value, path)
        else:
            yield path, value


def dotted(path: KeyPath) -> str:
    """`path` as a dotted TOML key; names with special characters are quoted."""
    return ".".join(name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in path)


def open_secret(path: Path, mode: int) -> str:
    """Warning about a file with secrets that others can read."""
    who, but = "others", ""
    if not mode & 0o004:
        who, but = "its group", ", unless a service of RefNet reads it by that group"
    return f"{path} contains secrets, and {who} can read it (mode {mode:04o}): chmod 600 {path}{but}"


def lines_of(text: str) -> dict[KeyPath, int]:
    """Path of each key and table in `text` → line (from 1) of its first definition.

    Keys inside of arrays, and deeper ones than 8, are not listed. In a text that is not TOML, the lines of the keys before the fault.
    """
    found: dict[KeyPath, int] = {}
    for path, line in _paths(text):
        found.setdefault(path, line)
    return found


def first_duplicate(text: str) -> tuple[KeyPath, int, int] | None:
    """The first key that `text` sets twice, and both lines; None without duplicates."""
    seen: dict[KeyPath, int] = {}
    for path, line, is_value in _defined(text):
        if is_value and path in seen:
            return path, seen[path], line
        if is_value:
            seen[path] = line
    return None


def _paths(text: str) -> Iterator[tuple[KeyPath, int]]:
    for path, line, _ in _defined(text):
        for length in range(1, min(len(path), _DEEPEST) + 1):
            yield path[:length], line


def _defined(text: str) -> Iterator[tuple[KeyPath, int, bool]]:
    """Yield path, line and is-a-value of each table and value."""
    table: KeyPath = ()
    in_array = False
    for line, statement in _statements(text):
        if statement.lstrip().startswith("["):
            table, in_array = _header(tomllib.loads(statement))
            yield table, line, False
        elif not in_array:
            yield from ((table + path, line, True) for path in _leaves(tomllib.loads(statement)))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield statements with the number of their first line, up to the first error."""
    lines = text.replace("\r\n", "\n").split("\n")
    first, spent = 0, 0
    for number, last in enumerate(lines):
        if first == number and (not last.strip() or last.lstrip().startswith("#")):
            first += 1
            continue
        statement = "\n".join(lines[first : number + 1])
        spent += len(statement)
        if spent > _MOST:
            return
        try:
            tomllib.loads(statement)
        except (ValueError, RecursionError):
            continue
        yield first + 1, statement
        first = number + 1


def _header(parsed: dict[str, Any]) -> tuple[KeyPath, bool]:
    """Path of a table header, and whether it is an array's (`[[…]]`)."""
    path: KeyPath = ()
    value: Any = parsed
    while isinstance(value, dict) and value:
        ((key, value),) = value.items()
        path = (*path, key)
    return path, isinstance(value, list)


def _leaves(parsed: dict[str, Any]) -> Iterator[KeyPath]:
    todo: list[tuple[KeyPath, Any]] = [((), parsed)]  # no recursion: a line of dotted keys may be very deep
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict) and value:
            todo += (((*path, key), below) for key, below in value.items())
        else:
            yield path
