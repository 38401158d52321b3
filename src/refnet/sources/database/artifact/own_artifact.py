"""RefNet's own artifact of a database: its content, its proof, its load, its comparison; and what opens it, or a foreign dump."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from refnet.catalog.artifact import Finding, Made, OpenArtifact, Progress, Proof
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Level
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.proof_run import NOTHING, ProofOptions
from refnet.sources.contents import Artifact
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.index import DIGEST, Index
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import LONGEST_SCHEMA, NotAnArtifact, Reader, damaged
from refnet.sources.database.dump.pgdump import refuses_lz4
from refnet.sources.database.plan.restore_facts import WantedBackup
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.proof.own_proof import Prover, rows_of
from refnet.sources.database.proof.row_digests import digested
from refnet.sources.database.restore import after_load, server_facts
from refnet.sources.database.restore.load import How, load
from refnet.sources.database.restore.own_schema import LateExtensions, SchemaNeeds, schema_needs
from refnet.sources.database.workers import Workers

#: Heads the contents of the first large object.
_FIRST_CONTENT = b"; Type: BLOBS; "


class DatabaseArtifact(Artifact):
    """An artifact of RefNet."""

    def __init__(self, stored: OpenArtifact) -> None:
        """Read footer and index. NotAnArtifact: a foreign file; RefnetError: RefNet's, but damaged."""
        super().__init__(stored)
        self.reader = Reader(stored.name, stored.open)
        self.index = self.reader.index
        #: What its load leaves for `after_swap`.
        self._late = LateExtensions()

    def describe(self, _created: datetime, /) -> Made:
        return self.index.made()

    def tables(self) -> tuple[dict[str, Any], ...]:
        return rows_of(self.index)

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        major = self.index.programs_major(int(self.index.server["version_num"]) // 10_000)
        binaries = options.binaries(major, server=level.rank > Level.INTACT.rank)
        if self.index.partial:
            options = replace(options, required=NOTHING)
        proof = Prover(self.reader, binaries, options).prove(level)
        return proof if self.stored.manifest and self.stored.manifest.compared else _uncounted(proof)

    def wanted(self) -> WantedBackup:
        return server_facts.wanted(self.name, self.index, self._needs)

    @cached_property
    def _needs(self) -> SchemaNeeds:
        texts = (self.reader.text(MemberKind.PRE), self.reader.text(MemberKind.POST), self._large_objects())
        return schema_needs(*(text.decode("utf-8", "replace") for text in texts))

    def _large_objects(self) -> bytes:
        """Return the SQL that creates the large objects, which pg_dump 17 and newer write before the rows."""
        found = bytearray()
        members = self.index.members_of(MemberKind.DATA) if self.index.large_objects else ()
        for piece in (piece for one in members if one.table is None for piece in self.reader.raw(one)):
            begin = max(0, len(found) - len(_FIRST_CONTENT))
            found += piece
            if _FIRST_CONTENT in found[begin:] or len(found) > LONGEST_SCHEMA:
                break
        return bytes(found)

    @property
    def roles(self) -> tuple[dict[str, Any], ...]:
        return self.index.roles

    def tools_major(self, server: int) -> int:
        """Major version of the programs for a server of major `server` and the stored schema."""
        return self.index.programs_major(server)

    def check(self) -> None:
        """Raise RefnetError (DAMAGED) if the file's bytes changed since they were written."""
        before_footer, complete = self.reader.digests()
        if before_footer != self.reader.sha256:
            raise damaged(self.name, "its bytes do not match its footer")
        if self.stored.manifest and complete.hex() != self.stored.manifest.sha256:
            raise damaged(self.name, "its bytes do not match its manifest")

    def state(self, live: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:  # noqa: ARG002  # a foreign dump's
        """Return the state of the database itself. Its comment is sent as UTF-8."""
        comment = self.index.database["comment"]
        sent = comment and comment.encode("utf-8", "replace").decode()
        return {**self.index.database, "comment": sent}

    def load(self, target: Target, workers: Workers, again: Callable[[], None]) -> tuple[str, ...]:
        """Load it into the empty database `target`; return notes. `again` empties that for another attempt."""
        left_out = load(self.reader, target, workers, How(late=self._late), again)
        workers.progress("views over foreign tables", 0, None)
        notes = (*self._notes(target), *after_load.refresh_foreign_views(target, self.index))
        return (*map(str, left_out), *notes)

    def _notes(self, target: Target) -> Iterator[str]:
        with target.connect(READER_SETTINGS) as session:
            if refuses_lz4(session, self.reader.text(MemberKind.PRE)):
                yield "this server was built without lz4: it compresses those columns by its default"

    def with_digests(self) -> Reader:
        """The reader, its index completed by digests from a proof, if any."""
        reader, recorded = copy(self.reader), self.stored.row_digests
        if not self.index.digests and len(recorded) == len(self.index.tables) * DIGEST:
            reader.index = self.index.with_digests(recorded)
        return reader

    def digested(self, jobs: int, progress: Progress) -> Index:
        """The index with the digests of all tables."""
        return digested(self.reader, self.stored.row_digests, jobs, progress)

    def compare(self, target: Target, workers: Workers, *, content: bool) -> tuple[Finding, ...]:
        """Compare every table, large object and sequence of `target`; return a finding for each table that the index names.

        content: by digests of the rows: those of the proof, else of the file, against those of the rows that are read
            from `target`; otherwise only by their number.
        """
        index = self.digested(workers.jobs, workers.progress) if content else self.index
        return compare(target, self._late.part(index, late=False), workers, content=content)

    @property
    def is_late(self) -> bool:
        """Whether `after_swap` creates something; known after `load`."""
        return bool(self._late.names)

    def after_swap(self, target: Target, workers: Workers) -> tuple[str, ...]:
        """Create in `target` extensions that require the database's final name; return notes."""
        if not self._late.names:
            return ()
        index = self.digested(workers.jobs, workers.progress)
        return after_load.create_late_extensions(self.reader, target, workers, self._late, index)


def _uncounted(proof: Proof) -> Proof:
    """`proof` of an artifact with uncounted rows: a lost row also breaks a foreign key."""
    if not any(what.startswith("foreign key ") for what in proof.faulty):
        return proof
    findings = (
        replace(one, fault=Fault.ENVIRONMENT, reason=f"{one.reason}; its rows were not counted in the source")
        if one.what in proof.faulty
        else one
        for one in proof.findings
    )
    return replace(proof, level=Level.RESTORED, findings=tuple(findings), row_digests="")


def open_database(artifact: OpenArtifact) -> DatabaseArtifact | ForeignDump:
    """Return RefNet's own artifact of a database, or a foreign dump, which is not read yet."""
    if artifact.path and artifact.path.is_dir():
        return ForeignDump(artifact)
    try:
        return DatabaseArtifact(artifact)
    except NotAnArtifact:
        return ForeignDump(artifact)


def open_own(artifact: OpenArtifact, lack: str, advice: str, code: Exit = Exit.FAILED) -> DatabaseArtifact:
    """RefNet's own artifact of a database; RefnetError for a foreign dump, with `lack` and `advice`."""
    if isinstance(found := open_database(artifact), DatabaseArtifact):
        return found
    raise RefnetError(f"{artifact.name} is a foreign dump, {lack}", advice, code)
