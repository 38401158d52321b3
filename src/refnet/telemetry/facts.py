"""The state of the backups at one moment, from which metrics and messages are made."""

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
    """The catalog, the journal and the settings at `now`."""

    now: datetime
    catalog: Catalog
    leftovers: tuple[Leftover, ...]
    #: Free space in the backup folder, in bytes; None if unknown.
    free_bytes: int | None
    history: History
    #: The sources that the settings protect.
    configured: frozenset[SourceName]
    schedule: Schedule
    limits: Mapping[SourceName, Limits]
    #: The configured database, if it is known.
    target: Identity | None = None
    #: Why the backup folder is not the store of earlier runs.
    trouble: RefnetError | None = None

    @cached_property
    def own(self) -> Catalog:
        """The catalog without the artifacts of other databases."""
        return self.catalog.about(self.target)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The monitor's checks."""
        if self.trouble:
            return (another_store(self.trouble),)
        names = [name for name in SourceName if name in self.configured or self.catalog.of_source(name)]
        of_sources = (watch(s, self.own, self.history, self.limits[s], self.now) for s in names)
        store = watch_store(self.own, self.leftovers, (), self.free_bytes)
        return (*(check for checks in of_sources for check in checks), *store)
