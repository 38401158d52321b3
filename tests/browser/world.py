"""A small world for the dashboard: a crawled network, a vault, a configuration, weeks of backups, encrypted copies.

The dates and sizes of the earlier artifacts are made: each is a real artifact under an earlier date.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from tests.browser.past import Past
from tests.serving import serving

from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.demo.files_and_rows import write_configuration

TOKEN = "open-sesame-of-the-tests"
#: The most papers of the crawls, one after the other: database and vault grow.
CRAWLS = (70, 150)
#: The age of the newest artifacts.
_AGE = timedelta(hours=5, minutes=20)
#: While the file `hold` is there, a backup and a restore wait before they begin.
_WAIT = "#!/bin/sh\nwhile [ -e {hold} ]; do sleep 0.05; done\n"
_MORE = """
instance = "lab"
[web]
token = "{token}"
[schedule]
timezone = "UTC"
[retention]
database = "days=90"
config = "days=90"
obsidian = "days=90"
[hooks]
before_backup = ["{wait}"]
before_restore = ["{wait}"]
[crawl]
semantic_scholar_url = "{scholar}"
openalex_url = "{openalex}"
requests_per_second = 0
"""
#: Before there is a key, so that its page names the store.
_STORE = """
[stores.nas]
url = "{nas}"
"""
_KEY = """
[encryption]
recipients = ["{recipient}"]
"""


@dataclass(frozen=True)
class World:
    """Everything in `folder`, and `refnet serve` for it."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def hold(self) -> Path:
        """While it exists, no backup and no restore begins."""
        return self.folder / "hold"

    @property
    def paper(self) -> Path:
        """The recovery key."""
        return self.folder / "paper"

    def refnet(self, *arguments: str, code: int = 0) -> str:
        """Run a command; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "refnet", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"refnet {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def citations(self) -> int:
        """The citations in the live database."""
        return int(self.live("SELECT count(*) FROM public.citations")[0][0])

    def lose(self) -> None:
        """Delete a part of the citations of the live database."""
        self.live("DELETE FROM public.citations WHERE mod(cited_id, 3) = 0 RETURNING 1")

    def live(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement in the live database; return its rows."""
        socket = json.loads(self.refnet("postgres", "status", "--json"))["socket"]
        with psycopg.connect(host=socket, user="refnet", dbname="refnet") as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """`refnet serve` on a free port; yields its URL."""
        with serving(self.environment, folder=self.folder) as served:
            yield f"http://127.0.0.1:{served.port}"

    @contextmanager
    def scheduling(self) -> Iterator[None]:
        """Celery's beat and a worker, with RefNet's own broker."""
        started = [self._start(name) for name in ("worker", "beat")]
        try:
            while json.loads(self.refnet("schedule", "show", "--json"))["warnings"]:
                assert all(one.poll() is None for one in started), "beat or the worker has ended"
            yield
        finally:
            for one in started:
                one.terminate()
                one.wait(60)
            self.refnet("broker", "stop")

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "refnet", command],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def built(folder: Path, days: int = 20, crawls: Sequence[int] = CRAWLS) -> Iterator[World]:
    """Build the world in `folder`, with artifacts of the last `days` days; at the end its server is stopped."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "PG"))}
    mine = {"REFNET_CONFIG": str(folder / "config" / "refnet.toml"), "REFNET_LOG_FOLDER": "none"}
    world = World(folder, {**kept, **mine, "TZ": "UTC", "COLUMNS": "100"})
    graph = FakeGraph(900, 9000)
    with running(graph) as scholar:
        try:
            _settings(world, scholar.url, scholar.openalex_url)
            _history(world, graph.seed_ids, days, crawls)
            yield world
        finally:
            with suppress(AssertionError):
                world.refnet("postgres", "stop")


def _settings(world: World, scholar: str, openalex: str) -> None:
    folder = world.folder
    for name in ("home", "backups", "nas", "vault"):
        (folder / name).mkdir(mode=0o755 if name == "home" else 0o700)
    wait = folder / "pause-writers"
    wait.write_text(_WAIT.format(hold=world.hold))
    wait.chmod(0o755)
    settings = write_configuration(folder) / "refnet.toml"
    settings.chmod(0o600)
    more = _MORE.format(
        token=TOKEN,
        wait=wait,
        scholar=scholar,
        openalex=openalex,
    )
    settings.write_text(settings.read_text() + more)


def _history(world: World, seeds: Sequence[str], days: int, crawls: Sequence[int]) -> None:
    """Crawl and back up, again and again, and let `days` days have passed meanwhile."""
    past = Past(world.folder / "backups", world.folder / "home" / "runs" / "journal.jsonl")
    now = datetime.now(UTC)
    for step, papers in enumerate(crawls):
        world.refnet("crawl", seeds[step], "--depth", "3", "--limit", str(papers))
        if step == len(crawls) - 1:
            world.refnet("rank")
            world.refnet("summarize")
        world.refnet("notes")
        world.refnet("backup")
        past.take(step)
    past.forget()
    for ago in range(days, 0, -1):
        midnight = (now - timedelta(days=ago)).replace(hour=0, minute=0, second=0, microsecond=0)
        past.night((days - ago) * len(crawls) // days, midnight, ago)
    past.newest(len(crawls) - 1, now - _AGE)
    settings = world.folder / "config" / "refnet.toml"
    settings.write_text(settings.read_text() + _STORE.format(nas=(world.folder / "nas").as_uri()))
    made = json.loads(world.refnet("key", "new", "--json"))
    world.paper.touch(mode=0o600)
    world.paper.write_text(made["recovery_key"])
    settings.write_text(settings.read_text() + _KEY.format(recipient=made["recipient"]))
    world.refnet("copy", "--all")
    world.refnet("drill")
