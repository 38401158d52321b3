"""A restore in the browser: the plan, the name, live progress, the result, its undo; and a browser that closes."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Browser, Page, expect
from tests.browser.watched import Watched, watched
from tests.browser.world import World


def plan_of(world: World) -> str:
    """The path of the plan of the newest artifact of the database."""
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    names = [one["name"] for one in listed if one["source"] == "database"]
    return f"/restore/plan?source=database&artifact={names[-1]}"


def confirm(page: Page, verb: str, name: str = "refnet") -> None:
    """Type the name, and start."""
    page.locator("#typed").fill(name)
    page.get_by_role("button", name=verb, exact=True).click()


def ended(page: Page) -> None:
    """The page shows, without a reload, that the run is done."""
    expect(page.locator("main .badge", has_text="done").first).to_be_visible(timeout=60_000)


def test_a_restore_needs_the_name_is_watched_to_its_result_and_undone(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    before = world.citations()
    world.lose()
    lost = world.citations()
    assert lost < before
    with watched(browser, url, storage_state=signed_in, wrong=True) as found:
        page = found.go(plan_of(world))
        assert "create a database beside refnet" in found.text()
        assert found.problems() == []
        confirm(page, "Restore", "refnett")
        assert "Nothing was started" in page.get_by_role("alert").inner_text()
        confirm(page, "Restore")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
        assert world.citations() == before
        page.get_by_role("link", name="Undo").click()
        confirm(page, "Undo")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
        assert world.citations() == lost
        assert not [one for one in found.wrong if "400" not in one], found.wrong


def test_a_restore_survives_its_browser_and_a_second_one_is_refused(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    world.hold.touch()
    try:
        with watched(browser, url, storage_state=signed_in) as found:
            found.go(plan_of(world))
            confirm(found.page, "Restore")
            found.page.wait_for_url("**/restore/runs/*")
        with watched(browser, url, storage_state=signed_in) as found:
            page = found.go(plan_of(world))
            assert "is already running" in page.get_by_role("alert").inner_text()
            assert page.locator("#typed").count() == 0
            found.go("/restore")
            page.locator("main tr", has_text="running").get_by_role("link").first.click()
            _still_running(found)
            world.hold.unlink()
            ended(page)
    finally:
        world.hold.unlink(missing_ok=True)


def _still_running(found: Watched) -> None:
    expect(found.page.locator("main .badge", has_text="running")).to_be_visible()
    assert found.problems() == []
