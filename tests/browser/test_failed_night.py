"""Why did that night fail? From the calendar to the run, its reason and what to do; stopped is not failed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.watched import watched
from tests.browser.world import World

from refnet.core.processes import until

_REASON = {
    "en-GB": "no PostgreSQL server answers at db.lab:5432",
    "ja-JP": "db.lab:5432 の PostgreSQL サーバーが応答しません",
}
_ADVICE = {
    "en-GB": "Start the server, or fix host and port in database_url.",
    "ja-JP": "サーバーを起動するか、database_url のホストとポートを直してください。",
}
_OFF = {
    "en-GB": "No backup was started on this day",
    "ja-JP": "この日はバックアップが開始されていません",
}


@pytest.mark.parametrize("locale", _REASON)
def test_a_failed_night_leads_to_its_run_its_reason_and_what_to_do(
    browser: Browser, url: str, signed_in: Any, locale: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale) as found:
        page = found.go("/timeline?source=database&months=3")
        page.locator(".calendar td.missed a", has_text="✗").click()
        run = page.locator(".runs li").first
        expect(run).to_contain_text(_REASON[locale])
        expect(run).to_contain_text(_ADVICE[locale])
        assert found.problems() == []
        run.get_by_role("link").first.click()
        page.wait_for_url("**/runs/*-database")
        expect(page.get_by_role("alert")).to_contain_text(_REASON[locale])
        expect(page.get_by_role("alert")).to_contain_text(_ADVICE[locale])
        assert found.problems() == []


@pytest.mark.parametrize("locale", _OFF)
def test_a_night_without_a_run_says_so_and_offers_a_backup(
    browser: Browser, url: str, signed_in: Any, locale: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale) as found:
        page = found.go("/timeline?source=database&months=3")
        page.locator(".calendar td.missed a", has_text="∅").click()
        expect(page.locator("main div.notice")).to_contain_text(_OFF[locale])
        assert found.problems() == []
        page.locator("main div.notice button").click()
        page.wait_for_url("**/runs/*")
        expect(page.locator("main .badge.passed").first).to_be_visible(timeout=60_000)


def test_a_stopped_backup_is_stopped_and_not_failed(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    world.hold.touch()
    try:
        with watched(browser, url, storage_state=signed_in) as found:
            page = found.go("/runs")
            page.locator("#start-source").select_option("config")
            page.get_by_role("button", name="Back up", exact=True).click()
            page.wait_for_url("**/runs/*")
            expect(page.locator("main .badge", has_text="running")).to_be_visible()
            assert until(lambda: any((world.folder / "home" / "runs").glob("*.running")), 60)
            page.get_by_role("button", name="Stop").click()
            expect(page.locator("main .badge", has_text="stopped")).to_be_visible(timeout=30_000)
            expect(page.get_by_role("alert")).to_contain_text(
                "stopped by the stop button; no artifact was made"
            )
            assert page.locator("main .badge", has_text="failed").count() == 0
            assert found.problems() == []
    finally:
        world.hold.unlink(missing_ok=True)
    with watched(browser, url, storage_state=signed_in, locale="ja-JP") as found:
        page = found.go("/runs")
        page.locator("#outcome").select_option("stopped")
        page.locator("#kind").select_option("backup")
        page.locator("#by").select_option("browser")
        page.get_by_role("button", name="絞り込む").click()
        newest = page.locator(".runs li").first
        expect(newest).to_contain_text("停止ボタン により停止。バックアップは作成されていません")
        newest.get_by_role("link").first.click()
        expect(page.locator("main dd", has_text="ブラウザー")).to_be_visible()
        assert found.problems() == []


def test_the_list_has_what_the_command_line_and_the_browser_did(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    world.refnet("verify", "config")
    world.refnet("prune")
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go("/runs?by=command+line")
        kinds = page.locator("#kind option").all_inner_texts()
        assert {"backup", "verify", "copy", "restore", "undo", "prune", "drill", "crawl"} <= {*kinds}
        for kind in ("verify", "prune", "crawl", "copy", "drill"):
            page.locator("#kind").select_option(kind)
            page.get_by_role("button", name="Filter").click()
            first = page.locator(".runs li").first
            expect(first).to_contain_text(re.compile(rf"done[\s\S]*{kind}[\s\S]*command line \("))
        assert found.problems() == []
