"""An artifact of the database as something to restore, whoever made it."""

from __future__ import annotations

from pathlib import Path

from refnet.recovery.model.source import Held
from refnet.recovery.sources.database.artifact import Artifact
from refnet.recovery.sources.database.foreign import ForeignDump
from refnet.recovery.sources.database.sqlgz import Foreign


def opened(held: Held) -> Artifact | ForeignDump:
    """RefNet's own artifact, or a dump that RefNet did not make."""
    try:
        return Artifact(held)
    except Foreign:
        return ForeignDump(held.path or Path(held.name), held)
