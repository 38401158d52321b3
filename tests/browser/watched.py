"""A page of a real browser that remembers what must not happen: errors, refused content, requests to other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

#: Every page of the navigation.
PAGES = ("/", "/timeline", "/trends", "/restore", "/runs", "/network", "/stores", "/settings")
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
_SERIOUS = ("serious", "critical")
_SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_REFUSED = """
window.refused = [];
addEventListener("securitypolicyviolation", (e) => refused.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sample}`));
"""


@dataclass
class Watched:
    """One page; `wrong` is what it did that it must not."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"{self.page.url}: {error}"))
        self.page.on("request", self._request)

    def go(self, path: str, status: int = 200) -> Page:
        """Open the page at `path`; it must answer with `status`."""
        answer = self.page.goto(self.url + path, wait_until="load")
        assert answer, path
        assert answer.status == status, f"{path}: {answer.status}: {answer.text()[:2000]}"
        return self.page

    def text(self) -> str:
        """What can be read in the page's main part."""
        return self.page.locator("main").inner_text()

    def refused(self) -> list[str]:
        """What the Content-Security-Policy refused on this page."""
        found: list[str] = self.page.evaluate("window.refused || []")
        return found

    def sideways(self) -> int:
        """The pixels by which the page is wider than the window."""
        return int(self.page.evaluate(_SIDEWAYS))

    def problems(self) -> list[str]:
        """What axe finds, serious or worse: the rule and the first element."""
        self.page.evaluate(_axe())
        found: list[Any] = self.page.evaluate("async () => (await axe.run()).violations")
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]} ({len(one['nodes'])}): {one['nodes'][0]['failureSummary'][:300]}"
            for one in found
            if one["impact"] in _SERIOUS
        ]

    def signs_in(self, token: str) -> None:
        """Sign in on the page that asks."""
        self.page.get_by_label("Token").fill(token)
        self.page.locator("main form button").click()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{self.page.url}: console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", "data:")):
            self.wrong.append(f"{self.page.url}: asks {request.url}")


@contextmanager
def watched(browser: Browser, url: str, *, wrong: bool = False, **options: Any) -> Iterator[Watched]:
    """A page in a browser of its own, without cookies but `storage_state`; at the end nothing was wrong.

    wrong: leave that to the test, which provokes errors.
    """
    context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
    context.set_default_timeout(15_000)
    try:
        found = _page(context, url, scripts=options.get("java_script_enabled", True))
        yield found
        if not wrong:
            assert not found.wrong, found.wrong
            refused = found.refused() if options.get("java_script_enabled", True) else []
            assert not refused, refused
    finally:
        context.close()


def _page(context: BrowserContext, url: str, *, scripts: bool) -> Watched:
    if scripts:
        context.add_init_script(_REFUSED)
    return Watched(context.new_page(), url)


@cache
def _axe() -> str:
    return Path(__file__).with_name("axe").joinpath("axe.min.js").read_text(encoding="utf-8")
