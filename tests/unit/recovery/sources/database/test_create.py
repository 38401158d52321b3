"""Stored settings become statements that set the same."""

from __future__ import annotations

import time

import pytest

from refnet.recovery.sources.database.restore import create_database


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
def test_a_stored_setting_is_quoted_as_one_value_unless_it_is_a_list_of_names(
    stored: str, statement: str
) -> None:
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
