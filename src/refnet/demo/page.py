"""The demo's story as a page: what was lost, how it came back, and what to try next."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import datetime, tzinfo
from importlib.metadata import version
from pathlib import Path

from refnet.demo.story import Told
from refnet.recovery.model.formatting import plural
from refnet.recovery.page import render

NAME = "story.html"


def write(told: Told, now: datetime, zone: tzinfo | None = None) -> Path:
    """Write the page into the demo's folder; return its path. Times are in `zone` (None: the machine's)."""
    path = told.folder / NAME
    path.write_text(page(told, now, zone), encoding="utf-8")
    return path


def page(told: Told, now: datetime, zone: tzinfo | None = None) -> str:
    """Return the page, written at `now`."""
    where = f"{platform.node()}, RefNet {version('refnet')}"
    inside = told.cluster.is_relative_to(told.folder)
    return render(
        "story.html.j2",
        zone,
        told=told,
        now=now,
        where=where,
        papers=plural(told.papers, "made-up paper"),
        phases={f"{n}. {chapter.title}": chapter.seconds for n, chapter in enumerate(told.chapters, 1)},
        # the cluster's folder, if it could not be in RefNet's home
        elsewhere=None if inside else str(told.cluster),
        bin_folder=Path(sys.executable).parent,
        quoted=lambda *words: shlex.join(map(str, words)),
    )
