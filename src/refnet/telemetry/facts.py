"""What is known of the backups at one moment: the ground of metrics and messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.monitoring import Check, Limits, another_store, watch, watch_store
from refnet.recovery.model.run import History
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.model.store import Leftover


@dataclass(frozen=True)
class Facts:
    """What the catalog, the journal and the settings say, as it was at `now`.

    `free_bytes`: room in the backup folder, None where it cannot be known. `configured`: the sources that the
    settings protect. `target`: the database that they mean, as far as it is known. `trouble`: why the store is not the one that was there.
    """

    now: datetime
    catalog: Catalog
    leftovers: tuple[Leftover, ...]
    free_bytes: int | None
    history: History
    configured: frozenset[SourceName]
    schedule: Schedule
    limits: Mapping[SourceName, Limits]
    target: Identity | None = None
    trouble: RefnetError | None = None

    @cached_property
    def own(self) -> Catalog:
        """The catalog without the artifacts of other databases."""
        return self.catalog.about(self.target)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """What the monitor says of it."""
        if self.trouble:
            return (another_store(self.trouble),)
        names = [name for name in SourceName if name in self.configured or self.catalog.of_source(name)]
        of_sources = (watch(s, self.own, self.history, self.limits[s], self.now) for s in names)
        store = watch_store(self.own, self.leftovers, (), self.free_bytes)
        return (*(check for checks in of_sources for check in checks), *store)
