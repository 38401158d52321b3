"""`./dev screenshots`: the pictures of docs/images, of the world of the tests with more papers and more nights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from playwright.sync_api import Browser
from tests.browser.chromium import launched, program
from tests.browser.past import damage
from tests.browser.watched import PHONE, Watched, watched
from tests.browser.world import TOKEN, World, built

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_FONTS = Path(__file__).with_name("fonts.conf")
#: Where a reader of the pictures expects an installation; a temporary folder where it cannot be made.
_FOLDER = Path("/srv/refnet")
_CRAWLS, _DAYS = (60, 110, 170, 230, 300), 75
_WIDE = {"width": 1180, "height": 820}
_LOW = {**_WIDE, "height": 720}
_HIGH = {"width": 1180, "height": 1120}
_LARGEST = 200_000
_TO_GRAPH = (
    "scrollTo(0, document.querySelector('svg[role=group]').getBoundingClientRect().top + scrollY - 90)"
)


def main() -> None:
    """Take every picture; fail if one is larger than it may be."""
    if program() is None:
        raise SystemExit(
            "dev: no Chromium here\n     Install Debian's chromium, fonts-open-sans and fonts-noto-cjk."
        )
    IMAGES.mkdir(exist_ok=True)
    with _place() as folder, built(folder, _DAYS, _CRAWLS) as world, launched(_FONTS) as browser:
        with world.scheduling(), _signed_in(browser, world) as (url, state):
            _pictures(browser, world, url, state)
        damage(world.folder / "backups" / "obsidian" / _names(world, "obsidian")[-12])
        with _signed_in(browser, world) as (url, state):  # a server shows what it knows for some seconds
            _later_pictures(browser, url, state)
    large = [path.name for path in IMAGES.glob("*.png") if path.stat().st_size > _LARGEST]
    if large:
        raise SystemExit(f"dev: larger than {_LARGEST:,} bytes: {' '.join(large)}")


@contextmanager
def _signed_in(browser: Browser, world: World) -> Iterator[tuple[str, Any]]:
    """A server: its URL, and the cookies of a browser that has signed in."""
    with world.serving() as url:
        with watched(browser, url, viewport=_WIDE) as found:
            found.go("/sign-in")
            found.signs_in(TOKEN)
            state = found.page.context.storage_state()
        yield url, state


def _pictures(browser: Browser, world: World, url: str, state: Any) -> None:
    for name, path, options in (
        ("overview", "/", {"viewport": _WIDE}),
        ("dark", "/", {"viewport": _WIDE, "color_scheme": "dark"}),
        ("phone", "/", {"viewport": PHONE, "device_scale_factor": 1.5}),
        ("japanese", "/", {"viewport": _WIDE, "locale": "ja-JP"}),
        ("network", "/network", {"viewport": _WIDE}),
        ("map", "/network/map?topic=economics", {"viewport": _WIDE}),
        ("stores", "/stores", {"viewport": _WIDE}),
        ("settings", "/settings?changed=yes", {"viewport": _WIDE}),
        (
            "artifact",
            f"/artifacts/database/{_names(world, 'database')[-1]}?contents=yes",
            {"viewport": _WIDE},
        ),
    ):
        with watched(browser, url, storage_state=state, **options) as found:
            _take(found, name, path)
    with watched(browser, url, viewport=_LOW, storage_state=state) as found:
        found.go(_first(found, "/network?year=2005", "/network/papers/"))
        found.page.evaluate(_TO_GRAPH)
        _take(found, "paper")
    with watched(browser, url, viewport=_WIDE, storage_state=state) as found:
        _restore(found, world)


def _later_pictures(browser: Browser, url: str, state: Any) -> None:
    with watched(browser, url, viewport=_WIDE, storage_state=state) as found:
        _take(found, "timeline", "/timeline?source=obsidian")
    with watched(browser, url, viewport=_HIGH, storage_state=state) as found:
        _take(found, "runs", "/runs?source=database")


def _restore(found: Watched, world: World) -> None:
    """The plan of a restore of lost papers, and its result."""
    world.lose()
    name = _names(world, "database")[-1]
    _take(found, "restore-plan", f"/restore/plan?source=database&artifact={name}", tall=True)
    found.page.locator("#typed").fill("refnet")
    found.page.get_by_role("button", name="Restore", exact=True).click()
    found.page.get_by_role("link", name="Undo").wait_for(timeout=120_000)
    _take(found, "restore-done")


def _take(found: Watched, name: str, path: str | None = None, *, tall: bool = False) -> None:
    """Take the picture of `path`, or of what is shown; tall: to its end."""
    if path:
        found.go(path)
    found.page.wait_for_timeout(400)  # charts draw themselves
    found.page.screenshot(path=IMAGES / f"{name}.png", animations="disabled", full_page=tall)


def _first(found: Watched, page: str, start: str) -> str:
    return str(found.go(page).locator(f'main a[href^="{start}"]').first.get_attribute("href"))


def _names(world: World, source: str) -> list[str]:
    """The artifacts of `source`, the oldest first."""
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    return [one["name"] for one in listed if one["source"] == source]


@contextmanager
def _place() -> Iterator[Path]:
    try:
        _FOLDER.mkdir(mode=0o711)
        folder = _FOLDER
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="rn-"))
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        rmtree(folder)


if __name__ == "__main__":
    main()
