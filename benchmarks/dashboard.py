"""The bars of the dashboard: its pages by 16 clients at once, what a browser loads for it, and a map in Chromium."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from benchmarks.catalog import MANY, Bench
from benchmarks.measure import FailedError
from benchmarks.network_bars import Place, Row
from benchmarks.network_web import CLIENTS, SECONDS, filled, load, serving
from benchmarks.turns import say
from refnet.catalog.run import Ended, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.postgres.session import Target
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys
from refnet.store.run_journal import RunJournal

TITLE = "Dashboard"
_FIRST, _BYTES, _PAINTED, _OLDEST = 3.0, 150_000, 1.0, 5.0
#: Page → its path, and the bar of the 95th percentile of its requests, in seconds.
_PAGES = {
    "overview": ("/", 0.100),
    "timeline": ("/timeline", 0.150),
    "stores": ("/stores", 0.150),
    "runs": ("/runs", 0.150),
}
#: Runs in the journal; it is rewritten when it is larger.
_RUNS = 700
#: The papers of the map, and how often it is painted.
_MAPPED, _TIMES = 1000, 5
#: SQL: a crawl of the first papers, four of them seeds; its id.
_CRAWL = """
WITH crawl AS (
    INSERT INTO crawls (seeds, direction, depth, paper_limit, state, finished_at)
    VALUES ('{mapped}', 'both', 1, %(papers)s, 'succeeded', now()) RETURNING id
), mapped AS (
    INSERT INTO crawl_papers
    SELECT crawl.id, p.id, CASE WHEN p.nth <= 4 THEN 0 ELSE 1 END
    FROM crawl, (SELECT id, row_number() OVER (ORDER BY id) AS nth FROM papers ORDER BY id LIMIT %(papers)s) AS p
) SELECT id FROM crawl
"""
#: JavaScript: the milliseconds from the request to the first paint.
_PAINT = """() => new Promise((done) => new PerformanceObserver((seen) => {
    for (const one of seen.getEntriesByName("first-contentful-paint")) done(one.startTime);
}).observe({ type: "paint", buffered: true }))"""
_PATH = re.compile(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="([^"]+)"')
#: An address of another host where a browser follows it: an attribute of a page, url() or @import of a style.
_ELSEWHERE = re.compile(
    r"""(?:\b(?:src|href|action|srcset)="|url\(["']?|@import ["'])\s*((?:\w+:)?//[^"')]+)"""
)


@dataclass(frozen=True)
class Loaded:
    """What a browser loads for the page `/`."""

    #: Of the first request.
    seconds: float
    #: Path → bytes.
    files: dict[str, int]
    #: The addresses of other hosts, in the page, its styles and its Content-Security-Policy.
    elsewhere: list[str]


def measure(place: Place) -> Iterator[Row]:
    """Measure the bars of the dashboard; yields a row each."""
    target = filled(place)
    bench = Bench(
        place.folder / "dashboard", round(MANY * place.scale), datetime.now(UTC) - timedelta(hours=1)
    )
    say(f"{bench.count:,} artifacts")
    bench.fill()
    _prepare(bench)
    with serving(place.environment("web", **bench.environment)) as port:
        seen = loaded(port)
        found = {
            name: asyncio.run(load(port, lambda *_, path=path: path, []))
            for name, (path, _) in _PAGES.items()
        }
        oldest = seen_after(bench, port)
        paints = painted(port, _crawl(target))
    sent = sum(size for path, size in seen.files.items() if path.endswith((".js", ".css")))
    yield Row(
        "overview, the first request", f"< {_FIRST:g} s", f"{seen.seconds:.2f} s", seen.seconds < _FIRST
    )
    for name, (_, bar) in _PAGES.items():
        times = found[name]
        p95, rate = times[int(len(times) * 0.95)], f"{len(times) / SECONDS:,.0f} a second"
        yield Row(
            f"{name}, {CLIENTS} clients, p95",
            f"< {bar * 1e3:.0f} ms",
            f"{p95 * 1e3:.0f} ms, {rate}",
            p95 < bar,
        )
    yield Row(
        f"a new artifact on all of them, {CLIENTS} clients",
        f"within {_OLDEST:g} s",
        f"{oldest:.1f} s",
        oldest < _OLDEST,
    )
    yield Row(
        "JavaScript and CSS of the overview",
        f"< {_BYTES / 1e3:.0f} kB",
        f"{sent / 1e3:.1f} kB",
        sent < _BYTES,
    )
    hosts = ", ".join(seen.elsewhere) or "none"
    yield Row("other hosts that the overview asks", "none", hosts, not seen.elsewhere)
    yield Row(
        f"map of {_MAPPED:,} papers, the first paint, median of {_TIMES}",
        f"< {_PAINTED:g} s",
        f"{median(paints):.2f} s",
        median(paints) < _PAINTED,
    )


def _prepare(bench: Bench) -> None:
    """Add a store to the settings, and runs of each hour to the journal."""
    key = PrivateKey.new()
    (bench.home / "nas").mkdir()
    (bench.home / "refnet.toml").write_text(
        f'[stores.nas]\nurl = "file://{bench.home / "nas"}"\n[encryption]\nrecipients = ["{key.recipient.text}"]\n'
    )
    MachineKeys(bench.home / "keys").make_missing()
    journal = RunJournal(bench.home / "runs")
    for number in reversed(range(_RUNS)):
        started = bench.newest - timedelta(hours=number)
        run = Run(f"{number:012x}", RunKind.BACKUP, SourceName.DATABASE, started, Ended.DONE, 60.0)
        journal.end(run)


def seen_after(bench: Bench, port: int) -> float:
    """Add an artifact and its run while clients ask for the overview; return the seconds until every page shows it."""
    waiting = {path for path, _ in _PAGES.values()}
    with (
        ThreadPoolExecutor(1) as clients,
        closing(http.client.HTTPConnection("127.0.0.1", port)) as connection,
    ):
        asking = clients.submit(lambda: asyncio.run(load(port, lambda *_: "/", [])))
        for path in waiting:
            _get(connection, path)
        created = bench.newest + timedelta(minutes=30)
        name = bench.add(created)
        run = Run("f" * 12, RunKind.BACKUP, SourceName.DATABASE, created, Ended.DONE, 60.0, artifact=name)
        RunJournal(bench.home / "runs").end(run)
        begun = time.perf_counter()
        while waiting:
            waiting -= {path for path in waiting if name in _get(connection, path)[0]}
            if time.perf_counter() > begun + 10 * _OLDEST:
                raise FailedError(f"{name} is not on {', '.join(waiting)}")
        seconds = time.perf_counter() - begun
        asking.result()
    return seconds


def _crawl(target: Target) -> int:
    """Store a crawl of papers that are there; return its id."""
    with target.connect({"search_path": "public"}) as session:
        row = session.execute(_CRAWL, {"papers": _MAPPED}).fetchone()
    return int(row[0]) if row else 0


def painted(port: int, crawl: int) -> list[float]:
    """Return the seconds to each first paint of the map of `crawl` in this machine's Chromium."""
    from playwright.sync_api import sync_playwright

    walls = ["--no-sandbox"] if os.geteuid() == 0 else []  # root's browser cannot build those of its own
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=program, args=walls).new_page()
        found = []
        for _ in range(_TIMES):
            page.goto(f"http://127.0.0.1:{port}/network/map?crawl={crawl}")
            found.append(float(page.evaluate(_PAINT)) / 1000)
        circles = page.locator("svg.network circle").count()
    if circles != _MAPPED:
        raise FailedError(f"the map has {circles} papers")
    return found


def loaded(port: int) -> Loaded:
    """Load `/` as a browser does."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        begun = time.perf_counter()
        page, policy = _get(connection, "/")
        seconds = time.perf_counter() - begun
        files, elsewhere = dict[str, int](), _ELSEWHERE.findall(page)
        elsewhere += [word for word in policy.replace(";", " ").split() if "//" in word or word == "*"]
        for path in dict.fromkeys(one for one in _PATH.findall(page) if one.startswith("/")):
            text, _ = _get(connection, path)
            files[path.partition("?")[0]] = len(text.encode())
            elsewhere += _ELSEWHERE.findall(text) if path.partition("?")[0].endswith(".css") else []
    return Loaded(seconds, files, elsewhere)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[str, str]:
    """Return the body at `path` and its Content-Security-Policy."""
    connection.request("GET", path, headers={"Accept": "text/html"})
    said = connection.getresponse()
    text = said.read().decode()
    if said.status != 200:
        raise ValueError(f"{path}: {said.status}: {text[:200]}")
    return text, said.getheader("Content-Security-Policy", "")
