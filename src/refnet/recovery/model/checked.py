"""Values out of JSON that somebody else may have written: of exactly one type and within bounds, else ValueError.

A check takes a value and gives it back. Its ValueError says what is wrong and repeats nothing of the value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn

Check = Callable[[Any], Any]

#: How deep a free value may be nested.
_DEEPEST = 8
#: What a free number may be: PostgreSQL's largest counters, and their negatives.
_LARGEST = 1 << 64


def parsed(text: str | bytes, longest: int = 4 << 20) -> Any:
    """What the JSON `text` of at most `longest` characters or bytes holds; ValueError where it is none."""
    if len(text) > longest:
        raise ValueError(f"longer than {longest}")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None


def document(text: str | bytes, longest: int = 4 << 20) -> dict[str, Any]:
    """The object that the JSON `text` of at most `longest` characters or bytes holds; ValueError where it is none."""
    values = parsed(text, longest)
    if type(values) is not dict:
        raise ValueError("no JSON object")
    return values


def _no_number(_name: str) -> NoReturn:
    raise ValueError("no number")


def text(longest: int, *, shortest: int = 0, like: str = "", errors: str = "surrogateescape") -> Check:
    """A string of so many characters that matches the pattern `like`; it can be encoded, and holds no NUL.

    `errors`: "strict" refuses what stands for bytes that are no UTF-8.
    """
    pattern = re.compile(like, re.DOTALL) if like else None

    def check(value: Any) -> str:
        if type(value) is not str:
            raise ValueError("no text")
        if not shortest <= len(value) <= longest:
            raise ValueError(f"not between {shortest} and {longest} characters")
        try:
            value.encode("utf-8", errors)
        except UnicodeEncodeError:
            raise ValueError("half a character") from None
        if "\0" in value or (pattern and not pattern.fullmatch(value)):
            raise ValueError("characters that do not belong there")
        return value

    return check


def whole(low: int, high: int) -> Check:
    """A whole number from `low` to `high`; true and false are none."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"no whole number from {low} to {high}")
        return value

    return check


def flag(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError("neither true nor false")
    return value


def one_of(allowed: Collection[str]) -> Check:
    """One of the strings `allowed`."""

    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise ValueError(f"none of {', '.join(sorted(allowed))}")
        return value

    return check


def or_none(check: Check) -> Check:
    """Null, or what `check` passes."""
    return lambda value: None if value is None else check(value)


def member(kind: type[StrEnum]) -> Check:
    """One of the values of `kind`, as its member."""
    members = {one.value: one for one in kind}

    def check(value: Any) -> StrEnum:
        if type(value) is not str or value not in members:
            raise ValueError(f"none of {', '.join(members)}")
        return members[value]

    return check


def seconds(value: Any) -> float:
    """A number of seconds that has an end, zero or more."""
    if type(value) not in (int, float) or not 0 <= value < _LARGEST:
        raise ValueError("no number of seconds")
    return float(value)


def moment(value: Any) -> datetime:
    """A moment with a time zone, as ISO 8601 writes it."""
    if type(value) is not str:
        raise ValueError("no text")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("no moment") from None
    if found.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return in_calendars(found)


def in_calendars(found: datetime) -> datetime:
    """`found`; ValueError where its year is none that the machine reckons with in every time zone."""
    if not 1900 <= found.year <= 9000:
        raise ValueError("a moment outside all calendars")
    return found


def free(value: Any, deepest: int = _DEEPEST) -> Any:
    """Whatever JSON holds, if it can be written again: not too deep, no endless number, no half a character."""
    if type(value) is str:
        return _FREE_TEXT(value)
    if type(value) is int and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number that is too large")
    if type(value) is float and not math.isfinite(value):
        raise ValueError("a number without an end")
    if type(value) in (list, dict) and not deepest:
        raise ValueError("nested too deep")
    if type(value) is list:
        return [free(one, deepest - 1) for one in value]
    if type(value) is dict:
        return {_FREE_TEXT(key): free(one, deepest - 1) for key, one in value.items()}
    return value


_FREE_TEXT = text(1 << 20, errors="strict")


def mapping(key: Check, check: Check, most: int) -> Check:
    """An object of at most `most` entries whose keys and values pass."""

    def checked(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise ValueError("no object")
        if len(value) > most:
            raise ValueError(f"more than {most} in the object")
        return {key(name): check(one) for name, one in value.items()}

    return checked


def each(check: Check, most: int) -> Check:
    """A list of at most `most` values that each pass `check`."""

    def checked(value: Any) -> list[Any]:
        if type(value) is not list:
            raise ValueError("no list")
        if len(value) > most:
            raise ValueError(f"more than {most} in the list")
        return [check(one) for one in value]

    return checked


def row(*checks: Check) -> Check:
    """A list of exactly as many values as there are checks, as a tuple."""

    def checked(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(f"no list of {len(checks)}")
        return tuple(check(one) for check, one in zip(checks, value, strict=True))

    return checked


def record(checks: Mapping[str, Check], may_lack: Collection[str] = (), *, more: bool = False) -> Check:
    """An object with exactly these keys, but for those that it `may_lack`, as a dict.

    `more`: other keys are left out, as a later RefNet may write them; else they are an error.
    """
    required = checks.keys() - set(may_lack)

    def checked(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError("no object")
        if missing := sorted(required - value.keys()):
            raise ValueError(f"no {missing[0]}")
        if not more and value.keys() - checks.keys():
            raise ValueError("a key that is not known")
        return {name: inside(name, checks[name], one) for name, one in value.items() if name in checks}

    return checked


def inside(name: str, check: Check, value: Any) -> Any:
    """`value` checked; where it does not pass, the error begins with `name`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
