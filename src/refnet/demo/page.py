"""The demo's story as a page: the losses, their recovery, and what to try next."""

import platform
import shlex
import sys
from datetime import datetime, tzinfo
from pathlib import Path

from refnet import __version__
from refnet.core.page import render
from refnet.demo.many import Many
from refnet.demo.story import Story

NAME = "story.html"


def write(story: Story | Many, now: datetime, zone: tzinfo | None = None) -> Path:
    """Write the page into the demo's folder; return its path. Times are in `zone` (None: the machine's)."""
    path = story.folder / NAME
    path.write_text(page(story, now, zone), encoding="utf-8")
    return path


def page(story: Story | Many, now: datetime, zone: tzinfo | None = None) -> str:
    """Return the page as HTML; `now`: its date."""
    where = f"{platform.node()}, RefNet {__version__}"
    inside = story.cluster.is_relative_to(story.folder)
    return render(
        "story.html.j2" if isinstance(story, Story) else "many.html.j2",
        zone,
        story=story,
        now=now,
        where=where,
        phases={f"{n}. {chapter.title}": chapter.seconds for n, chapter in enumerate(story.chapters, 1)},
        # the cluster's folder, if it could not be in RefNet's home
        elsewhere=None if inside else str(story.cluster),
        bin_folder=Path(sys.executable).parent,
        quoted=lambda *words: shlex.join(map(str, words)),
    )
