"""The retention of a source's artifacts."""

import re
from collections.abc import Collection
from typing import Any

from refnet.catalog.schedule import PERIODS, Retention
from refnet.core.errors import nearest
from refnet.settings.converters import InvalidError, utf8

_NUMBER = re.compile(r"-?[0-9]{1,18}")
#: A number of days without its name, such as `7` or `7d`.
_DAYS = re.compile(r"([0-9]{1,18}) ?d?(?:ays?)?")
_MOST = 36_500
_USAGE = "Write like days=7 daily=14 weekly=4 monthly=12 yearly=3 keep-last=3, each from 0 to 36500."


def parse_retention(value: Any) -> Retention:
    """Parse a retention, from text such as `days=7 weekly=4` or a table; missing names are 0."""
    pairs = list(value.items()) if isinstance(value, dict) else _pairs(utf8(value, _USAGE))
    found = {name: number for name, number in pairs if _is_count(number)}
    if {name for name, _ in pairs} - {*PERIODS}:
        rule = "must name days, daily, weekly, monthly, yearly or keep-last"
    elif len(pairs) != len({name for name, _ in pairs}):
        rule = "must name each period once"
    elif len(found) != len(pairs):
        rule = f"each number must be 0-{_MOST}"
    elif not any(found.values()):
        rule = "must keep artifacts for at least one period"
    else:
        return Retention(**({"days": 0} | {PERIODS[name]: number for name, number in found.items()}))
    raise InvalidError(rule, _USAGE, _near(pairs, value))


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST


def _pairs(text: str) -> list[tuple[str, Any]]:
    parts = [part.partition("=") for part in text.replace(",", " ").split()]
    return [(name, int(number) if _NUMBER.fullmatch(number) else None) for name, _, number in parts]


def _near(pairs: Collection[tuple[str, Any]], value: Any) -> str:
    """The valid retention closest to `pairs`, or ""."""
    days = _DAYS.fullmatch(value.strip()) if isinstance(value, str) else None
    found = {"days": int(days[1])} if days else {nearest(name, PERIODS): number for name, number in pairs}
    if (
        "" in found
        or len(found) < len(pairs)
        or not all(isinstance(number, int) for number in found.values())
    ):
        return ""
    least = 0 if any(number > 0 for number in found.values()) else 1
    return " ".join(f"{name}={min(max(number, least), _MOST)}" for name, number in found.items())
