"""HTML and scripts in what pages show are text."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser
from tests.browser.watched import watched
from tests.browser.world import World

_HOSTILE = (
    "</a><script>window.taken = 1</script><img src=x onerror=\"window.taken = 2\"><b style='color:red'>'\"&"
)


def test_html_in_a_title_a_venue_and_a_searched_word_is_shown_as_text(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    paper, *before = world.live(
        "SELECT id, title, venue FROM public.papers JOIN public.ranks ON id = paper_id ORDER BY position LIMIT 1"
    )[0]
    change = "UPDATE public.papers SET title = %s, venue = %s WHERE id = %s RETURNING 1"
    world.live(change, _HOSTILE, _HOSTILE, paper)
    try:
        with watched(browser, url, storage_state=signed_in) as found:
            for path in ("/network", f"/network/papers/{paper}"):
                page = found.go(path)
                assert "<script>window.taken = 1</script>" in found.text()
                assert page.evaluate("window.taken") is None
                assert page.locator("main b, main img[src=x]").count() == 0
            page = found.go("/settings")
            page.locator("main input[type=search]").fill(_HOSTILE)
            page.keyboard.press("Enter")
            page.wait_for_url("**/settings?*")
            assert page.locator("main input[type=search]").input_value() == _HOSTILE
            assert page.evaluate("window.taken") is None
    finally:
        world.live(change, *before, paper)
