"""Without a mouse: every element is reached and seen, and a backup and a restore are started by keys alone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.keyboard import reach, walk
from tests.browser.test_restore import ended, plan_of
from tests.browser.watched import PAGES, watched
from tests.browser.world import TOKEN, World


@pytest.mark.parametrize("path", PAGES)
def test_tab_reaches_every_element_of_a_page_and_shows_where_it_is(
    browser: Browser, url: str, signed_in: Any, path: str
) -> None:
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go(path)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        found.go(path)
        assert walk(page) == []


def test_sign_in_backup_and_restore_need_no_mouse(browser: Browser, world: World) -> None:
    with world.serving() as url, watched(browser, url) as found:
        page = found.go("/")
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        reach(page, page.get_by_role("button", name="Back up").first)
        page.keyboard.press("Enter")
        ended(page)
        found.go(plan_of(world))
        reach(page, page.locator("#typed"))
        page.keyboard.type("refnet")
        page.keyboard.press("Enter")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
