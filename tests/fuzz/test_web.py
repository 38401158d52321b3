"""Query parameters of the web API, the form of a crawl, ids and neighbours of papers: a value or one clear error."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.fuzz.harness import ECHO, fuzzed, outcome

from refnet.network.crawls import DEEPEST
from refnet.web import papers
from refnet.web.pages import network
from refnet.web.work import SEEDS

_NAMES = [*papers.PapersQuery.model_fields, "x"]


@given(
    st.dictionaries(
        st.sampled_from(_NAMES),
        st.text() | st.integers().map(str) | st.sampled_from(["true", "1e9", "-1.7", "12.345"]),
    )
)
@fuzzed
def test_query_parameters(given_: dict[str, str]) -> None:
    asked = outcome(lambda: papers.PapersQuery.model_validate(given_), ValidationError, longest=20_000)
    if asked is not None:
        assert 1 <= asked.limit <= papers.MOST
        values = [value for value in asked.filters.values() if isinstance(value, str)]
        assert not any("\x00" in value for value in values)
        query = papers._list(asked.filters, after=asked.cursor is not None)
        assert not any(len(value) > 12 and value in query for value in values)


_FIELD = st.text(max_size=60) | st.sampled_from(
    ["10.1/a", "arXiv:1706.03762 10.1/b", "0", "7", "9" * 5000, "both"]
)


@given(st.fixed_dictionaries(dict.fromkeys(network._EMPTY, _FIELD)))
@fuzzed
def test_the_form_of_a_crawl(wanted: dict[str, str]) -> None:
    asked = outcome(lambda: network._order(wanted), longest=ECHO)
    if asked is not None:
        assert 1 <= len(asked.seeds) <= SEEDS
        assert 0 <= asked.depth <= DEEPEST


@given(st.sampled_from([*network._SITES, "url"]), st.text() | st.from_regex(r"\A10\.[0-9]{1,4}/[!-~]+\Z"))
@fuzzed
def test_an_external_id_leads_to_its_own_site_or_nowhere(scheme: str, value: str) -> None:
    link = network.link_of(scheme, value)
    if link is not None:
        assert link.startswith(network._SITES[scheme])
        assert urlsplit(link).hostname == urlsplit(network._SITES[scheme]).hostname
        assert not set(link) & set("\"'<>\\ \n#?")


_PAPER = st.fixed_dictionaries(
    {
        "id": st.integers(1, 60),
        "title": st.none() | st.text(),
        "year": st.none() | st.integers(1000, 2999),
        "citation_count": st.none() | st.integers(0, 2**31 - 1),
    }
)
_SIDE = st.lists(_PAPER, max_size=50, unique_by=lambda one: one["id"])


@given(_PAPER, _SIDE, _SIDE, st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=400))
@fuzzed
def test_every_neighbourhood_is_a_picture_within_bounds(
    seed: dict[str, Any], references: list[Any], citing: list[Any], citations: list[tuple[int, int]]
) -> None:
    paper = seed | {"references": {"papers": references}, "citations": {"papers": citing}}
    drawn = network.picture(paper, citations)
    assert len(drawn.nodes) <= network.NEIGHBOURS + 1
    assert len(drawn.lines) <= network.LINES
    assert all(0 < one.x < network.WIDTH and 0 < one.y < drawn.height for one in drawn.nodes)
