"""A backup folder with real artifacts, manifests and evidence, and a journal, as metrics and messages read them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refnet import settings, wiring
from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.run import Ended, Reason, Run, RunKind
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.store.local import LocalStore
from refnet.store.run_journal import RunJournal
from refnet.telemetry.facts import Facts

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@dataclass
class World:
    """What stands in `home`, at the time `now`."""

    home: Path
    now: datetime = NOW
    configured: frozenset[SourceName] = frozenset(STANDARD)
    store: LocalStore = field(init=False)
    journal: RunJournal = field(init=False)

    def __post_init__(self) -> None:
        self.store = LocalStore(self.home / "backups")
        self.journal = RunJournal(self.home / "runs")

    def artifact(
        self,
        source: SourceName = SourceName.DATABASE,
        *,
        ago: timedelta = timedelta(hours=1),
        level: Level | None = Level.PROVEN,
        drill: bool = False,
        data: bytes | None = None,
        details: dict[str, Any] | None = None,
    ) -> Manifest:
        """Publish an artifact made `ago` in 2 s, with evidence up to `level` 3 s later."""
        created = self.now - ago
        with self.store.draft(source) as draft:
            draft.out.write(uuid.uuid4().bytes * 64 if data is None else data)
            made = draft.publish(Made(created=created, details=details or {}), created, 2.0)
        if level:
            at = created + timedelta(seconds=5)
            self.store.record(Entry(made), Evidence(at, level, Outcome.PASSED, 3.0, drill=drill))
        return made

    def damage(self, manifest: Manifest) -> None:
        self.store.record(Entry(manifest), Evidence(self.now, Level.INTACT, Outcome.FAILED, 1.0))

    def run(
        self,
        source: SourceName = SourceName.DATABASE,
        *,
        kind: RunKind = RunKind.BACKUP,
        failed: Reason | None = None,
        seconds: float = 7.0,
    ) -> Run:
        """A run that began now and ended `seconds` later."""
        run = Run(uuid.uuid4().hex, kind, source, self.now)
        self.journal.begin(run)
        ended = Ended.FAILED if failed else Ended.DONE
        run = replace(
            run, ended=ended, seconds=seconds, reason=failed, message="what is wrong" if failed else ""
        )
        self.journal.end(run)
        return run

    def facts(self) -> Facts:
        entries, leftovers, unlisted = self.store.contents()
        environment = {"REFNET_HOME": str(self.home), "REFNET_SCHEDULE_TIMEZONE": "UTC"}
        given = settings.load(environment, self.home, root=True, cores=2)
        return Facts(
            self.now,
            Catalog.of(entries),
            leftovers,
            unlisted,
            self.store.free_bytes(),
            self.journal.history(),
            self.configured,
            given.schedule,
            wiring.limits(given),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
