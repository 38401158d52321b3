"""The calendar: a day leads to its artifacts, and a night without a backup is seen."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, expect
from tests.browser.watched import watched


def test_the_calendar_marks_gaps_and_days_link_to_artifacts_and_files(
    browser: Browser, url: str, signed_in: Any
) -> None:
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go("/timeline?source=database&months=3")
        # the night when the machine was off, and the one when the backup failed
        expect(page.locator(".calendar .missed")).to_have_count(2)
        expect(page.locator(".chart canvas").first).to_be_visible()
        page.locator(".calendar td.passed a").first.click()
        page.locator('main a[href^="/artifacts/database/refnet_"]').first.click()
        assert "refnet_" in page.locator("h1").inner_text()
        expect(page.locator("main td, main th", has_text="papers").first).to_be_visible(timeout=60_000)
        with page.expect_download() as got:
            page.get_by_role("link", name="Download").first.click()
        assert got.value.suggested_filename.endswith(".sql.gz")
