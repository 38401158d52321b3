"""An artifact of the database as something to restore, whoever made it."""

from __future__ import annotations

from pathlib import Path

from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
from refnet.recovery.sources.database.artifact.own_artifact import Artifact
from refnet.recovery.sources.database.artifact.sqlgz import NotAnArtifact


def opened(held: OpenArtifact) -> Artifact | ForeignDump:
    """RefNet's own artifact, or a dump that RefNet did not make."""
    try:
        return Artifact(held)
    except NotAnArtifact:
        return ForeignDump(held.path or Path(held.name), held)
