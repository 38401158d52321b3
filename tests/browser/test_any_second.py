"""A cluster whose WAL is received: its pages, and the picker of a second, by keyboard and without scripts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser
from tests.browser.keyboard import reach, walk
from tests.browser.watched import DESKTOP, PHONE, watched
from tests.memory import in_memory
from tests.serving import serving
from tests.streams import NOW, streamed

PATHS = ("/", "/timeline?source=main-cluster", "/restore?source=main-cluster", "/restore?source=main-shop")
LAST = NOW.astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The URL of a dashboard that wants no token."""
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    with streamed(folder) as environment, serving(environment) as served:
        yield f"http://127.0.0.1:{served.port}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "look",
    [
        {"viewport": DESKTOP},
        {"color_scheme": "dark"},
        {"viewport": PHONE, "is_mobile": True, "has_touch": True, "locale": "ja-JP"},
    ],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_serious_and_no_page_is_wider_than_the_window(
    browser: Browser, here: str, look: dict[str, Any]
) -> None:
    with watched(browser, here, **look) as found:
        for path in PATHS:
            found.go(path)
            assert (path, found.problems(), found.sideways()) == (path, [], 0)


def test_the_keyboard_alone_reaches_the_second_and_a_browser_refuses_one_after_the_last(
    browser: Browser, here: str
) -> None:
    with watched(browser, here, timezone_id="America/New_York") as found:
        page = found.go("/restore?source=main-cluster")
        assert walk(page) == []
        field = page.get_by_label("Moment (JST, +09:00)")
        page.reload()
        reach(page, field)
        assert field.input_value() == LAST.isoformat()  # of the settings' zone, not the browser's
        field.fill((LAST + timedelta(hours=1)).isoformat())
        assert field.evaluate("field => field.validity.rangeOverflow")
        field.fill((LAST - timedelta(seconds=61)).isoformat())
        reach(page, page.get_by_role("button", name="Show the command"))
        page.keyboard.press("Enter")
        page.wait_for_url("**at=*")
        asked = (LAST - timedelta(seconds=61)).isoformat(" ")
        assert f"--at '{asked}+09:00' --into DIR" in found.text()


def test_without_scripts_a_second_is_chosen_and_one_outside_is_refused(browser: Browser, here: str) -> None:
    with watched(browser, here, java_script_enabled=False, wrong=True) as found:
        page = found.go("/restore?source=main-cluster")
        page.get_by_label("Moment").fill((LAST - timedelta(hours=1)).isoformat())
        page.get_by_role("button", name="Show the command").click()
        assert "--into DIR" in found.text()
        page = found.go(f"/restore/plan?source=main-shop&at={(LAST + timedelta(hours=1)).isoformat()}", 400)
        assert "the last one" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Moment").input_value() == (LAST + timedelta(hours=1)).isoformat()
