"""Every text of the pages has a Japanese one, with the same places for values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import refnet.web
from refnet.telemetry import facts
from refnet.web.pages.base import by_file, duration, japanese, translated

_WEB = Path(refnet.web.__file__).parent
_FILES = sorted([*_WEB.glob("templates/*.j2"), *_WEB.glob("pages/*.py")])
_TEXT = re.compile(r"""\b_\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_PLACE = re.compile(r"\{(\w+)[^}]*\}")


def texts(file: Path) -> list[str]:
    return [double or single for double, single in _TEXT.findall(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.name)
def test_every_text_of_a_page_has_a_japanese_one(file: Path) -> None:
    assert [one for one in texts(file) if one not in japanese()] == []


def test_a_translation_has_the_places_for_values_of_its_text() -> None:
    for english, text in japanese().items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(text)), english


def test_values_are_put_into_the_translation() -> None:
    assert translated("no such text of {n}", "ja", n=3) == "no such text of 3"
    assert translated("{braces}", "ja") == "{braces}"


def test_a_text_is_in_one_file_alone() -> None:
    found = [english for words in by_file().values() for english in words]
    assert sorted({*found}) == sorted(found)


def test_every_translation_is_of_a_text_that_pages_use() -> None:
    said = "".join(file.read_text(encoding="utf-8") for file in [*_FILES, Path(facts.__file__)])
    assert [one for one in japanese() if f'"{one}"' not in said] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("under 1 min", "1 分未満"),
        ("3 h 5 min", "3 時間 5 分"),
        ("2 d", "2 日"),
        ("2.6 s", "2.6 秒"),
        ("1 h ahead", "1 時間先"),
    ],
)
def test_a_duration_has_japanese_units_on_japanese_pages(text: str, said: str) -> None:
    assert (duration(text, "ja"), duration(text, "en")) == (said, text)
