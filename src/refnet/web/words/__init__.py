"""The Japanese texts of the pages, one file per page: "English" = "日本語"."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "ja")
_UNITS = {"d": "日", "h": "時間", "min": "分", "s": "秒"}
_UNIT = re.compile(r"\b(?:d|h|min|s)\b")


@cache
def japanese() -> Mapping[str, str]:
    """Return English text → Japanese text of the pages."""
    return {english: text for words in by_file().values() for english, text in words.items()}


def by_file() -> dict[str, dict[str, str]]:
    """Return file name → its texts."""
    found = [one for one in files(__name__).iterdir() if one.name.endswith(".ja.toml")]
    return {
        one.name: tomllib.loads(one.read_text(encoding="utf-8"))
        for one in sorted(found, key=lambda one: one.name)
    }


def translated(text: str, language: str, **values: object) -> str:
    """Translate `text` (English if there is no translation), and replace each {name} by its value."""
    said = japanese().get(text, text) if language == "ja" else text
    return said.format(**values) if values else said


def duration(text: str, language: str) -> str:
    """Translate a duration such as `1 h 5 min` or `under 1 min`."""
    if language != "ja":
        return text
    units = _UNIT.sub(lambda one: _UNITS[one[0]], text.removeprefix("under ").removesuffix(" ahead"))
    return units + ("未満" if text.startswith("under ") else "") + ("先" if text.endswith(" ahead") else "")


def preferred(accepted: str, chosen: str = "") -> str:
    """Return the language of a browser: `chosen`, else the first supported one of Accept-Language."""
    if chosen in LANGUAGES:
        return chosen
    weighed = [part.strip().partition(";q=") for part in accepted[:500].split(",")]
    for name, _, weight in sorted(weighed, key=lambda one: -_weight(one[2])):
        if weight != "0" and name[:2].lower() in LANGUAGES:
            return name[:2].lower()
    return "en"


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
