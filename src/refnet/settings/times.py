"""When tasks run, and how long artifacts are kept: times of the schedule and its zone, and retentions.

A time is `hourly :45`, `daily 02:00`, `sunday 03:00`, `monthly 1 05:00` or `off`; a retention is `days=7 weekly=4`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from refnet.catalog.schedule import PERIODS, WEEKDAYS, Retention, When
from refnet.core.errors import nearest
from refnet.settings.converters import InvalidError, utf8

_WORDS = ("hourly", "daily", "monthly", *WEEKDAYS)
_USAGE = "Write `hourly :45`, `daily 02:00`, `sunday 03:00`, `monthly 1 05:00` (day 1 to 28) or `off`."
#: The word for a task that does not run by itself.
OFF = "off"
_ZONE_USAGE = (
    "Write a name of the tz database such as Asia/Tokyo, or remove the key to use the machine's zone."
)
#: Names of the tz database have at most four parts.
_ZONE = re.compile(r"[\w+-]{1,64}(?:/[\w+-]{1,64}){0,3}", re.ASCII)
_TIME = re.compile(r"(?P<word>[a-z]+)(?: +(?P<day>[0-9]{1,2}))? +(?P<hour>[0-9]{1,2})?:(?P<minute>[0-9]{2})")
#: What a mistyped time may look like.
_LOOSE = re.compile(
    r"(?P<word>[a-z]*),? *(?:(?P<day>[0-9]{1,3}) +)?(?:(?P<hour>[0-9]{1,3})?(?:[:.](?P<minute>[0-9]{0,3}))?)?"
)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
#: A number of days without its name, such as `7` or `7d`.
_DAYS = re.compile(r"([0-9]{1,18}) ?d?(?:ays?)?")
_MOST = 36_500
_RETENTION_USAGE = (
    "Write like days=7 daily=14 weekly=4 monthly=12 yearly=3 keep-last=3, each from 0 to 36500."
)


def parse_schedule(value: Any) -> When | None:
    """Return a time of the schedule; None: off."""
    return None if isinstance(value, str) and value.strip().lower() == OFF else parse_when(value)


def parse_when(value: Any) -> When:
    """Parse a time of the schedule."""
    text = utf8(value, _USAGE).lower()
    found = _TIME.fullmatch(text)
    made = _made(found) if found else "must be like daily 02:00"
    if isinstance(made, When):
        return made
    raise InvalidError(made, _USAGE, _near_time(text))


def _made(found: re.Match[str]) -> When | str:
    """The time that the match `found` means, or the error in it."""
    word, minute = found["word"], int(found["minute"])
    hour = None if found["hour"] is None else int(found["hour"])
    day = None if found["day"] is None else int(found["day"])
    rules = {
        "must begin with hourly, daily, monthly or a weekday": word in _WORDS,
        "hour must be 0-23": (hour or 0) <= 23,
        "minute must be 0-59": minute <= 59,
        "day must be 1-28": day is None or 1 <= day <= 28,
        f"{word} must have {'only minutes' if word == 'hourly' else 'an hour'}": (hour is None)
        == (word == "hourly"),
        f"{word} must have {'a' if word == 'monthly' else 'no'} day of the month": (day is None)
        == (word != "monthly"),
    }
    if broken := next((rule for rule, kept in rules.items() if not kept), None):
        return broken
    return When(minute, hour, WEEKDAYS.index(word) if word in WEEKDAYS else None, day)


def _near_time(text: str) -> str:
    """The valid time closest to `text`, or ""."""
    found = _LOOSE.fullmatch(text[:100])
    if not found or not (found["hour"] or found["minute"]):
        return nearest(text, [OFF])
    word = nearest(found["word"], _WORDS, 0.5) if found["word"] else "daily"
    hour, minute = min(int(found["hour"] or 0), 23), min(int(found["minute"] or 0), 59)
    day = min(max(int(found["day"] or 1), 1), 28)
    if not word:
        return ""
    if word == "hourly":
        return str(When(minute))
    weekday = WEEKDAYS.index(word) if word in WEEKDAYS else None
    return str(When(minute, hour, weekday, day if word == "monthly" else None))


def parse_zone(value: Any) -> ZoneInfo:
    """Parse the name of a time zone."""
    name = utf8(value, _ZONE_USAGE)
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError(name)  # noqa: TRY301  # ZoneInfo would search folders of any depth
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidError("must be a known time zone", _ZONE_USAGE, _near_zone(name)) from None


def _near_zone(name: str) -> str:
    """The time zone whose name or city is closest to `name`, or ""."""
    known = sorted(available_timezones(), key=lambda each: (each.count("/") != 1, each))
    by_text = {each.rpartition("/")[2].lower(): each for each in reversed(known)}
    by_text |= {each.lower(): each for each in known}
    return by_text.get(nearest(name.replace(" ", "_"), by_text, 0.8), "")


def parse_retention(value: Any) -> Retention:
    """Parse a retention, from text such as `days=7 weekly=4` or a table; missing names are 0."""
    pairs = list(value.items()) if isinstance(value, dict) else _pairs(utf8(value, _RETENTION_USAGE))
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
    raise InvalidError(rule, _RETENTION_USAGE, _near_retention(pairs, value))


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST


def _pairs(text: str) -> list[tuple[str, Any]]:
    parts = [part.partition("=") for part in text.replace(",", " ").split()]
    return [(name, int(number) if _NUMBER.fullmatch(number) else None) for name, _, number in parts]


def _near_retention(pairs: Collection[tuple[str, Any]], value: Any) -> str:
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
