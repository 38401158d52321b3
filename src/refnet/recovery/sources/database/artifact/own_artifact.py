"""RefNet's own artifact as something to restore: what it asks for, its load, its comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.model.restore_plan import Wanted
from refnet.recovery.model.source import Finding, OpenArtifact, Progress
from refnet.recovery.sources.database.artifact.sqlgz import (
    FOOTER_LENGTH,
    Kind,
    Reader,
    damaged,
    programs_major,
)
from refnet.recovery.sources.database.dump.pgdump import refuses_lz4
from refnet.recovery.sources.database.restore import foreign_views, server_facts
from refnet.recovery.sources.database.restore.load import load
from refnet.recovery.sources.database.restore.superuser_needs import Needs, needs
from refnet.recovery.sources.database.rows.compare import compare

_PIECE = 1 << 20


class Artifact:
    """An artifact that `held` can read.

    Raises NotAnArtifact where RefNet did not make the file, RefnetError where it is broken.
    """

    def __init__(self, held: OpenArtifact) -> None:
        self._held = held
        self.name = held.name
        self.reader = Reader(held.name, held.open)
        self.index = self.reader.index

    def wanted(self) -> Wanted:
        return server_facts.wanted(self.name, self.index, self._needs)

    @cached_property
    def _needs(self) -> Needs:
        return needs(*(self.reader.text(kind).decode("utf-8", "replace") for kind in (Kind.PRE, Kind.POST)))

    @property
    def roles(self) -> tuple[dict[str, Any], ...]:
        return self.index.roles

    def tools_major(self, server: int) -> int:
        """The major of the programs that a server of major `server` and the kept schema both need."""
        return programs_major(self.index, server)

    def check(self) -> None:
        """RefnetError where the file's bytes are not those that were written."""
        whole, within = self._digests()
        if within != self.reader.sha256:
            raise damaged(self.name, "its bytes do not match its footer")
        if self._held.manifest and whole != self._held.manifest.sha256:
            raise damaged(self.name, "its bytes do not match its manifest")

    def state(self, live: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:  # noqa: ARG002  # an artifact brings its own
        """The database-level state that the restored database gets. Its comment is sent as UTF-8."""
        comment = self.index.database["comment"]
        sent = comment and comment.encode("utf-8", "replace").decode()
        return {**self.index.database, "comment": sent}

    def load(self, target: Target, binaries: Binaries, jobs: int, progress: Progress) -> tuple[str, ...]:
        load(self.reader, target, binaries, jobs, progress)
        progress("views over foreign tables", 0, None)
        return (*self._notes(target), *foreign_views.refresh(target, self.index))

    def _notes(self, target: Target) -> Iterator[str]:
        with target.connect(READER_SETTINGS) as session:
            if refuses_lz4(session, self.reader.text(Kind.PRE)):
                yield "this server was built without lz4: what lz4 should compress, its default compresses"

    def compare(
        self, target: Target, binaries: Binaries, jobs: int, progress: Progress, *, content: bool
    ) -> tuple[Finding, ...]:
        return compare(target, self.index, binaries, jobs, progress, content=content)

    def _digests(self) -> tuple[str, bytes]:
        """SHA-256 of the whole file (hex), and of what stands before the footer."""
        with self._held.open() as file:
            left = file.seek(0, 2) - FOOTER_LENGTH
            file.seek(0)
            whole = hashlib.sha256()
            while left and (piece := file.read(min(_PIECE, left))):
                whole.update(piece)
                left -= len(piece)
            within = whole.digest()
            whole.update(file.read())
            return whole.hexdigest(), within
