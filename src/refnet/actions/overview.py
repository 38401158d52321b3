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
    """Maker of the overview of all sources or `only` one; rereads only changes.

    A database that does not respond costs 3 s, and then only its name is known. An unreadable store or journal is
    `unknown`, never ok; a folder that is not the store of earlier runs is critical. RefnetError: an invalid setting.
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
