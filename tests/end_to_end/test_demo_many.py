"""`refnet demo --many`: several sources; one thing comes back or is looked at, and nothing is left running."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from tests.end_to_end.test_demo import environment, running_in


def test_the_story_of_several_sources_is_told_and_compared(short_folder: Path, quick: dict[str, str]) -> None:
    place = short_folder / "many"
    told = subprocess.run(
        [sys.executable, "-m", "refnet", "demo", "--many", "--folder", str(place)],
        env=environment(short_folder) | quick, cwd=short_folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stderr == ""
    for sentence in (
        "$ refnet restore shop --table orders",
        "public.items gets its foreign key items_ordered_fkey back",
        "$ refnet query shop_",
        "$ refnet cat notes_",
        "$ refnet restore wiki --as wiki_copy",
        "no difference: 11,500 rows in 5 tables, 53 files",
        "$ refnet wal run &",
        "DELETE 6000",
        "$ refnet restore server-shop --at ",
        "5 results, each equal to what psql and sha256sum saw; nothing else changed.",
    ):
        assert sentence in told.stdout
    assert told.stdout.count("→ equal: ") == 5
    assert (place / "before.txt").read_text() == (place / "after.txt").read_text()
    assert (place / "before.txt").read_text() != (place / "first.txt").read_text()
    page = (place / "story.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<img|<link|@import|url\(", page)
    for link in re.findall(r'href="([^"]+)"', page):
        assert (place / unquote(link)).exists(), link
    assert running_in(place) == []
