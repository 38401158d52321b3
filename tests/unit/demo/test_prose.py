"""The bulk of made-up texts is the same on every machine, and every cut of it is within bounds."""

from __future__ import annotations

import gzip
import hashlib

import pytest

from refnet.demo.sample import Prose


@pytest.fixture(scope="module")
def prose() -> Prose:
    return Prose(1, 300_000)


def test_the_same_seed_makes_the_same_text_on_every_python(prose: Prose) -> None:
    assert (
        hashlib.sha256(prose.text.encode()).hexdigest()
        == "cfee17b1b7b4c84e1409687554702dbab139b45ff1ec5d11ccac5cef4806bb15"
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


@pytest.mark.parametrize("length", [1, 700, 5_000])
def test_an_abstract_is_of_one_paper(prose: Prose, length: int) -> None:
    for paper in (0, 50, len(prose) - 1):
        abstract = prose.abstract(paper, length)
        assert abstract.endswith(".")
        assert len(abstract) < max(length, 400)
        assert prose.abstract(paper, 9_000).startswith(abstract)
    assert " ".join(prose.abstract(paper, 9_000) for paper in range(len(prose))) == prose.text


def test_dense_text_is_about_as_compressible_as_real_abstracts(prose: Prose) -> None:
    dense = Prose(1, 600_000, dense=True)
    text = "".join(dense.abstract(paper, 1_150) for paper in range(len(dense))).encode()
    assert 2.7 < len(text) / len(gzip.compress(text, 6)) < 3.3


@pytest.mark.parametrize("dense", [True, False])
def test_nothing_in_it_needs_escaping_in_copy_or_json(dense: bool) -> None:
    prose = Prose(1, 300_000, dense=dense)
    assert not set(prose.text + "".join(prose.titles)) & set('\\\t\n\r"[]{}|')
