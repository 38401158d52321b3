"""Checks of values from untrusted JSON: type and bounds; ValueError otherwise.

A check takes a value and returns it. Its ValueError says what is wrong and does not quote the value.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn

Check = Callable[[Any], Any]

#: The deepest nesting that `free` accepts.
_DEEPEST = 8
#: The bound of integers in `free`, positive and negative: PostgreSQL's largest counters.
_LARGEST = 1 << 64


def parsed(text: str | bytes, longest: int = 4 << 20) -> Any:
    """Parse the JSON `text` of at most `longest` characters or bytes; ValueError if it is malformed."""
    if len(text) > longest:
        raise ValueError(f"longer than {longest}")
    try:
        if isinstance(text, bytes):
            # Python's detection of the encoding takes as long as to parse a small object.
            in_utf_8 = text[:1] == b"{" and text[1:2] not in b"\0"
            text = text.decode("utf-8" if in_utf_8 else json.detect_encoding(text), "surrogatepass")
        found, end = _DECODER.raw_decode(text := text.strip(_SPACE))
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("not JSON")
    return found


def document(text: str | bytes, longest: int = 4 << 20) -> dict[str, Any]:
    """Parse the JSON object `text` of at most `longest` characters or bytes; ValueError if it is malformed."""
    values = parsed(text, longest)
    if type(values) is not dict:
        raise ValueError("not a JSON object")
    return values


def _no_number(_name: str) -> NoReturn:
    raise ValueError("not a number")


#: The white space around a document.
_SPACE = " \t\r\n"
#: Made once: json.loads would make a decoder for each of ten thousand manifests.
_DECODER = json.JSONDecoder(parse_constant=_no_number)


def text(longest: int, *, shortest: int = 0, like: str = "", errors: str = "surrogateescape") -> Check:
    """Check for a string of `shortest` to `longest` characters that matches the pattern `like`, without NUL.

    `errors`: "strict" refuses escapes of bytes that are not UTF-8.
    """
    pattern = re.compile(like, re.DOTALL) if like else None

    def check(value: Any) -> str:
        if type(value) is not str:
            raise ValueError("not text")
        if not shortest <= len(value) <= longest:
            raise ValueError(f"not between {shortest} and {longest} characters")
        try:
            value.isascii() or value.encode("utf-8", errors)
        except UnicodeEncodeError:
            raise ValueError("a lone surrogate") from None
        if "\0" in value or (pattern and not pattern.fullmatch(value)):
            raise ValueError("characters that are not allowed")
        return value

    return check


def integer(low: int, high: int) -> Check:
    """Check for an integer from `low` to `high`; true and false are not integers."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"not an integer from {low} to {high}")
        return value

    return check


def flag(value: Any) -> bool:
    """Check for true or false."""
    if type(value) is not bool:
        raise ValueError("not true or false")
    return value


def one_of(allowed: Collection[str]) -> Check:
    """Check for one of the strings `allowed`."""

    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise ValueError(f"not one of {', '.join(sorted(allowed))}")
        return value

    return check


def or_none(check: Check) -> Check:
    """Check for null or a value that passes `check`."""
    return lambda value: None if value is None else check(value)


def member(kind: type[StrEnum]) -> Check:
    """Check for a value of `kind`, and return its member."""
    members = {one.value: one for one in kind}

    def check(value: Any) -> StrEnum:
        if type(value) is not str or value not in members:
            raise ValueError(f"not one of {', '.join(members)}")
        return members[value]

    return check


def seconds(value: Any) -> float:
    """Check for a finite number of seconds, 0 or more."""
    if type(value) not in (int, float) or not 0 <= value < _LARGEST:
        raise ValueError("not a number of seconds")
    return float(value)


def moment(value: Any) -> datetime:
    """Check for an ISO 8601 time with a time zone."""
    if type(value) is not str:
        raise ValueError("not text")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("not an ISO 8601 time") from None
    if found.tzinfo is None:
        raise ValueError("a time without a time zone")
    return in_calendars(found)


def in_calendars(found: datetime) -> datetime:
    """Return `found`; ValueError if its year is not computable in every time zone."""
    if not 1900 <= found.year <= 9000:
        raise ValueError("year must be 1900–9000")
    return found


def free(value: Any, deepest: int = _DEEPEST) -> Any:
    """Check that any JSON value can be written again: not too deep, finite, without lone surrogates."""
    if type(value) is str:
        return _FREE_TEXT(value)
    if type(value) is int and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number that is too large")
    if type(value) is float and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if type(value) in (list, dict) and not deepest:
        raise ValueError("nested too deep")
    if type(value) is list:
        return [free(one, deepest - 1) for one in value]
    if type(value) is dict:
        return {_FREE_TEXT(key): free(one, deepest - 1) for key, one in value.items()}
    return value


_FREE_TEXT = text(1 << 20, errors="strict")


def mapping(key: Check, check: Check, most: int) -> Check:
    """Check for an object of at most `most` entries: keys pass `key`, values pass `check`."""

    def checked(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise ValueError("not an object")
        if len(value) > most:
            raise ValueError(f"more than {most} entries in the object")
        return {key(name): check(one) for name, one in value.items()}

    return checked


def each(check: Check, most: int) -> Check:
    """Check for a list of at most `most` values that pass `check`."""

    def checked(value: Any) -> list[Any]:
        if type(value) is not list:
            raise ValueError("not a list")
        if len(value) > most:
            raise ValueError(f"more than {most} values in the list")
        return [check(one) for one in value]

    return checked


def several(check: Check, most: int) -> Check:
    """Check for a list of at most `most` values that pass `check`, and return a tuple."""
    checked = each(check, most)
    return lambda value: tuple(checked(value))


def row(*checks: Check) -> Check:
    """Check for a list with one value for each of `checks`, and return a tuple."""

    def checked(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(f"not a list of {len(checks)} values")
        return tuple(check(one) for check, one in zip(checks, value, strict=True))

    return checked


def record(
    required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, *, more: bool = False
) -> Check:
    """Check for an object with all keys of `required` and any of `optional`.

    `more`: drop unknown keys, which a later RefNet may write, instead of refusing them.
    """
    checks = {**required, **(optional or {})}

    def checked(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError("not an object")
        if not required.keys() <= value.keys():
            raise ValueError(f"{min(required.keys() - value.keys())} is missing")
        if not more and value.keys() - checks.keys():
            raise ValueError("an unknown key")
        found, name = {}, ""
        try:
            for name, one in value.items():
                if check := checks.get(name):
                    found[name] = check(one)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return found

    return checked


def inside(name: str, check: Check, value: Any) -> Any:
    """Check `value`; the error begins with `name`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
