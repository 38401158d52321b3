"""A backup in the browser: started, watched live to its end, and the same without scripts."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Browser, Response, expect
from tests.browser.test_restore import ended
from tests.browser.watched import watched
from tests.browser.world import World

_SECONDS = 60


def test_a_backup_is_watched_live_from_its_start_to_its_artifact(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    kinds: list[str] = []

    def note(answer: Response) -> None:
        kinds.append(answer.headers.get("content-type", ""))

    world.hold.touch()
    try:
        with watched(browser, url, storage_state=signed_in) as found:
            page = found.go("/runs")
            page.on("response", note)
            page.locator("#start-source").select_option("obsidian")
            page.get_by_role("button", name="Back up", exact=True).click()
            page.wait_for_url("**/runs/*")
            expect(page.locator("main .badge", has_text="running")).to_be_visible()
            page.evaluate("window.unchanged = true")
            assert found.problems() == []
            world.hold.unlink()
            ended(page)
            assert page.evaluate("window.unchanged")
            assert any(kind.startswith("text/event-stream") for kind in kinds)
            expect(page.locator('main a[href^="/artifacts/obsidian/vault_"]').first).to_be_visible()
            expect(page.locator("main .badge", has_text="proven").first).to_be_visible()
            assert found.problems() == []
    finally:
        world.hold.unlink(missing_ok=True)


def test_a_second_backup_of_a_source_leads_to_the_one_that_runs(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    world.hold.touch()
    try:
        with watched(browser, url, storage_state=signed_in, wrong=True) as found:
            runs = []
            for _ in range(2):
                page = found.go("/runs")
                page.locator("#start-source").select_option("config")
                page.get_by_role("button", name="Back up", exact=True).click()
                runs.append(page.url)
            page.get_by_role("link", name="Show that run").click()
            assert page.url == runs[0]
            world.hold.unlink()
            ended(page)
            assert not [one for one in found.wrong if "409" not in one], found.wrong
    finally:
        world.hold.unlink(missing_ok=True)


def test_a_backup_needs_no_scripts(browser: Browser, url: str, signed_in: Any) -> None:
    with watched(browser, url, storage_state=signed_in, java_script_enabled=False) as found:
        page = found.go("/")
        page.locator("article", has=page.get_by_role("heading", name="config")).get_by_role("button").click()
        page.wait_for_url("**/runs/*")
        end = time.monotonic() + _SECONDS
        while not page.locator("main .badge", has_text="done").count():
            assert time.monotonic() < end, found.text()
            page.reload()
