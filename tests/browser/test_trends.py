"""The page of trends: charts and each night, in both languages."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.watched import watched


@pytest.mark.parametrize(
    ("locale", "link", "sent"), [("en-GB", "Trends", "Sent to stores"), ("ja-JP", "推移", "保管先への送信量")]
)
def test_the_trends_of_a_source_show_sizes_recoveries_space_and_each_night(
    browser: Browser, url: str, signed_in: Any, locale: str, link: str, sent: str
) -> None:
    with watched(browser, url, storage_state=signed_in, locale=locale) as found:
        page = found.go("/")
        page.get_by_role("link", name=link, exact=True).click()
        page.locator("#source").select_option("database")
        page.locator("main form button").click()
        page.wait_for_url("**/trends?source=database")
        assert page.locator("main .chart canvas").count() == 3
        expect(page.get_by_role("columnheader", name=sent)).to_be_visible()
        nights = page.locator("main tbody tr")
        assert nights.count() > 10
        assert "nas" in nights.last.inner_text()
        assert found.problems() == []
