"""From the network to what is to be read: map, reasons, neighbours, the words of others, authors, topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.browser.watched import PHONE, watched
from tests.browser.world import World

_WORDS = {
    "en-GB": (
        "Map",
        "Read first",
        "cited by",
        "How others cite it",
        "Writes with",
        "Authors and topics",
        "Papers that match",
    ),
    "ja-JP": ("マップ", "最初に読む論文", "件が引用", "引用のされ方", "共著者", "著者と分野", "一致する論文"),
}
#: The labels that cover each other, by their boxes on the screen.
_COVERED = """() => {
    const boxes = [...document.querySelectorAll("svg.network text")].map((one) => [one.textContent, one.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], n) => boxes.slice(n + 1).filter(([, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3).map(([other]) => `${one} / ${other}`));
}"""
#: The most linked paper that has contexts and several authors.
_LINKED = """
SELECT p.id FROM public.papers p WHERE EXISTS (SELECT FROM public.citations WHERE cited_id = p.id AND contexts <> '[]')
ORDER BY (SELECT least(count(*), 20) FROM public.citations WHERE citing_id = p.id)
    + (SELECT least(count(*), 20) FROM public.citations WHERE cited_id = p.id) DESC, p.id LIMIT 1
"""
_THOUSAND = """
WITH made AS (
    INSERT INTO public.papers (title, year, citation_count, provenance, details_fetched_at, fields_of_study)
    SELECT 'Mapped paper ' || g || ' about the similarity of citations', 1990 + g %% 35, g, 'openalex', now(),
        ARRAY['All', (ARRAY['Art', 'Music', 'Physics', 'Biology'])[1 + g %% 4]]
    FROM generate_series(1, 1000) g RETURNING id
), crawl AS (
    INSERT INTO public.crawls (seeds, direction, depth, paper_limit, state, finished_at)
    VALUES ('{mapped}', 'both', 1, 1000, 'succeeded', now()) RETURNING id
), mapped AS (
    INSERT INTO public.crawl_papers SELECT crawl.id, made.id, CASE WHEN made.id %% 250 = 0 THEN 0 ELSE 1 END FROM crawl, made
), cited AS (
    INSERT INTO public.citations (citing_id, cited_id, provenance)
    SELECT a.id, b.id, 'openalex' FROM made a JOIN made b ON b.id < a.id AND (a.id * 7919 + b.id * 104729) %% 64 = 0
) SELECT id FROM crawl
"""


@pytest.fixture
def thousand(world: World) -> Iterator[int]:
    """The id of a crawl with 1,000 papers."""
    yield world.live(_THOUSAND)[0][0]
    world.live("DELETE FROM public.papers WHERE title LIKE 'Mapped paper %%' RETURNING 1")
    world.live("DELETE FROM public.crawls WHERE seeds = '{mapped}' RETURNING 1")


#: The crawl with the most papers: other tests make smaller ones, and the map shows the newest.
_LARGEST = "SELECT crawl_id FROM public.crawl_papers GROUP BY crawl_id ORDER BY count(*) DESC LIMIT 1"


@pytest.mark.parametrize("language", _WORDS)
def test_from_the_network_to_what_to_read_first_its_authors_and_its_topics(
    browser: Browser, url: str, signed_in: Any, world: World, language: str
) -> None:
    tab, first, why, cited, others, both, match = _WORDS[language]
    with watched(browser, url, storage_state=signed_in, locale=language) as found:
        page = found.go("/network")
        page.get_by_role("link", name=tab, exact=True).click()
        page.wait_for_url("**/network/map")
        page = found.go(f"/network/map?crawl={world.live(_LARGEST)[0][0]}")
        assert page.locator("svg.network circle").count() > 50
        assert page.get_by_role("heading", name=first).count() == 1
        assert why in page.locator("main").inner_text()
        page.locator(".legend a").first.click()
        page.wait_for_url("**topic=*")
        assert match in found.text()
        assert 0 < page.locator("svg.network a.hit").count() <= page.locator("svg.network circle").count()
        page.locator("input[name=q]").fill("no such word")
        page.keyboard.press("Enter")
        page.wait_for_url("**no+such+word*")
        assert page.locator("svg.network a.hit").count() == 0
        page = found.go(f"/network/papers/{world.live(_LINKED)[0][0]}")
        assert page.get_by_role("heading", name=cited).count() == 1
        assert page.locator("blockquote a").count() > 0
        page.locator('main a[href^="/network/authors/"]').first.click()
        page.wait_for_url("**/network/authors/*")
        assert others in found.text()
        page.locator('main a[href^="/network?topic="]').first.click()
        page.wait_for_url("**/network?topic=*")
        assert page.locator('main a[href^="/network/papers/"]').count() > 0
        page.get_by_role("link", name=both).click()
        page.wait_for_url("**/network/topics")


@pytest.mark.parametrize(
    "look", [{}, {"viewport": PHONE}, {"locale": "ja-JP"}], ids=["wide", "phone", "japanese"]
)
def test_no_label_of_forty_neighbours_covers_another(
    browser: Browser, url: str, signed_in: Any, world: World, look: dict[str, Any]
) -> None:
    with watched(browser, url, storage_state=signed_in, **look) as found:
        page = found.go(f"/network/papers/{world.live(_LINKED)[0][0]}")
        assert page.locator("svg.network circle").count() > 30
        assert page.evaluate(_COVERED) == []


def test_a_map_has_a_thousand_papers_and_no_label_covers_another(
    browser: Browser, url: str, signed_in: Any, thousand: int
) -> None:
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go(f"/network/map?crawl={thousand}")
        assert page.locator("svg.network circle").count() == 1000
        assert page.evaluate(_COVERED) == []
        assert found.problems() == []
