"""What is known of the backups at one moment: the ground of metrics and messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.run import History
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.model.store import Leftover


@dataclass(frozen=True)
class Facts:
    """What the catalog, the journal and the settings say, as it was at `now`.

    `free_bytes`: room in the backup folder, None where it cannot be known. `configured`: the sources that the
    settings protect.
    """

    now: datetime
    catalog: Catalog
    leftovers: tuple[Leftover, ...]
    free_bytes: int | None
    history: History
    configured: frozenset[SourceName]
    schedule: Schedule
