"""Made-up papers have complete sentences, and differ from each other."""

from __future__ import annotations

import re
from itertools import chain
from random import Random

import pytest

from refnet.demo import abstracts, vocabulary
from refnet.demo.abstracts import AREAS, PaperText, compose, fields, person, venues


@pytest.fixture(scope="module")
def papers() -> list[PaperText]:
    return [compose(Random(f"test {number}"), number % AREAS) for number in range(300)]


def test_papers_of_a_vault_differ(papers: list[PaperText]) -> None:
    assert len({paper.title.lower() for paper in papers}) > 295
    assert len({paper.abstract() for paper in papers}) == 300
    openings = [" ".join(paper.title.lower().split()[:3]) for paper in papers]
    assert max(map(openings.count, openings)) < 15


def test_titles_and_abstracts_are_written_out(papers: list[PaperText]) -> None:
    for number, paper in enumerate(papers):
        assert 8 < len(paper.title) < 160
        assert 4 <= len(paper.sentences) <= 7
        for text in (*paper.sentences, paper.short, paper.cited(Random(number))):
            assert re.fullmatch(r"[A-Z0-9ÖŠŽ].*[^ .,;]\.", text), text
            assert not re.search(r"[][{}|\"\\\n\t]|  | [,.;:)]|\( |,,|\.\.", text), text
        assert paper.values["topic"].lower() in paper.abstract().lower()


def test_every_pattern_can_be_said() -> None:
    listed = [one for name, one in vars(abstracts).items() if name[0].isupper() and isinstance(one, tuple)]
    every = [*chain.from_iterable(listed), *(title for area in vocabulary.AREAS for title in area.titles)]
    assert len(every) > 100
    values = compose(Random(1), 0).values
    for pattern in every:
        for seed in range(20):
            said = abstracts._said(pattern, values, Random(seed))
            assert not set(said) & set("[]{}|"), pattern


@pytest.mark.parametrize("area", range(AREAS))
def test_every_venue_says_that_it_is_a_sample(area: int) -> None:
    assert all(
        one.name.endswith(" (sample)") and one.kind in {"journal", "conference"} for one in venues(area)
    )
    assert fields(area)


def test_names_come_from_many_places() -> None:
    names = {person(Random(number)) for number in range(300)}
    assert len(names) > 280
    assert all(len(name.split()) == 2 for name in names)
