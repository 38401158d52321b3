"""Line numbers of TOML keys: tomllib keeps no positions, so it is given one statement after another.

A statement is the fewest lines that are a valid TOML document: an open string, array or inline table is not. So a `#`,
a quote or a `key =` inside of a string does no harm.
"""

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]
#: Give up after so many characters: the lines of one long statement are read again and again.
_MOST = 1 << 18
#: The most names of a path that is listed; a setting has two.
_DEEPEST = 8


def lines_of(text: str) -> dict[Path, int]:
    """Path of each key and table in `text` → line (from 1) of its first definition.

    Keys inside of arrays, and deeper ones than 8, are not listed. In a text that is not TOML, the lines of the keys before the fault.
    """
    found: dict[Path, int] = {}
    for path, line in _paths(text):
        found.setdefault(path, line)
    return found


def first_duplicate(text: str) -> tuple[Path, int, int] | None:
    """The first key that `text` sets twice, and both lines; None without duplicates."""
    seen: dict[Path, int] = {}
    for path, line, is_value in _defined(text):
        if is_value and path in seen:
            return path, seen[path], line
        if is_value:
            seen[path] = line
    return None


def _paths(text: str) -> Iterator[tuple[Path, int]]:
    for path, line, _ in _defined(text):
        for length in range(1, min(len(path), _DEEPEST) + 1):
            yield path[:length], line


def _defined(text: str) -> Iterator[tuple[Path, int, bool]]:
    """Yield path, line and is-a-value of each table and value."""
    table: Path = ()
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


def _header(parsed: dict[str, Any]) -> tuple[Path, bool]:
    """Path of a table header, and whether it is an array's (`[[…]]`)."""
    path: Path = ()
    value: Any = parsed
    while isinstance(value, dict) and value:
        ((key, value),) = value.items()
        path = (*path, key)
    return path, isinstance(value, list)


def _leaves(parsed: dict[str, Any]) -> Iterator[Path]:
    todo: list[tuple[Path, Any]] = [((), parsed)]  # no recursion: a line of dotted keys may be very deep
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict) and value:
            todo += (((*path, key), below) for key, below in value.items())
        else:
            yield path
