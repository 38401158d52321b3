"""What is kept of a provider's texts, titles and ids."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.network.papers import clean, normalized, title_key


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  A\ttitle\n in  two\r\nlines ", "A title in two lines"),
        ("NUL\0 and \ud800 and \x1b[2J", "NUL and and [2J"),
        ("e\u0301", "é"),
        ("\u202eturned\u202c", "turned"),
        ("عنوان 👩\u200d🔬", "عنوان 👩\u200d🔬"),
        ("x" * 600, "x" * 500),
        ("\0", ""),
    ],
)
def test_a_text_is_one_line_of_visible_characters(text: str, kept: str) -> None:
    assert clean(text, 500) == kept


def test_an_abstract_keeps_its_lines() -> None:
    assert clean("One. \r\n\r\n  Two\tand\u2028three. ", 100, lines=True) == "One.\nTwo and\nthree."


@given(st.text(st.characters(exclude_categories=[])), st.integers(1, 50), st.booleans())
def test_every_text_that_is_kept_can_be_stored(text: str, limit: int, lines: bool) -> None:
    kept = clean(text, limit, lines=lines)

    assert len(kept) <= limit
    assert "\0" not in kept
    assert kept.encode().decode() == kept
    assert kept == kept.strip()
    assert unicodedata.is_normalized("NFC", kept)
    assert clean(kept, limit, lines=lines) == kept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Computing Machinery and Intelligence.", "COMPUTING  machinery / and: intelligence"),
        ("Graph-based (re)ranking", "graph based re ranking"),
        ("Ｆｕｌｌ width", "full width"),
        ("Über_cool", "über cool"),
    ],
)
def test_titles_that_differ_in_case_and_punctuation_have_one_key(one: str, other: str) -> None:
    assert title_key(one) == title_key(other) is not None


def test_titles_that_differ_at_their_end_have_two_keys() -> None:
    assert title_key("x" * 2000 + "a") != title_key("x" * 2000 + "b")


@pytest.mark.parametrize(("title", "key"), [("", None), (" \0 ", None), ("???", "???")])
def test_the_key_of_a_title_without_words(title: str, key: str | None) -> None:
    assert title_key(title) == key


@given(st.text(st.characters(exclude_categories=[])) | st.text("文🜁ﷺ", min_size=900))
def test_every_key_fits_into_an_index(title: str) -> None:
    assert len((title_key(title) or "").encode()) <= 1024


SHA = "2d5673caa9e6af3a7b82a43f19ee920992db07ad"


@pytest.mark.parametrize(
    ("scheme", "value", "kept"),
    [
        ("doi", "10.1093/MIND/LIX.236.433", "10.1093/mind/lix.236.433"),
        ("doi", "https://doi.org/10.1000/ABC", "10.1000/abc"),
        ("doi", "http://dx.doi.org/10.1000/abc", "10.1000/abc"),
        ("doi", "doi:10.1000/abc", "10.1000/abc"),
        ("doi", "10.1000", None),
        ("doi", "https://evil.example/10.1000/abc", None),
        ("doi", "10.1000/a b", None),
        ("doi", "10.1000/İ", None),
        ("doi", "10.1000/" + "a" * 2000, None),
        ("arxiv", "1706.03762v5", "1706.03762"),
        ("arxiv", "arXiv:1706.03762", "1706.03762"),
        ("arxiv", "https://arxiv.org/abs/cs.LG/0701001v2", "cs.lg/0701001"),
        ("arxiv", "17", None),
        ("corpus_id", 14636783, "14636783"),
        ("corpus_id", "14636783", "14636783"),
        ("corpus_id", "CorpusId:014636783", "14636783"),
        ("corpus_id", True, None),
        ("corpus_id", -1, None),
        ("corpus_id", 0, None),
        ("mag", "000", None),
        ("corpus_id", 1 << 64, None),
        ("corpus_id", "²", None),
        ("semantic_scholar", SHA.upper(), SHA),
        ("semantic_scholar", SHA[:-1], None),
        ("pmc", "PMC123", "123"),
        ("pubmed", "https://pubmed.ncbi.nlm.nih.gov/42/", "42"),
        ("openalex", "https://openalex.org/W42", "W42"),
        ("openalex", "A42", None),
        ("dblp", "journals/x/Turing50", "journals/x/Turing50"),
        ("dblp", "a\0b", None),
        ("dblp", "\ud800", None),
        ("dblp", "", None),
        ("acl", 12.5, None),
        ("acl", None, None),
        ("acl", ["P19-1"], None),
    ],
)
def test_ids_have_one_form(scheme: str, value: object, kept: str | None) -> None:
    assert normalized(scheme, value) == kept
