"""Crawls in the browser: from the form to the papers, stopped and continued, on an empty installation too."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.browser.watched import watched
from tests.browser.world import World
from tests.memory import in_memory

from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running

#: A crawl is a process, which starts in about a second; the page asks every three seconds.
_SECONDS = 60_000
_SEEDS = FakeGraph(900, 9000).seed_ids
_TEXTS = {
    "en-GB": ("Start a crawl", "Stop", "Resume", "Rank the papers"),
    "ja-JP": ("クロールを開始", "停止", "再開", "順位を計算"),
}


def _of(page: Page, seed: str) -> Locator:
    """The row of the newest crawl with `seed`."""
    return page.locator("#work tr", has_text=seed).first


@pytest.mark.parametrize("locale", _TEXTS)
def test_a_crawl_goes_from_the_form_to_its_papers_is_stopped_and_continued(
    browser: Browser, url: str, signed_in: Any, world: World, locale: str
) -> None:
    start, stop, go_on, rank = _TEXTS[locale]
    seed = _SEEDS[6 + [*_TEXTS].index(locale)]
    with watched(browser, url, storage_state=signed_in, locale=locale) as found:
        page = found.go("/network/crawls")
        page.locator("#seeds").fill(seed)
        page.locator("#limit").fill("12")
        page.get_by_role("button", name=start).click()
        expect(page.locator('main [role="status"].passed')).to_be_visible()
        expect(_of(page, seed).locator(".badge.passed")).to_be_visible(timeout=_SECONDS)
        assert found.problems() == []
        (number,) = world.live("SELECT max(id) FROM crawls")[0]
        again = f"INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES (ARRAY['{seed}'], 'both', 1, 15) RETURNING id"
        (waiting,) = world.live(again)[0]
        assert waiting == number + 1
        page = found.go("/network/crawls")
        _of(page, seed).get_by_role("button", name=stop).click()
        page.wait_for_url("**/network/crawls?stopped=*")
        assert world.live("SELECT state FROM crawls WHERE id = %s", waiting) == [("cancelled",)]
        _of(page, seed).get_by_role("button", name=go_on).click()
        page.wait_for_url("**/network/crawls?started=*")
        expect(_of(page, seed).locator(".badge.passed")).to_be_visible(timeout=_SECONDS)
        page.get_by_role("button", name=rank).click()
        page.wait_for_url("**/runs/*")
        expect(page.locator("main .badge.passed")).to_be_visible(timeout=_SECONDS)
        assert found.problems() == []


@pytest.fixture
def empty() -> Iterator[World]:
    """A home without anything, and a provider; at the end its database is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    folder.chmod(0o711)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "PG"))}
    with running(FakeGraph(60, 300, 1)) as fake:
        variables = {
            "REFNET_HOME": str(folder / "home"),
            "REFNET_BACKUP_DIR": str(folder / "backups"),
            "REFNET_LOG_FOLDER": "none",
            "REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url,
            "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url,
            "REFNET_CRAWL_REQUESTS_PER_SECOND": "0",
        }
        world = World(folder, kept | variables)
        yield world
        world.refnet("postgres", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_an_empty_installation_offers_the_first_crawl_which_makes_the_database(
    browser: Browser, empty: World
) -> None:
    seed = FakeGraph(60, 300, 1).seed_ids[0]
    with empty.serving() as url, watched(browser, url) as found:
        page = found.go("/")
        page.get_by_role("link", name="Network").click()
        expect(page.get_by_text("No paper is collected yet.")).to_be_visible()
        assert found.problems() == []
        page.locator("#seeds").fill(seed)
        page.get_by_role("button", name="Start a crawl").click()
        page.wait_for_url("**/network/crawls?started=0")
        expect(page.locator("#work article .badge.passed", has_text="done")).to_be_visible(timeout=_SECONDS)
        page = found.go("/network")
        assert page.locator("main tbody tr").count() > 1
