"""Stored settings become statements that set the same."""

from __future__ import annotations

import pytest

from refnet.recovery.sources.database import create


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        ('"$user", public', ["$user", "public"]),
        ("public", ["public"]),
        ('""', [""]),
        ("", [""]),
        ('"odd, name", "with ""quotes""", plain', ["odd, name", 'with "quotes"', "plain"]),
        ('a,b , "c"', ["a", "b", "c"]),
    ],
)
def test_a_stored_list_is_taken_apart_into_its_names(stored: str, elements: list[str]) -> None:
    assert create._elements(stored) == elements


@pytest.mark.parametrize(
    ("stored", "statement"),
    [
        ("work_mem=7MB", "\"work_mem\" TO '7MB'"),
        ("app.greeting=it's = fine", "\"app.greeting\" TO 'it''s = fine'"),
        ('search_path="$user", public', "\"search_path\" TO '$user', 'public'"),
        ("DateStyle=ISO, DMY", "\"DateStyle\" TO 'ISO, DMY'"),
    ],
)
def test_a_stored_setting_is_quoted_as_one_value_unless_it_is_a_list_of_names(
    stored: str, statement: str
) -> None:
    assert create._assignment(stored).as_string(None) == statement
