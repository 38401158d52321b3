"""Artifacts of SQLite databases: the compressed file of one snapshot, which `gunzip` turns back into a database."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

from isal import isal_zlib

from refnet.catalog.artifact import Finding, Made, Progress, Proof, Turn, at_once, silent, stopped_by
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import SOURCE_ROWS, Compared, Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.core.files import explained, forget_cached, open_file, opened, write_all
from refnet.core.formatting import size as sized
from refnet.proof_run import ProofOptions, ProofRun, Required
from refnet.sources.contents import Artifact
from refnet.sources.sqlite.box import Box, SqliteContents, box, database_file

_BLOCK, _LEVEL, _SPARE = 1 << 20, 2, 64 << 20
#: The first bytes of a database; a new one may be empty.
MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class SqliteMaker:
    """Makes artifacts of a live database."""

    name: SourceName
    path: Path
    #: The folder for private folders.
    base: Path
    digest_up_to: int = 0
    now: Callable[[], datetime] = partial(datetime.now, UTC)

    def digesting(self, up_to: int) -> Self:
        return replace(self, digest_up_to=up_to)

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        turn()
        progress("snapshot", 0, None)
        found, created = database_file(self.path), self.now()
        digests = found.st_size <= self.digest_up_to
        with box(self.base, str(self.path), self.path) as own:
            contents = own.live(self.path, copy=True, digests=digests)
            with explained(own.database):
                raw = _compress(own.database, out, progress)
        details = {"raw_bytes": raw, "path": str(self.path), "mode": f"{found.st_mode & 0o666:04o}"}
        unread = [one.name for one in contents.tables if not one.sha256]
        return Made(
            created, contents.totals | details, contents.to_json().encode(),
            tuple(f"{name}: a row is too large to be compared" for name in unread),
            compared=Compared.DIGESTED if contents.digested and not unread else Compared.COUNTED,
        )  # fmt: skip


def _compress(database: Path, out: BinaryIO, progress: Progress) -> int:
    """Write the compressed file; return its uncompressed size."""
    deflater = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, 31)  # gzip
    with open(open_file(database), "rb") as file:  # noqa: PTH123  # a handle
        total = os.fstat(file.fileno()).st_size
        while block := file.read(_BLOCK):
            out.write(deflater.compress(block))
            progress("compress", file.tell(), total)
        out.write(deflater.flush())
        return file.tell()


class SqliteArtifact(Artifact):
    """An SQLite database. The file may be forged: only a child parses it."""

    def contents(self) -> SqliteContents | None:
        """Its list of tables, or None."""
        text = self.stored.files()
        try:
            return None if text is None else SqliteContents.from_json(text)
        except ValueError as error:
            raise self.damaged(error) from None

    def describe(self, created: datetime, /) -> Made | None:
        found = self.contents()
        return Made(created, found.totals, self.stored.files()) if found else None

    def blocks(self) -> Iterator[bytes]:
        """Decompress it up to the size in its header; RefnetError (DAMAGED) if damaged or not a database."""
        size, most = 0, 100
        try:
            with self.stored.open() as file, gzip.GzipFile(fileobj=file) as stream:
                while block := stream.read(_BLOCK if size else 100):
                    most, size = most if size else _length(block), size + len(block)
                    if size > most:
                        break
                    yield block
        except (OSError, EOFError, zlib.error, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # gzip's own have no number
                raise
            raise self.damaged(error) from None
        if size != most:
            raise self.damaged(f"it is {'longer' if size > most else 'shorter'} than its header says")

    def unpack(self, into: Path | str, at: int | None = None, mode: int = 0o644) -> int:
        """Write the database to the new file `into`; return its size. RefnetError without enough space."""
        size = 0
        with opened(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, at) as handle:
            os.fchmod(handle, mode)
            system = os.fstatvfs(handle)
            for block in self.blocks():
                if not size and (need := _length(block) + _SPARE) > system.f_bavail * system.f_frsize:
                    raise RefnetError(
                        f"{self.name} needs {sized(need)} in {into}", "Free some space there, then retry."
                    )
                write_all(handle, block)
                size += len(block)
        return size

    def check_written(self, handle: int) -> None:
        """Reread the open file from the disk; RefnetError if it differs from the database."""
        with open(os.dup(handle), "rb") as file:  # noqa: PTH123  # a handle
            forget_cached(file)
            if not all(file.read(len(block)) == block for block in self.blocks()):
                raise RefnetError(
                    f"the copy of {self.name}: data read back differ from the data written",
                    "Check the disk, then retry.",
                )

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        run = ProofRun(progress=options.progress)
        try:
            if level.rank > Level.INTACT.rank:
                with box(options.base, self.name) as own:
                    self._prove(run, level, own, options.required)
            else:
                with run.phases.phase("every byte reads"):
                    for _ in self.blocks():
                        pass
                run.level = Level.INTACT
                run.add(Finding(run.phases.last, Outcome.PASSED))
        except (RefnetError, OSError) as error:
            run.add(stopped_by(next(reversed(run.phases.seconds), "a private folder"), error))
        return run.result(level)

    def _prove(self, run: ProofRun, level: Level, own: Box, required: Required) -> None:
        run.missing_walls = own.way.walls.missing
        with run.phases.phase("unpack"):
            size = self.unpack(own.database)
            run.level = Level.INTACT
        with run.phases.phase("integrity_check"):
            found = own.check(size)
            said = "; ".join(found.wrong[:3])
            run.add(Finding("integrity_check", Outcome.FAILED if said else Outcome.PASSED, said))
            run.add(*(Finding("integrity_check", Outcome.UNVERIFIED, one) for one in found.unchecked))
        if run.failed:
            return
        contents, run.level = SqliteContents(found.tables, found.schema), Level.RESTORED
        run.add(*required.check({("main", one.name): () for one in contents.tables}, None))
        run.rows = tuple({"name": one.name, "rows": one.rows, "bytes": 0} for one in contents.tables)
        if level is Level.PROVEN:
            with run.phases.phase("compare"):
                run.add(*self._compared(contents))
                pairs = (one.rpartition(": ") for one in found.keys)
                run.add(*(Finding(key, Outcome.UNVERIFIED, why, fault=Fault.SOURCE) for key, _, why in pairs))
            if not run.failed and self.stored.files() is not None:
                run.level = Level.PROVEN

    def _compared(self, found: SqliteContents) -> Iterator[Finding]:
        """Compare the unpacked database with the recorded list."""
        recorded, manifest = self.contents(), self.stored.manifest
        what = SOURCE_ROWS if manifest and manifest.compared is Compared.DIGESTED else "rows of every table"
        if recorded is None:
            yield Finding(what, Outcome.UNVERIFIED, "it has no list of tables to be compared with")
            return
        wrong = [f"{name}: {why}" for name, _, why in recorded.differences(found)]
        yield Finding(what, Outcome.FAILED if wrong else Outcome.PASSED, "; ".join(wrong[:3]))


def _length(head: bytes) -> int:
    """Size of a database from its header; ValueError if it is not one."""
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
    page = 65536 if page == 1 else page
    if head[:16] != MAGIC or page < 512 or page & (page - 1):
        raise ValueError("not an SQLite database")
    return page * pages
