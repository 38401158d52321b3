"""Nobody sees a page before the token was given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from tests.browser.watched import PAGES, watched
from tests.browser.world import TOKEN, World


@pytest.fixture(scope="module")
def asking(world: World) -> Iterator[str]:
    """A server of its own: too many tries count for every browser of this machine."""
    with world.serving() as found:
        yield found


def test_every_page_asks_for_the_token_and_goes_on_to_what_was_asked(browser: Browser, asking: str) -> None:
    with watched(browser, asking) as found:
        for path in PAGES:
            assert "/sign-in" in found.go(path).url
        found.signs_in(TOKEN)
        found.page.wait_for_url(f"{asking}/settings")


def test_the_cookie_is_kept_from_scripts_and_signing_out_ends_it(browser: Browser, asking: str) -> None:
    with watched(browser, asking) as found:
        found.go("/sign-in")
        found.signs_in(TOKEN)
        found.page.wait_for_url(f"{asking}/")
        [cookie] = [one for one in found.page.context.cookies() if one["name"] == "refnet_session"]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert "refnet_session" not in found.page.evaluate("document.cookie")
        found.page.get_by_role("button", name="Sign out").click()
        found.page.wait_for_url("**/sign-in")
        found.page.context.add_cookies([cookie])
        assert "/sign-in" in found.go("/").url


def test_a_wrong_token_is_refused_and_too_many_tries_have_to_wait(browser: Browser, asking: str) -> None:
    with watched(browser, asking, wrong=True) as found:
        found.go("/sign-in")
        found.signs_in("wrong")
        assert "token" in found.page.get_by_role("alert").inner_text()
        for _ in range(11):
            found.signs_in("wrong again")
        assert "too many" in found.page.get_by_role("alert").inner_text()
        assert [one for one in found.wrong if "401" not in one and "429" not in one] == []
