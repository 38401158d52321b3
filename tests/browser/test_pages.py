"""Every page: nothing that axe calls serious, no scrolling sideways, readable without scripts, small."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Response, expect
from tests.browser.watched import DESKTOP, PAGES, PHONE, Watched, watched
from tests.browser.world import World

_LOOKS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "is_mobile": True, "has_touch": True},
}
#: Bytes of all scripts and style sheets of the overview, uncompressed.
_BAR = 150_000


@pytest.fixture(scope="module")
def paths(browser: Browser, url: str, signed_in: Any, world: World) -> list[str]:
    """Every page, and one page of each kind that a list leads to."""
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    names = [
        next(one["name"] for one in reversed(listed) if one["source"] == source)
        for source in ("database", "obsidian")
    ]
    with watched(browser, url, storage_state=signed_in) as found:
        return [
            *PAGES,
            f"/artifacts/database/{names[0]}",
            f"/artifacts/obsidian/{names[1]}",
            f"/restore/plan?source=database&artifact={names[0]}",
            _first(found, "/network", "/network/papers/"),
            "/network/map",
            "/network/topics",
            _first(found, "/network/topics", "/network/authors/"),
            _first(found, "/runs", "/runs/"),
        ]


def _first(found: Watched, page: str, start: str) -> str:
    """The first link of `page` that starts so."""
    link = found.go(page).locator(f'main a[href^="{start}"]').first.get_attribute("href")
    assert link
    return link


@pytest.mark.parametrize("look", _LOOKS)
def test_axe_finds_nothing_serious_and_no_page_is_wider_than_the_window(
    browser: Browser, url: str, signed_in: Any, paths: list[str], look: str
) -> None:
    problems = []
    with watched(browser, url, storage_state=signed_in, **_LOOKS[look]) as found:
        for path in paths:
            found.go(path)
            problems += [f"{path}: {one}" for one in found.problems()]
            if wider := found.sideways():
                problems.append(f"{path}: {wider} px wider than the window")
    assert problems == []


def test_every_page_reads_without_scripts(
    browser: Browser, url: str, signed_in: Any, paths: list[str]
) -> None:
    problems = []
    with watched(browser, url, storage_state=signed_in, java_script_enabled=False) as found:
        for path in paths:
            page = found.go(path)
            if page.locator("h1").count() != 1 or len(found.text()) < 100:
                problems.append(path)
    assert problems == []


def test_every_page_speaks_japanese_by_the_browser_and_by_the_switch(
    browser: Browser, url: str, signed_in: Any, paths: list[str]
) -> None:
    with watched(browser, url, storage_state=signed_in, locale="ja-JP") as found:
        said = {path: (found.go(path).locator("html").get_attribute("lang"), found.text()) for path in paths}
    assert {
        path: language for path, (language, text) in said.items() if language != "ja" or not _kana(text)
    } == {}
    with watched(browser, url, storage_state=signed_in) as found:
        found.go("/stores")
        _choose(found, "日本語")
        assert found.page.locator("html[lang=ja]").count() == 1
        assert found.page.url == f"{url}/stores"
        _choose(found, "English")
        assert found.page.locator("html[lang=en]").count() == 1


def _choose(found: Watched, name: str) -> None:
    """Click a button that loads the page again, and wait for that."""
    with found.page.expect_navigation():
        found.page.get_by_role("button", name=name).click()


def _kana(text: str) -> bool:
    return any("ぁ" <= letter <= "ヿ" for letter in text)


def test_the_theme_is_that_of_the_system_until_one_is_chosen(
    browser: Browser, url: str, signed_in: Any
) -> None:
    def darkness(found: Watched) -> str:
        return str(found.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with watched(browser, url, storage_state=signed_in, color_scheme="dark") as found:
        found.go("/settings")
        dark = darkness(found)
        _choose(found, "Light")
        light = darkness(found)
        assert light != dark
        _choose(found, "Dark")
        assert darkness(found) == dark


def test_the_overview_sends_little_and_asks_no_other_host(browser: Browser, url: str, signed_in: Any) -> None:
    sent: dict[str, int] = {}

    def count(answer: Response) -> None:
        if answer.request.resource_type in ("script", "stylesheet"):
            sent[answer.url] = len(answer.body())

    with watched(browser, url, storage_state=signed_in, viewport=DESKTOP) as found:
        found.page.on("response", count)
        found.go("/")
        found.page.wait_for_load_state("networkidle")
        assert sum(sent.values()) < _BAR, sent
        assert len(sent) >= 2


def test_a_page_whose_live_part_does_not_arrive_says_so_until_it_does(
    browser: Browser, url: str, signed_in: Any
) -> None:
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go("/")
        again = "htmx.ajax('GET', '/overview/part', {target: '#overview', swap: 'outerMorph'})"
        page.route("**/overview/part", lambda route: route.abort())
        page.evaluate(again)
        expect(page.locator("#stale")).to_be_visible()
        page.unroute("**/overview/part")
        page.evaluate(again)
        expect(page.locator("#stale")).to_be_hidden()
        found.wrong.clear()  # the browser reports the request that was ended
