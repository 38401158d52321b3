"""Open an artifact of a database for a restore, RefNet's own or a foreign dump."""

from __future__ import annotations

from pathlib import Path

from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
from refnet.recovery.sources.database.artifact.own_artifact import Artifact
from refnet.recovery.sources.database.artifact.sqlgz import NotAnArtifact


def opened(artifact: OpenArtifact) -> Artifact | ForeignDump:
    """Return RefNet's own artifact, or a foreign dump."""
    try:
        return Artifact(artifact)
    except NotAnArtifact:
        return ForeignDump(artifact.path or Path(artifact.name), artifact)
