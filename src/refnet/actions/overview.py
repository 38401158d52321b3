"""The overview of all sources, for the page `/` and `refnet monitor --json`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from refnet import wiring
from refnet.actions.facts import facts_of
from refnet.catalog.identity import Whose
from refnet.catalog.source_name import SourceName
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.telemetry.facts import Facts
from refnet.telemetry.overview import Overview, overview, unreadable


def overview_of(
    settings: Settings, now: Callable[[], datetime] = utc_now, only: SourceName | None = None
) -> Callable[[], Overview]:
    """Return a function that makes the overview, or that of one source; it reads again only what has changed.

    A database that does not answer costs 3 s, and only its name is known then. A store or a journal that cannot be read
    is `unknown`, never ok; a folder that is not the store that was there is critical. RefnetError: a wrong setting.
    """
    asked = only in {None, SourceName.DATABASE} and SourceName.DATABASE in wiring.configured(settings)
    read: Callable[[Whose | None], Facts] | None = None

    def look() -> Overview:
        nonlocal read
        target = source_of(settings, SourceName.DATABASE).whose() if asked else None
        try:
            read = read or facts_of(settings, now)
            return overview(read(target), only)
        except RefnetError as error:
            return unreadable(now(), error)

    return look
