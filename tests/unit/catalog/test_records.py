"""A record is read, checked and written as its class declares it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any

import pytest

from refnet.core import checked
from refnet.core.records import Flat, Layout, Most, Named, Needed, Rare, Record

_Name = Annotated[str, checked.text(20, shortest=1)]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Part(Record):
    LAYOUT = Layout(more=True)

    size: Annotated[int, checked.integer(0, 9)]
    notes: Rare[Annotated[tuple[_Name, ...], Most(2)]] = ()


@dataclass(frozen=True)
class Place(Record):
    city: _Name
    zip: _Name | None = None


@dataclass(frozen=True)
class Thing(Record):
    LAYOUT = Layout("a thing", longest=1000, format=2, reads="formats up to 2", indent=1)

    name: _Name
    at: datetime
    place: Flat[Place]
    parts: Annotated[tuple[Part, ...], Most(3)] = ()
    colour: Colour | None = None
    is_new: Needed[Annotated[bool, Named("new")]] = False
    pairs: Annotated[tuple[tuple[bool, Colour], ...], Most(2)] = ()
    others: Rare[Annotated[dict[_Name, Colour], Most(1)]] = field(default_factory=dict)


THING = Thing(
    "a",
    NOON,
    Place("東京"),
    (Part(1), Part(2, ("x", "y"))),
    Colour.RED,
    True,
    ((True, Colour.RED),),
    {"b": Colour.RED},
)
VALUES: dict[str, Any] = {
    "format": 2,
    "name": "a",
    "at": "2026-11-25T12:00:00.000000+00:00",
    "city": "東京",
    "zip": None,
    "parts": [{"size": 1}, {"size": 2, "notes": ["x", "y"]}],
    "colour": "red",
    "new": True,
    "pairs": [[True, "red"]],
    "others": {"b": "red"},
}


def test_a_record_is_written_in_the_order_of_its_fields() -> None:
    assert THING.to_json() == json.dumps(VALUES, indent=1) + "\n"


def test_a_record_is_read_as_it_was_written() -> None:
    assert Thing.from_json(THING.to_json()) == THING
    assert Thing.from_values(VALUES) == THING


def test_a_time_is_written_in_utc() -> None:
    there = Thing("a", NOON.astimezone(timezone(timedelta(hours=9))), Place("b"))
    assert there.values()["at"] == VALUES["at"]


def test_defaulted_fields_may_be_missing_and_rare_ones_are_not_written() -> None:
    least = Thing("a", NOON, Place("b"))
    assert (
        Thing.from_values({"format": 1, "name": "a", "at": VALUES["at"], "city": "b", "new": False}) == least
    )
    assert "others" not in least.values()
    assert least.values()["colour"] is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": None}, "not a thing: name: not text"),
        ({"name": ""}, "not a thing: name: not between 1 and 20 characters"),
        ({"at": "2026-11-25T12:00:00"}, "not a thing: at: a time without a time zone"),
        ({"city": 7}, "not a thing: city: not text"),
        ({"parts": [{"size": 1}] * 4}, "not a thing: parts: more than 3 values in the list"),
        ({"parts": [{"size": 10}]}, "not a thing: parts: size: not an integer from 0 to 9"),
        ({"parts": [{}]}, "not a thing: parts: size is missing"),
        (
            {"parts": [{"size": 1, "notes": ["x"] * 3}]},
            "not a thing: parts: notes: more than 2 values in the list",
        ),
        ({"colour": "blue"}, "not a thing: colour: not one of red"),
        ({"new": 1}, "not a thing: new: not true or false"),
        ({"pairs": [[True]]}, "not a thing: pairs: not a list of 2 values"),
        ({"others": {"a": "red", "b": "red"}}, "not a thing: others: more than 1 entries in the object"),
        ({"more": 1}, "not a thing: an unknown key"),
        ({"is_new": True}, "not a thing: an unknown key"),
        ({"place": {}}, "not a thing: an unknown key"),
        ({"format": 0}, "not a thing: format: not an integer from 1 to 2"),
        ({"format": True}, "not a thing: format: not an integer from 1 to 2"),
        ({"format": 3}, "format 3 is not supported; this RefNet reads formats up to 2"),
    ],
)
def test_what_a_field_does_not_allow_is_refused_with_its_name(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError) as caught:
        Thing.from_values(VALUES | wrong)
    assert str(caught.value) == why


@pytest.mark.parametrize("name", ["format", "name", "at", "city", "new"])
def test_what_is_needed_is_refused_if_it_is_missing(name: str) -> None:
    with pytest.raises(ValueError, match=f"^not a thing: {name} is missing$"):
        Thing.from_values({key: value for key, value in VALUES.items() if key != name})


@pytest.mark.parametrize(
    ("text", "why"), [("", "not JSON"), ("[]", "not a JSON object"), (" " * 1001, "longer than 1000")]
)
def test_what_is_no_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^not a thing: {why}$"):
        Thing.from_json(text)


def test_a_key_of_a_later_refnet_is_dropped_where_the_layout_says_so() -> None:
    assert Part.from_values({"size": 1, "colour": "red"}) == Part(1)


def test_a_field_without_a_check_is_an_error_of_the_class() -> None:
    @dataclass(frozen=True)
    class Wrong(Record):
        name: str

    with pytest.raises(TypeError, match="has no check"):
        Wrong.from_values({"name": "a"})
