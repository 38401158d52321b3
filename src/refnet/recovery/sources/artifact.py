"""Open the content of an artifact: of files, of a database, of roles, or a foreign dump."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Level
from refnet.recovery.model.source import Made, OpenArtifact, Proof
from refnet.recovery.model.source_name import Kind
from refnet.recovery.sources.proof_run import ProofOptions

if TYPE_CHECKING:
    from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
    from refnet.recovery.sources.database.artifact.own_artifact import DatabaseArtifact


class Artifact(ABC):
    """The content of an artifact. RefnetError (DAMAGED) where it is RefNet's, and cannot be read."""

    def __init__(self, stored: OpenArtifact) -> None:
        self.stored = stored

    @property
    def name(self) -> str:
        return self.stored.name

    def describe(self, _created: datetime, /) -> Made | None:
        """Return the values of a lost manifest; None if the content does not record them.

        The argument is when it was probably made, for content that does not record that.
        """
        return None

    def tables(self) -> tuple[dict[str, Any], ...]:
        """Return the recorded tables of a database, as in `Proof.rows`."""
        return ()

    @abstractmethod
    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check the content up to `level`; the store has checked `written`. Touch nothing live."""


def open_artifact(artifact: OpenArtifact) -> Artifact:
    """Return the content of `artifact`."""
    if artifact.source.kind is Kind.DATABASE:
        return open_database(artifact)
    if artifact.source.kind is Kind.GLOBALS:
        from refnet.recovery.sources.globals.globals_artifact import GlobalsArtifact

        return GlobalsArtifact(artifact)
    from refnet.recovery.sources.files.files_artifact import FilesArtifact

    return FilesArtifact(artifact)


def open_database(artifact: OpenArtifact) -> DatabaseArtifact | ForeignDump:
    """Return RefNet's own artifact of a database, or a foreign dump, which is not read yet."""
    from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
    from refnet.recovery.sources.database.artifact.own_artifact import DatabaseArtifact
    from refnet.recovery.sources.database.artifact.sqlgz import NotAnArtifact

    if artifact.path and artifact.path.is_dir():
        return ForeignDump(artifact)
    try:
        return DatabaseArtifact(artifact)
    except NotAnArtifact:
        return ForeignDump(artifact)


def open_own(artifact: OpenArtifact, lack: str, advice: str, code: Exit = Exit.FAILED) -> DatabaseArtifact:
    """Return RefNet's own artifact of a database; RefnetError for a foreign dump, with what it lacks and what to do."""
    from refnet.recovery.sources.database.artifact.own_artifact import DatabaseArtifact

    if isinstance(found := open_database(artifact), DatabaseArtifact):
        return found
    raise RefnetError(f"{artifact.name} is a foreign dump, {lack}", advice, code)
