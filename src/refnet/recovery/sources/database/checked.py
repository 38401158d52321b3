"""Values out of JSON that somebody else may have written: of exactly one type and within bounds, else ValueError.

A check takes a value and gives it back. Its ValueError says what is wrong and repeats nothing of the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

Check = Callable[[Any], Any]


def text(longest: int, *, shortest: int = 0, like: str = "") -> Check:
    """A string of so many characters that matches the pattern `like`; it can be encoded, and holds no NUL."""
    pattern = re.compile(like, re.DOTALL) if like else None

    def check(value: Any) -> str:
        if type(value) is not str:
            raise ValueError("no text")
        if not shortest <= len(value) <= longest:
            raise ValueError(f"not between {shortest} and {longest} characters")
        try:
            value.encode("utf-8", "surrogateescape")
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


def record(checks: Mapping[str, Check], may_lack: Collection[str] = ()) -> Check:
    """An object with exactly these keys, but for those that it `may_lack`, as a dict."""
    required = checks.keys() - set(may_lack)

    def checked(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError("no object")
        if missing := sorted(required - value.keys()):
            raise ValueError(f"no {missing[0]}")
        if value.keys() - checks.keys():
            raise ValueError("a key that is not known")
        return {name: inside(name, checks[name], one) for name, one in value.items()}

    return checked


def inside(name: str, check: Check, value: Any) -> Any:
    """`value` checked; where it does not pass, the error begins with `name`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
