"""Patterns for paths and tables."""

from __future__ import annotations

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import LONGEST, Glob, TableGlob


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.md", "a/b.md", True),
        ("todo*", "papers/todo list.md", True),
        ("todo*", "todo/x.md", False),
        ("papers/*.md", "papers/x.md", True),
        ("papers/*.md", "papers/deep/x.md", False),
        ("papers/*.md", "old/papers/x.md", False),
        ("papers/**", "papers/deep/x.md", True),
        ("papers/**/x.md", "papers/x.md", True),
        ("**/x.md", "a/b/x.md", True),
        ("a/**/b/**/c", "a/1/b/2/3/c", True),
        ("a/**/b/**/c", "a/1/c/2/3/b", False),
        ("**/a/b", "a/a/b", True),
        ("./papers/x.md", "papers/x.md", True),
        ("/papers/x.md", "papers/x.md", True),
        ("?.md", "x.md", True),
        ("?.md", "xy.md", False),
        ("[0-9]*.md", "2026.md", True),
        ("[!0-9]*.md", "2026.md", False),
        ("[", "[", True),
        ("[z-a]", "z", False),
        ("*\n*", "a\nb", True),
        ("README*", "readme.md", False),
        ("*が*", "memo/か\u3099く.md", True),
        ("*\udcff", "a\udcff", True),
    ],
)
def test_a_pattern_matches_a_path_or_does_not(pattern: str, path: str, matches: bool) -> None:
    assert Glob(pattern).matches(path) is matches


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "matches"),
    [
        ("papers", "public", "papers", True),
        ("papers", "old", "papers", True),
        ("pap*", "public", "papers", True),
        ("old.*", "public", "papers", False),
        ("old.*", "old", "papers", True),
        ("public.papers", "public", "papers", True),
        ("a.b", "public", "a.b", True),
        ("public.a.b", "public", "a.b", True),
        ("Papers", "public", "papers", False),
        ("a/b*", "public", "a/bc", True),
    ],
)
def test_a_pattern_matches_a_table_or_does_not(pattern: str, schema: str, name: str, matches: bool) -> None:
    assert TableGlob(pattern).matches(schema, name) is matches


def test_no_pattern_matches_every_table() -> None:
    assert TableGlob.of(None).matches("public", "papers")


def test_a_name_without_special_characters_is_plain() -> None:
    assert Glob("papers/x.md").is_plain
    assert not Glob("papers/x*").is_plain


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("*.md", ".md"),
        ("todo*list*", "todo"),
        ("[abc]de", ""),
        ("ab[cd]", "ab"),
        ("papers/**", "papers"),
        ('a"bc\\d', "bc"),
        ("e\u0301x", "x"),
        ("Kelvin", "elvin"),
        ("が*", ""),
    ],
)
def test_every_matching_path_contains_the_literal(pattern: str, literal: str) -> None:
    assert Glob(pattern).literal == literal


@pytest.mark.parametrize("pattern", ["", "*" * (LONGEST + 1)])
def test_an_empty_or_endless_pattern_is_refused(pattern: str) -> None:
    for kind in (Glob, TableGlob):
        with pytest.raises(RefnetError) as refused:
            kind(pattern)
        assert refused.value.code is Exit.USAGE
