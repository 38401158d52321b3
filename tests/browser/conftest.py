"""One browser and one world for all tests of the dashboard; they change it one after the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.browser.chromium import launched, program
from tests.browser.watched import watched
from tests.browser.world import TOKEN, World, built
from tests.memory import in_memory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here, by name, where there is no browser."""
    if program() is None:
        here = str(Path(__file__).parent)
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(pytest.mark.skip(reason="this machine has no Chromium (Debian: chromium)"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    with launched() as found:
        yield found


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A crawled network with 20 days of backups; its server runs as another user where root tests."""
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    folder.chmod(0o711)
    with built(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def url(world: World) -> Iterator[str]:
    """The dashboard, which wants a token."""
    with world.serving() as found:
        yield found


@pytest.fixture(scope="session")
def signed_in(browser: Browser, url: str) -> Any:
    """The cookies of a browser that has signed in, as Playwright's `storage_state`."""
    with watched(browser, url) as found:
        found.go("/sign-in")
        found.signs_in(TOKEN)
        found.page.wait_for_url(url + "/")
        return found.page.context.storage_state()
