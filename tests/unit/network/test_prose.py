"""Made-up prose is the same on every machine, and every cut of it is within bounds."""

from __future__ import annotations

import hashlib

import pytest

from refnet.network.prose import Prose


@pytest.fixture(scope="module")
def prose() -> Prose:
    return Prose(1, 300_000)


def test_the_same_seed_makes_the_same_text_on_every_python(prose: Prose) -> None:
    assert (
        hashlib.sha256(prose.text.encode()).hexdigest()
        == "190c098a8cc310abb237909d17223f8eb186f2a97bcccd04849c404f430aa1aa"
    )


def test_another_seed_makes_another_text(prose: Prose) -> None:
    assert Prose(2, 300_000).text[:200] != prose.text[:200]


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999999])
@pytest.mark.parametrize("length", [1, 150, 5_000, 200_000])
def test_a_passage_is_whole_sentences_of_about_the_length(prose: Prose, at: float, length: int) -> None:
    passage = prose.passage(at, length)
    assert passage[0] == passage[0].upper()
    assert passage.endswith(".")
    assert abs(len(passage) - length) < 400


@pytest.mark.parametrize("at", [0.0, 0.25, 0.999999])
def test_a_title_and_a_name_are_words(prose: Prose, at: float) -> None:
    assert 0 < len(prose.title(at, 80)) <= 80
    assert prose.name(at).istitle()


def test_nothing_in_it_needs_escaping_in_copy_or_json(prose: Prose) -> None:
    assert prose.text.isascii()
    assert not set(prose.text) & set('\\\t\n\r"')
