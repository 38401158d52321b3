"""The machine's Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright


def program() -> str | None:
    """The program of the browser; None if this machine has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def launched(fonts: Path | None = None) -> Iterator[Browser]:
    """A running browser. fonts: its settings of fontconfig, instead of the machine's."""
    # root's browser cannot build the walls of its own; it sees only pages of these tests
    walls = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=program(),
            args=[*walls, "--hide-scrollbars"],
            env=dict(os.environ) | ({"FONTCONFIG_FILE": str(fonts)} if fonts else {}),
        )
        yield found
        found.close()
