"""The ids that a person may give, and the bounds of a crawl."""

from __future__ import annotations

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.network.crawl_work import _ids_of, _with_asked
from refnet.network.crawls import Direction, order, seed_id
from refnet.network.papers import FoundPaper

SHA = "649def34f8be52c8b66281af98ae884c09aef38b"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (SHA, SHA),
        (SHA.upper(), SHA),
        ("10.18653/V1/N18-3011", "DOI:10.18653/v1/n18-3011"),
        ("doi:10.18653/v1/N18-3011", "DOI:10.18653/v1/n18-3011"),
        (" https://doi.org/10.18653/v1/N18-3011 ", "DOI:10.18653/v1/n18-3011"),
        ("2106.15928", "ARXIV:2106.15928"),
        ("arXiv:2106.15928v2", "ARXIV:2106.15928"),
        ("https://arxiv.org/abs/2106.15928", "ARXIV:2106.15928"),
        ("corpusid:215416146", "CorpusId:215416146"),
        ("MAG:112218234", "MAG:112218234"),
        ("acl:W12-3903", "ACL:W12-3903"),
        ("PMID:19872477", "PMID:19872477"),
        ("PMCID:2323736", "PMCID:2323736"),
        ("url:https://arxiv.org/abs/x", "URL:https://arxiv.org/abs/x"),
        ("https://dl.acm.org/doi/abs/10.1145/3292500.33?x=1", "DOI:10.1145/3292500.33"),
        ("https://www.tandfonline.com/doi/full/10.1080/1/pdf", "DOI:10.1080/1"),
        ("https://example.org/doi/foo", "URL:https://example.org/doi/foo"),
        ("https://www.semanticscholar.org/paper/x", "URL:https://www.semanticscholar.org/paper/x"),
    ],
)
def test_every_form_of_an_id_that_the_api_accepts_is_understood(given: str, asked: str) -> None:
    assert seed_id(given) == asked


@pytest.mark.parametrize(
    "given",
    ["", "x", "DOI:", "DOI:10.1/a b", "ISBN:1", "10.1/\n", "MAG:\x1b[2J", "ACL:" + "x" * 2000, "\ud800"],
)
def test_what_is_not_an_id_is_refused(given: str) -> None:
    with pytest.raises(RefnetError, match="is not an id of a paper") as caught:
        seed_id(given)
    assert caught.value.code is Exit.USAGE
    assert caught.value.message.isprintable()


def test_an_id_that_is_given_twice_is_one_seed_and_the_limit_counts_seeds() -> None:
    wanted = order(["10.1/a", "DOI:10.1/A", "10.1/b"], Direction.BOTH, 2, 2)
    assert wanted.seeds == ("DOI:10.1/a", "DOI:10.1/b")
    assert wanted.to_json() == {"seeds": wanted.seeds, "direction": "both", "depth": 2, "limit": 2}
    with pytest.raises(RefnetError, match="2 seeds are more than a crawl of at most 1 papers"):
        order(["10.1/a", "10.1/b"], Direction.BOTH, 2, 1)


def test_an_id_that_was_merged_into_another_paper_is_written_with_it() -> None:
    paper = FoundPaper("semantic_scholar", {"semantic_scholar": "b" * 40, "corpus_id": "7"}, detailed=True)
    asked, alias = _with_asked("a" * 40, paper)
    assert asked is paper
    assert alias.ids == {"semantic_scholar": "a" * 40, "corpus_id": "7"}
    assert [*_with_asked("b" * 40, paper)] == [*_with_asked("DOI:10.1/x", paper)] == [paper]
    assert _ids_of("PMID:3") == {"pubmed": "3"}
    assert _ids_of("openalex:W1") == {"openalex": "W1"}
