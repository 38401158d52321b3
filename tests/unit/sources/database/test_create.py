"""Stored settings become statements that set the same."""

from __future__ import annotations

import time

import pytest

from refnet.sources.database.artifact import index_values
from refnet.sources.database.restore import create_database


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        ('"$user", public', ["$user", "public"]),
        ("public", ["public"]),
        ('""', [""]),
        ("", [""]),
        ('"odd, name", "with ""quotes""", plain', ["odd, name", 'with "quotes"', "plain"]),
        ('a,b , "c"', ["a", "b", "c"]),
        ('"without an end', ['"without an end']),
        ('"', ['"']),
        ('a, "b" c', ['a, "b" c']),
        ('"a""', ['"a""']),
    ],
)
def test_a_stored_list_is_taken_apart_into_its_names(stored: str, elements: list[str]) -> None:
    assert create_database._elements(stored) == elements


@pytest.mark.parametrize(
    ("stored", "statement"),
    [
        ("work_mem=7MB", "\"work_mem\" TO '7MB'"),
        ("app.greeting=it's = fine", "\"app.greeting\" TO 'it''s = fine'"),
        ('search_path="$user", public', "\"search_path\" TO '$user', 'public'"),
        ("DateStyle=ISO, DMY", "\"DateStyle\" TO 'ISO, DMY'"),
    ],
)
def test_a_stored_setting_is_quoted_as_one_value_unless_a_list_of_names(stored: str, statement: str) -> None:
    assert create_database._assignment(stored).as_string(None) == statement


@pytest.mark.parametrize(
    "value", ['"' * 100_001, "a," * 100_000, " " * 100_000 + '"', '"" ' * 50_000, '"a",' * 50_000]
)
def test_a_stored_list_is_taken_apart_in_one_pass(value: str) -> None:
    began = time.monotonic()
    create_database._elements(value)
    assert time.monotonic() - began < 2


def test_a_power_of_a_role_is_a_word_of_a_closed_list() -> None:
    role = {**dict.fromkeys(create_database._POWERS, False), "name": "a; b", "connection_limit": 5}
    assert create_database._role(role).as_string(None) == (
        'CREATE ROLE "a; b" NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS'
        " CONNECTION LIMIT 5"
    )


@pytest.mark.parametrize(
    "forged",
    [
        {"valid_until": "infinity'; DROP ROLE app; --"},
        {"valid_until": "tomorrow"},
        {"valid_until": 5},
        {"comment": 7},
        {"parameters": [{"name": "work_mem", "privilege": "ALL", "grantable": False}]},
        {"parameters": [{"name": "", "privilege": "SET", "grantable": False}]},
        {"parameters": [{"name": "work_mem", "privilege": "SET"}]},
        {"member_of": [{"role": "staff", "admin": False, "inherit": "TRUE"}]},
        {"member_of": [{"role": "staff", "admin": False, "granted_by": "x"}]},
        {"password": "x"},
    ],
)
def test_what_a_forged_index_says_of_a_role_is_refused(forged: dict[str, object]) -> None:
    check, _ = index_values.ENTRIES["roles"]
    role = {**dict.fromkeys(index_values.POWERS, False), "name": "app", "connection_limit": -1}
    complete = {**role, "settings": [], "member_of": []}
    for until in (None, "infinity", "-infinity", "2031-02-02 19:05:06.789+00", "0044-03-15 00:00:00+00 BC"):
        check({**complete, "valid_until": until})
    with pytest.raises(ValueError):  # each says something else
        check({**complete, **forged})
