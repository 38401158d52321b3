"""One file, and one table, of a backup: found, seen, its versions, and taken back, from the first click to the result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser.test_restore import confirm
from tests.browser.watched import PHONE, watched
from tests.browser.world import World

_SAYS = {
    "en-GB": {
        "timeline": "Timeline", "restore file": "Restore this alone…", "restore table": "Restore this table alone…",
        "search": "Search", "run": "Run the query", "restore": "Restore", "difference": "Difference from the version before",
        "meaning": "It was restored, and all of its content was compared.", "merge": "mode merge",
    },
    "ja-JP": {
        "timeline": "タイムライン", "restore file": "これだけを復元…", "restore table": "このテーブルだけを復元…",
        "search": "検索", "run": "問い合わせを実行", "restore": "復元", "difference": "一つ前のバージョンとの差分",
        "meaning": "復元し、内容をすべて照合しました。", "merge": "モード merge",
    },
}  # fmt: skip


def newest(page: Page, says: dict[str, str], source: str) -> None:
    """From the overview to the newest artifact of `source`, by clicks."""
    page.locator(f'main a[href="/timeline?source={source}"]').click()
    page.locator(".calendar td.passed a").last.click()
    page.locator(f'main a[href^="/artifacts/{source}/"]').first.click()
    expect(page.locator("h1")).to_be_visible()
    assert says["restore"] in page.locator("main .primary").inner_text()


@pytest.mark.parametrize("locale", _SAYS)
def test_a_note_is_found_seen_compared_and_taken_back(
    browser: Browser, url: str, signed_in: Any, world: World, locale: str
) -> None:
    says = _SAYS[locale]
    note = next(one for one in sorted((world.folder / "vault").rglob("*.md")) if one.stat().st_size)
    before, path = note.read_bytes(), note.relative_to(world.folder / "vault").as_posix()
    note.unlink()
    try:
        with watched(browser, url, storage_state=signed_in, locale=locale) as found:
            page = found.go("/")
            newest(page, says, "obsidian")
            page.locator("main input[type=search]").fill(note.stem.upper())
            page.get_by_role("button", name=says["search"], exact=True).click()
            page.locator("#contents tbody a", has_text=path).first.click()
            expect(page.locator("#content + *")).to_be_visible()
            expect(page.locator("#versions tbody tr").last).to_be_visible(timeout=60_000)
            assert found.problems() == []
            assert found.sideways() == 0
            with page.expect_download() as got:
                page.locator("main a[download]").click()
            assert got.value.path().read_bytes() == before
            page.get_by_role("link", name=says["restore file"]).click()
            assert path in page.locator("main pre").inner_text() + found.text()
            confirm(page, says["restore"], "obsidian")
            page.wait_for_url("**/restore/runs/*")
            expect(page.locator("main .badge.passed").first).to_be_visible(timeout=60_000)
        assert note.read_bytes() == before
    finally:
        note.write_bytes(before)


@pytest.mark.parametrize("locale", _SAYS)
def test_a_table_is_sampled_counted_queried_and_its_rows_taken_back(
    browser: Browser, url: str, signed_in: Any, world: World, locale: str
) -> None:
    says, before = _SAYS[locale], world.citations()
    world.lose()
    assert world.citations() < before
    with watched(browser, url, storage_state=signed_in, locale=locale) as found:
        page = found.go("/")
        newest(page, says, "database")
        page.locator("#contents a", has_text="public.citations").click(timeout=60_000)
        assert page.locator("#sample + * tbody tr, section:has(#sample) tbody tr").count() > 10
        expect(page.locator("#versions tbody tr").first).to_be_visible(timeout=60_000)
        page.locator("#sql").fill("SELECT count(*) AS many FROM public.citations")
        page.get_by_role("button", name=says["run"]).click()
        expect(page.locator("section:has(#query) tbody td")).to_have_text(str(before), timeout=60_000)
        assert found.problems() == []
        assert found.sideways() == 0
        page.locator("select[name=mode]").select_option("merge")
        page.get_by_role("button", name=says["restore table"]).click()
        assert says["merge"] in found.text()
        confirm(page, says["restore"])
        page.wait_for_url("**/restore/runs/*")
        expect(page.locator("main .badge.passed").first).to_be_visible(timeout=60_000)
    assert world.citations() == before


def test_the_versions_of_a_note_lead_to_their_difference(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    listed = json.loads(world.refnet("list", "obsidian", "--json"))["artifacts"]
    changed = json.loads(world.refnet("diff", listed[0]["name"], listed[-1]["name"], "--json", code=4))[
        "changed"
    ]
    path = next(one["name"] for one in changed if one["name"].endswith(".md"))
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go(f"/artifacts/obsidian/{listed[-1]['name']}?search={path}")
        page.locator("#contents tbody a").first.click()
        page.get_by_role("link", name=_SAYS["en-GB"]["difference"]).first.click(timeout=60_000)
        expect(page.locator("main ins, main del").first).to_be_visible()
        assert found.problems() == []


@pytest.mark.parametrize("locale", _SAYS)
def test_a_badge_says_what_it_means_under_the_pointer_and_with_the_focus(
    browser: Browser, url: str, signed_in: Any, world: World, locale: str
) -> None:
    name = json.loads(world.refnet("list", "obsidian", "--json"))["artifacts"][-1]["name"]
    shown = 'e => getComputedStyle(e, "::after").content'
    with watched(browser, url, storage_state=signed_in, locale=locale, viewport=PHONE) as found:
        badge = found.go(f"/artifacts/obsidian/{name}").locator("main .badge").first
        assert badge.evaluate(shown) == "none"
        badge.hover()
        assert _SAYS[locale]["meaning"] in badge.evaluate(shown)
        found.page.mouse.move(0, 0)
        badge.focus()
        assert _SAYS[locale]["meaning"] in badge.evaluate(shown)
        assert found.sideways() == 0


def test_a_page_that_cannot_be_shown_leads_back(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    name = json.loads(world.refnet("list", "obsidian", "--json"))["artifacts"][-1]["name"]
    with watched(browser, url, storage_state=signed_in, wrong=True) as found:
        page = found.go(f"/artifacts/obsidian/{name}")
        page.evaluate(f"location.href = '/artifacts/obsidian/{name}/file?path=nowhere'")
        page.get_by_role("link", name="The page before").click()
        expect(page.locator("h1")).to_have_text(name)
        assert found.go("/artifacts/obsidian/nothing", 400).get_by_role("alert").count() == 1
