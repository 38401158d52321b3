"""Opens the content of an artifact of a database, or of a foreign dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.sources.database.artifact.foreign_dump import ForeignDump
    from refnet.sources.database.artifact.own_artifact import DatabaseArtifact


def open_database(artifact: OpenArtifact) -> DatabaseArtifact | ForeignDump:
    """Return RefNet's own artifact of a database, or a foreign dump, which is not read yet."""
    from refnet.sources.database.artifact.foreign_dump import ForeignDump
    from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
    from refnet.sources.database.artifact.sqlgz import NotAnArtifact

    if artifact.path and artifact.path.is_dir():
        return ForeignDump(artifact)
    try:
        return DatabaseArtifact(artifact)
    except NotAnArtifact:
        return ForeignDump(artifact)


def open_own(artifact: OpenArtifact, lack: str, advice: str, code: Exit = Exit.FAILED) -> DatabaseArtifact:
    """Return RefNet's own artifact of a database; RefnetError for a foreign dump, with what it lacks and what to do."""
    from refnet.sources.database.artifact.own_artifact import DatabaseArtifact

    if isinstance(found := open_database(artifact), DatabaseArtifact):
        return found
    raise RefnetError(f"{artifact.name} is a foreign dump, {lack}", advice, code)
