"""What can be seen on a phone without scrolling, and how long the pages are; not only that nothing is too wide."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page
from tests.browser.watched import PHONE, Watched, watched

#: Pixels of the longest page that shows a list of everything.
_LONGEST = 4000
_LOOK = {"viewport": PHONE, "is_mobile": True, "has_touch": True}


def _box(one: Locator) -> dict[str, float]:
    found = one.bounding_box()
    assert found, f"{one} is not visible"
    return dict(found)


def _height(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollHeight"))


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_the_current_month_is_the_first_and_its_weeks_are_on_the_first_screen(
    browser: Browser, url: str, signed_in: Any, locale: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale, **_LOOK) as found:
        page = found.go("/timeline?source=database&months=3")
        tops = [_box(one)["y"] for one in page.locator(".calendar").all()]
        assert tops == sorted(tops)
        months = [text[:7] for text in page.locator(".calendar caption").all_inner_texts()]
        assert months == sorted(months, reverse=True)
        weeks = page.locator(".calendar").first.locator("tbody tr")
        box = _box(weeks.nth(1))
        assert box["y"] + box["height"] <= PHONE["height"]
        days = page.locator(".calendar").first.locator("td a")
        assert all(_box(one)["height"] >= 24 and _box(one)["width"] >= 24 for one in days.all())


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_settings_are_a_short_list_and_open_to_all_of_a_setting(
    browser: Browser, url: str, signed_in: Any, locale: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale, **_LOOK) as found:
        page = found.go("/settings")
        assert _height(page) < _LONGEST
        page.locator("summary", has_text="schedule").first.tap()
        one = page.locator("details[open] li", has_text="schedule.prune").first
        _all_inside(page, one)
        assert ("期限切れ削除のスケジュール" in one.inner_text()) == (locale == "ja-JP")
        found.go("/settings?q=schedule.prune")
        box = _box(page.locator("details[open] li").first)
        assert box["y"] < PHONE["height"]


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_a_run_begins_with_its_outcome_and_its_reason(
    browser: Browser, url: str, signed_in: Any, locale: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale, **_LOOK) as found:
        page = found.go("/runs?source=database&outcome=failed#journal")
        run = page.locator(".runs li").last
        outcome, reason, what = (
            _box(one)["y"]
            for one in (run.locator(".badge"), run.locator(".path"), run.get_by_role("link").last)
        )
        assert outcome < reason < what
        _all_inside(page, run)
        run.scroll_into_view_if_needed()
        assert _box(run)["height"] < PHONE["height"] / 2
        assert _height(found.go("/runs")) < 50 * 260


def _all_inside(page: Page, one: Locator) -> None:
    """Nothing of `one` is cut at the side, and its texts are as large as text."""
    found: list[Any] = one.evaluate(
        "e => [...e.querySelectorAll('*')].filter(x => x.getClientRects().length && !x.closest('.visually-hidden'))"
        ".map(x => [x.tagName, x.getBoundingClientRect().left, x.getBoundingClientRect().right, parseFloat(getComputedStyle(x).fontSize)])"
    )
    assert [box for box in found if box[1] < 0 or box[2] > PHONE["width"] + 0.5 or box[3] < 12] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_what_is_wrong_is_on_the_first_screen_of_the_overview(
    browser: Browser, url: str, signed_in: Any
) -> None:
    with watched(browser, url, storage_state=signed_in, **_LOOK) as found:
        page = found.go("/")
        box = _box(page.locator("main h1").first)
        assert box["y"] + box["height"] < PHONE["height"] / 2
        _first_screen(found, ".verdict")


def _first_screen(found: Watched, selector: str) -> None:
    assert _box(found.page.locator(selector).first)["y"] < PHONE["height"]
