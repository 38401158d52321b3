"""The bars of the notes of a vault: the first run, one without changes, one with some; the links that resolve."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import build
from benchmarks.measure import FailedError, Run, pipeline
from benchmarks.network_bars import Place, Row, refnet
from benchmarks.turns import say

PAPERS, CHANGED = 10_000, 100
_DATABASE = "notes"
_CHANGE = "UPDATE papers SET abstract = abstract || ' Changed.' WHERE id <= %s AND abstract IS NOT NULL"
_LINK = re.compile(r"(?<!\\)\[\[(.+?)(?:\|.*?)?\]\]")


def measure(place: Place) -> Iterator[Row]:
    """Measure the bars of notes; yields a row each."""
    papers, changed = round(PAPERS * place.scale), round(CHANGED * place.scale)
    vault = place.folder / "home" / "vault"
    build.fresh(place.cluster, _DATABASE)
    _run(place, "network", "sample", "--papers", str(papers))
    _run(place, "rank")
    first = _run(place, "notes")
    before = _stamps(vault)
    again = _run(place, "notes")
    touched = len(_stamps(vault).items() ^ before.items())
    with place.cluster.target(_DATABASE).connect() as session:
        rows = session.execute(_CHANGE, [changed]).rowcount
    some = _run(place, "notes")
    renewed = len(dict(_stamps(vault).items() - before.items()))
    links, dead = _links(vault)
    yield _seconds(f"{papers:,} notes: first run", first, 10)
    what = f"{papers:,} notes: nothing changed"
    yield Row(
        what, "≤ 2 s, no file touched", f"{again.seconds:.2f} s, {touched} touched",
        again.seconds <= 2 and not touched,
    )  # fmt: skip
    yield Row(
        f"{papers:,} notes: {rows} changed", "≤ 3 s", f"{some.seconds:.2f} s, {renewed} written",
        some.seconds <= 3 and renewed == rows,
    )  # fmt: skip
    yield Row("links that resolve", "100 %", f"{links - dead:,} of {links:,}", links > 0 and not dead)


def _run(place: Place, *arguments: str) -> Run:
    run = pipeline([[refnet(), *arguments]], place.environment(_DATABASE), place.folder)
    say(f"refnet {' '.join(arguments)}: {run.seconds:.2f} s, {run.cpu:.2f} CPU s of the client")
    return run


def _seconds(what: str, run: Run, most: int) -> Row:
    return Row(what, f"≤ {most} s", f"{run.seconds:.2f} s", run.seconds <= most)


def _stamps(vault: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of each file and folder."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in vault.rglob("*")
        if path.is_file()
    }


def _links(vault: Path) -> tuple[int, int]:
    """Return the number of links in the notes and canvases of the vault, and how many lead nowhere."""
    there = {str(path.relative_to(vault)) for path in vault.rglob("*") if path.is_file()}
    if not there:
        raise FailedError("refnet notes wrote no file")
    found = []
    for path in vault.rglob("*.md"):
        found += _LINK.findall(path.read_text().split("\n---\n", 1)[1])
    for path in vault.rglob("*.canvas"):
        found += [node["file"] for node in json.loads(path.read_text())["nodes"] if node["type"] == "file"]
    return len(found), sum(one not in there and f"{one}.md" not in there for one in found)
