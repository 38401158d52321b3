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
_LARGEST = 200_000


def main() -> None:
    """Take every picture; fail if one is larger than it may be."""
    if program() is None:
        raise SystemExit(
            "dev: no Chromium here\n     Install Debian's chromium, fonts-open-sans and fonts-noto-cjk."
        )
    IMAGES.mkdir(exist_ok=True)
    with (
        _place() as folder,
        built(folder, _DAYS, _CRAWLS) as world,
        world.serving() as url,
        launched(_FONTS) as browser,
    ):
        with watched(browser, url, viewport=_WIDE) as found:
            found.go("/sign-in")
            found.signs_in(TOKEN)
            state = found.page.context.storage_state()
        _pictures(browser, world, url, state)
    large = [path.name for path in IMAGES.glob("*.png") if path.stat().st_size > _LARGEST]
    if large:
        raise SystemExit(f"dev: larger than {_LARGEST:,} bytes: {' '.join(large)}")


def _pictures(browser: Browser, world: World, url: str, state: Any) -> None:
    with watched(browser, url, viewport=_WIDE, storage_state=state) as found:
        _take(found, "overview", "/")
        _take(found, "network", "/network")
        _take(found, "paper", _first(found, "/network", "/network/papers/"))
        _take(found, "stores", "/stores")
        _take(found, "settings", "/settings")
        _restore(found, world)
        _take(found, "artifact", f"/artifacts/database/{_names(world, 'database')[-1]}")
        damage(world.folder / "backups" / "obsidian" / _names(world, "obsidian")[-12])
        _take(found, "timeline", "/timeline")
        _take(found, "runs", "/runs")
    for name, path, options in (
        ("dark", "/", {"color_scheme": "dark", "viewport": _WIDE}),
        ("phone", "/", {"viewport": PHONE, "device_scale_factor": 1.5}),
        ("japanese", "/", {"locale": "ja-JP", "viewport": _WIDE}),
    ):
        with watched(browser, url, storage_state=state, **options) as found:
            _take(found, name, path)


def _restore(found: Watched, world: World) -> None:
    """The plan of a restore of lost papers, and its result."""
    world.lose()
    name = _names(world, "database")[-1]
    _take(found, "restore-plan", f"/restore/plan?source=database&artifact={name}")
    found.page.locator("main form input[type=text]").fill("refnet")
    found.page.locator("main form button.danger").click()
    found.page.get_by_text("undo", exact=False).last.wait_for()
    _take(found, "restore-done")


def _take(found: Watched, name: str, path: str | None = None) -> None:
    """Take the picture of `path`, or of what is shown, from its top."""
    if path:
        found.go(path)
    found.page.wait_for_timeout(400)  # charts draw themselves
    found.page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


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
