"""monitor: is everything protected?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.monitoring import (
    Check,
    Limits,
    Status,
    another_store,
    watch,
    watch_others,
    watch_store,
)
from refnet.recovery.model.run import History
from refnet.recovery.stores.local import LocalStore


def monitor(
    store: LocalStore,
    journal: Callable[[], History],
    limits: Mapping[SourceName, Limits],
    configured: Collection[SourceName],
    now: datetime,
    *,
    target: Identity | None = None,
) -> tuple[Check, ...]:
    """Check every source that is configured or of which there are artifacts, then the store.

    A store or a journal that cannot be read is `unknown`, never ok; a folder that is not the store that was there is
    critical. `target`: the database that the settings mean; those
    of others in the store are counted and judged by their own monitors.
    """
    try:
        if wrong := store.trouble():
            return (another_store(wrong),)
        history = journal()
        everything = Catalog.of(store.entries())
        catalog = everything.about(target)
        whole = watch_store(catalog, store.leftovers(), store.unlisted(), store.free_bytes())
    except RefnetError as error:
        return (Check(None, "the store", Status.UNKNOWN, f"{error.message}. {error.hint}"),)
    sources = [name for name in SourceName if name in configured or catalog.of_source(name)]
    return (
        *(check for name in sources for check in watch(name, catalog, history, limits[name], now)),
        *(watch_others(everything, target) if SourceName.DATABASE in sources else ()),
        *whole,
    )
