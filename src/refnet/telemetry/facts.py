"""The state of the backups at one moment, from which metrics and messages are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from refnet.errors import RefnetError
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.copies import StoreState, watch_copies
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.monitoring import (
    Check,
    Limits,
    another_store,
    watch,
    watch_bare,
    watch_others,
    watch_previous,
    watch_store,
)
from refnet.recovery.model.run import History
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.model.store import Leftover, Unlisted
from refnet.recovery.model.store_check import StoreCheck, watch_checks


@dataclass(frozen=True)
class Facts:
    """The catalog, the journal and the settings at `now`."""

    now: datetime
    catalog: Catalog
    leftovers: tuple[Leftover, ...]
    unlisted: tuple[Unlisted, ...]
    #: Free space in the backup folder, in bytes; None if unknown.
    free_bytes: int | None
    history: History
    #: The sources that the settings protect.
    configured: frozenset[SourceName]
    schedule: Schedule
    limits: Mapping[SourceName, Limits]
    #: The database of each source, if it is known.
    targets: Mapping[SourceName, Identity | None] = field(default_factory=dict)
    #: Why the backup folder is not the store of earlier runs.
    trouble: RefnetError | None = None
    #: Since when the recorded previous versions of each source are kept; None: that cannot be read.
    previous: Mapping[SourceName, tuple[datetime, ...] | None] = field(default_factory=dict)
    #: How long one is kept.
    keep_previous: timedelta = timedelta(days=7)
    #: The remote stores of the settings.
    stores: tuple[StoreState, ...] = ()
    #: The last check of each remote store by its name: whether it refuses to delete; None: there is none.
    store_checks: Mapping[str, StoreCheck | None] = field(default_factory=dict)
    #: What is not encrypted, where the backup folder is to be; a name each.
    bare: tuple[str, ...] = ()

    @cached_property
    def own(self) -> Catalog:
        """The catalog without the artifacts of other databases."""
        own = self.catalog
        for source, target in self.targets.items():
            own = own.about(target, source)
        return own

    @cached_property
    def sources(self) -> tuple[SourceName, ...]:
        """The standard and the configured sources, in their order."""
        return tuple(self.limits)

    def checks(self, only: SourceName | None = None) -> tuple[Check, ...]:
        """Return the monitor's checks of the sources that are configured or have artifacts (or `only`), then the store.

        Artifacts of databases other than the configured one are counted; their own monitors judge them.
        """
        if self.trouble:
            return (another_store(self.trouble),)
        names = [s for s in self.sources if s == only or (only is None and self._is_protected(s))]
        of_sources = (watch(s, self.own, self.history, self.limits[s], self.now) for s in names)
        others = (
            watch_others(self.catalog, self.targets.get(SourceName.DATABASE))
            if SourceName.DATABASE in names
            else ()
        )
        store = watch_store(self.own, self.leftovers, self.unlisted, self.free_bytes)
        kept = (watch_previous(s, self.previous.get(s, ()), self.keep_previous, self.now) for s in names)
        return (
            *(check for checks in of_sources for check in checks),
            *(check for checks in kept for check in checks),
            *others,
            *watch_copies(self.stores, self.own, self.limits, self.now, only),
            *(() if only else (*watch_checks(self.store_checks, self.now), *watch_bare(self.bare))),
            *store,
        )

    def _is_protected(self, source: SourceName) -> bool:
        return source in self.configured or bool(self.own.of_source(source))
